"""The bundled networks behind the proxies, loaded once, and the digests that identify them in a report."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.evaluation.footage import Footage, file_digest
from fantasytalking.perception.mobilenet import WEIGHTS as MOBILENET
from fantasytalking.perception.mobilenet import MobileNetV2, load
from fantasytalking.perception.networks.network_runner import FOLDER
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.system.startup import importing_frameworks

__all__ = ["bundled_digest", "expressions", "mesh_digest", "mobilenet", "mobilenet_digest"]

_VAE = embedded_folder() / "vae"


@functools.cache
def mobilenet() -> MobileNetV2:
    """The bundled MobileNetV2, on the CPU."""
    return load(MOBILENET)


@functools.cache
def bundled_digest(file: str) -> dict[str, str]:
    """File name -> SHA-256 of a file in the folder of bundled networks."""
    return {file: file_digest(FOLDER / file)}


def mobilenet_digest() -> dict[str, str]:
    """File name -> SHA-256 of the bundled MobileNetV2."""
    return bundled_digest(MOBILENET.name)


@functools.cache
def mesh_digest() -> dict[str, str]:
    """Name -> SHA-256 of the face mesh network and of the expression basis."""
    return bundled_digest("face_landmark.tflite") | {
        "expression basis": file_digest(_VAE / "diffusion_pytorch_model.safetensors")
    }


@functools.cache
def _codec() -> MeshCodec:
    # brings diffusers, which most metrics do not need
    with importing_frameworks():
        from fantasytalking.autoencoder.mesh_autoencoder import MeshAutoencoder

    return MeshAutoencoder.from_pretrained(_VAE).codec  # type: ignore[no-any-return]


@torch.no_grad()
def expressions(footage: Footage) -> NDArray[np.float32]:
    """Expression coefficients [n, 24] of the frames that show the face, in units of their mean deviation over the training set.

    They are the displacement of the pose-free face mesh from a mean face, on the principal components of the embedded model. Unlike
    those of a 3D morphable model, they contain something of the face's own shape.

    Raises:
        FaceError: No frame shows a face.
    """
    codec = _codec()
    points = torch.from_numpy(footage.track[0][footage.seen])
    # One unit for all: with a unit each, the mesh's noise in the smallest would count as much as a smile.
    unit = codec.coefficient_std.square().mean().sqrt()
    return np.asarray((codec.describe(points).expression / unit).numpy(), np.float32)
