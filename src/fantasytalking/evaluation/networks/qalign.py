"""Q-Align (Wu et al. 2023, arXiv 2312.17090): quality and aesthetics of images by a language model that names one of five levels.

The network, mPLUG-Owl2 with 8 billion parameters, is not part of transformers; the package pyiqa (PolyForm-Noncommercial) contains a
copy of its code and is used where it is installed. Code from the model hub is never run. A GPU with 20 GB is needed.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.errors import CheckpointError, MissingDependencyError, SettingsError
from fantasytalking.evaluation.networks.metric_weights import require
from fantasytalking.evaluation.networks.network_inputs import CLIP_MEAN, check_images

__all__ = ["KEY", "LEVELS", "QAlign", "level_score", "load", "square"]

KEY = "qalign"
LEVELS = ("excellent", "good", "fair", "poor", "bad")
TASKS = ("quality", "aesthetics")


def level_score(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Expected level: sum_i p_i v_i with p the softmax over the five words and v = 5, 4, 3, 2, 1.

    Args:
        logits: [..., 5], in the order of `LEVELS`.

    Returns:
        [...], 1 to 5.
    """
    logits = np.asarray(logits, np.float64)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray((weights / weights.sum(-1, keepdims=True)) @ np.arange(5.0, 0.0, -1.0))


def square(image: NDArray[np.uint8]) -> Image.Image:
    """Centre an image in a square of CLIP's mean colour, as the model was trained."""
    height, width = image.shape[:2]
    side = max(height, width)
    canvas = Image.new("RGB", (side, side), tuple(int(value * 255) for value in CLIP_MEAN))
    canvas.paste(Image.fromarray(image), ((side - width) // 2, (side - height) // 2))
    return canvas


class QAlign:
    """Scores of images.

    Args:
        logits: Image and task -> logits of the five words [5].
    """

    def __init__(self, logits: Callable[[Image.Image, str], NDArray[np.floating]]) -> None:
        self.logits = logits

    def scores(self, images: NDArray[np.uint8], task: str = "quality") -> NDArray[np.float32]:
        """Score images.

        Args:
            images: uint8 [N, H, W, 3], RGB.
            task: ``quality`` (IQA) or ``aesthetics`` (ASE).

        Returns:
            float32 [N], 1 to 5.

        Raises:
            ImageError: `images` has another type or shape.
            SettingsError: There is no such task.
        """
        check_images(images)
        if task not in TASKS:
            raise SettingsError(f"Q-Align scores {' or '.join(TASKS)}, not '{task}'.")
        return np.array([level_score(self.logits(square(image), task)) for image in images], np.float32)


def load(path: Path | None = None, device: str | torch.device = "cpu") -> QAlign:
    """Load Q-Align with its published weights, through pyiqa's copy of its code.

    Args:
        path: Folder of the repository; None takes the verified one in the cache.
        device: Device to run on.

    Raises:
        MissingDependencyError: pyiqa is not installed.
        CheckpointError: The folder is missing, incomplete, or differs from the listed one.
    """
    try:
        # By name: its licence does not allow it to be a requirement of this project.
        code = importlib.import_module("pyiqa.archs.q_align.modeling_mplug_owl2")
    except ImportError as error:
        raise MissingDependencyError(
            f"Q-Align (IQA and ASE) needs the package pyiqa, which cannot be imported ({error}); its licence is for non-commercial use. "
            "Install it with: pip install pyiqa, or leave IQA and ASE out."
        ) from error
    _restore_mask_inversion(importlib.import_module("pyiqa.archs.q_align.visual_encoder").MplugOwlVisualAbstractorModel)
    path = path or require(KEY)
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.float16
    try:
        with _taken_from_folder(code, path):
            network = (
                code.MPLUGOwl2LlamaForCausalLM.from_pretrained(path, local_files_only=True, dtype=dtype)
                .eval()
                .to(device)
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} cannot be read as Q-Align's model ({error}); delete it and fetch it again."
        ) from error

    network.weight_tensor = torch.arange(5.0, 0.0, -1.0).to(device, dtype)  # pyiqa's is always half precision

    @torch.inference_mode()
    def logits(image: Image.Image, task: str) -> NDArray[np.floating]:
        pixels = network.image_processor.preprocess(image, return_tensors="pt")["pixel_values"].to(device, dtype)
        found = network.score(images=None, image_tensor=pixels, task_=task, input_="image", return_dict=True)
        return np.asarray(found["logits"][0].float().cpu().numpy())

    return QAlign(logits)


def _restore_mask_inversion(abstractor: Any) -> None:
    """Restore a method of models that pyiqa 0.1.16 calls and transformers 5.23 no longer has."""

    def invert(self: Any, mask: torch.Tensor) -> torch.Tensor:
        mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        return (1 - mask.to(self.dtype)) * torch.finfo(self.dtype).min

    if not hasattr(abstractor, "invert_attention_mask"):
        abstractor.invert_attention_mask = invert


@contextlib.contextmanager
def _taken_from_folder(code: Any, path: Path) -> Iterator[None]:
    """Lets pyiqa's constructor, which asks the hub for tokenizer and image processor by name, take them from the verified folder."""
    kept = {name: getattr(code, name) for name in ("LlamaTokenizer", "CLIPImageProcessor")}
    try:
        for name, original in kept.items():
            take = staticmethod(
                lambda *_, original=original, **__: original.from_pretrained(path, local_files_only=True)
            )
            setattr(code, name, type(name, (), {"from_pretrained": take}))
        yield
    finally:
        for name, original in kept.items():
            setattr(code, name, original)
