"""Autoencoders: Wan's video VAE and the embedded model's reference-guided one, behind one interface.

The names below are imported when they are first used: the codec and the warp need no diffusers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fantasytalking.system.lazy_exports import lazy_exports

_INTERFACE = ("Beginning", "Reference", "VideoAutoencoder", "from_uint8", "to_uint8")
_HOMES = dict.fromkeys(_INTERFACE, "fantasytalking.autoencoder.interface") | {
    "MeshAutoencoder": "fantasytalking.autoencoder.mesh_autoencoder",
    "WanAutoencoder": "fantasytalking.autoencoder.wan_autoencoder",
}

__all__ = [
    "Beginning",
    "MeshAutoencoder",
    "Reference",
    "VideoAutoencoder",
    "WanAutoencoder",
    "from_uint8",
    "to_uint8",
]

if TYPE_CHECKING:
    from fantasytalking.autoencoder.interface import (
        Beginning,
        Reference,
        VideoAutoencoder,
        from_uint8,
        to_uint8,
    )
    from fantasytalking.autoencoder.mesh_autoencoder import MeshAutoencoder
    from fantasytalking.autoencoder.wan_autoencoder import WanAutoencoder

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
