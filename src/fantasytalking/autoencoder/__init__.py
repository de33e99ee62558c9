"""Autoencoders: Wan's video VAE and the embedded model's reference-guided one, behind one interface."""

from fantasytalking.autoencoder.interface import Beginning, Reference, VideoAutoencoder, from_uint8, to_uint8
from fantasytalking.autoencoder.mesh_autoencoder import MeshAutoencoder
from fantasytalking.autoencoder.wan_autoencoder import WanAutoencoder

__all__ = ["Beginning", "MeshAutoencoder", "Reference", "VideoAutoencoder", "WanAutoencoder", "from_uint8", "to_uint8"]
