"""Reading of weights without running code, and checking and batching of images, for all networks."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from fantasytalking.errors import CheckpointError, ImageError

__all__ = ["batches", "check_images", "fill", "read_folder", "read_state", "to_planes"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def read_state(path: Path, inside: str | None = None) -> dict[str, Tensor]:
    """Read the named tensors of a file; a pickle that would run code is refused.

    Args:
        path: A torch file or safetensors.
        inside: Name of the dict of tensors in the file; None where the file is that dict.

    Raises:
        CheckpointError: The file cannot be read or contains something else.
    """
    try:
        state: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        state = state[inside] if inside is not None else state
        named = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:
        # of torch's several lines about a foreign file, one advises to read it in the way that runs code
        reason = "it holds something else" if isinstance(error, pickle.UnpicklingError) else error
        raise CheckpointError(
            f"{path} cannot be read as plain tensors ({reason}); delete it and fetch it again."
        ) from error
    if not named:
        raise CheckpointError(f"{path} contains no tensors; delete it and fetch it again.")
    return named


def fill(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load weights into a network; every missing, unexpected or misshapen one is an error.

    Raises:
        CheckpointError: The weights do not fit.
    """
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {type(network).__name__}: {error}") from error
    network.eval().requires_grad_(False)


def read_folder(kind: Any, path: Path, what: str, **options: Any) -> Any:
    """Load a network of transformers from a folder, never from the hub.

    Args:
        kind: Class of the network.
        path: The folder.
        what: Name of the network, for the message.
        options: Further arguments of `from_pretrained`.

    Raises:
        CheckpointError: The folder cannot be read.
    """
    try:
        return kind.from_pretrained(path, local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} cannot be read as {what} of transformers ({error}); delete it and fetch it again."
        ) from error


def check_images(images: NDArray[np.uint8], what: str = "pictures", axes: str = "N, H, W, 3") -> None:
    """Check that an array is a stack of RGB images.

    Raises:
        ImageError: It has another type or shape, or is empty.
    """
    ndim = axes.count(",") + 1
    if not (
        isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == ndim and images.shape[-1] == 3
    ):
        given = f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}"
        raise ImageError(f"The {what} are taken as uint8 [{axes}], RGB, not {given}.")
    if images.size == 0:
        raise ImageError(f"The {what} are empty: {images.shape}; give at least one.")


def to_planes(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Convert uint8 [N, H, W, 3] to float32 [N, 3, H, W] on the device, still 0..255."""
    return torch.from_numpy(images.copy()).to(device).permute(0, 3, 1, 2).float()


def batches(images: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    """Slices of at most `size` images."""
    for start in range(0, len(images), max(size, 1)):
        yield images[start : start + max(size, 1)]
