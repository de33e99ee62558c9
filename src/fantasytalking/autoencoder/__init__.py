"""Autoencoders: Wan's video VAE and the embedded model's reference-guided one, behind one interface."""

from fantasytalking.autoencoder.base import Beginning, Reference, VideoAutoencoder, from_uint8, to_uint8
from fantasytalking.autoencoder.mesh import MeshAutoencoder
from fantasytalking.autoencoder.wan import WanAutoencoder

__all__ = ["Beginning", "MeshAutoencoder", "Reference", "VideoAutoencoder", "WanAutoencoder", "from_uint8", "to_uint8"]
