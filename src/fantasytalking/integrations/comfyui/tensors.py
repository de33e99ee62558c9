"""Pictures and sound between ComfyUI and the pipeline.

Dimensions: B pictures, H height, W width, c channels, n samples.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.errors import AudioError, ImageError, OutOfMemory
from fantasytalking.media.audio import Audio
from fantasytalking.media.python_inputs import audio_of
from fantasytalking.system.machine import host_memory

__all__ = ["audio_from", "audio_to", "check_room", "frames_from", "picture_from", "source_of", "take"]

_BYTES = 4 * 3
"""Bytes of a pixel in ComfyUI: three float32."""


def picture_from(image: Tensor) -> NDArray[np.uint8]:
    """The portrait, uint8 [H, W, c], of an IMAGE.

    Args:
        image: [B, H, W, c] in 0..1.

    Raises:
        ImageError: It does not hold exactly one picture.
    """
    if image.ndim != 4 or len(image) != 1:
        count = len(image) if image.ndim == 4 else "no"
        raise ImageError(f"The portrait is one picture, and this IMAGE holds {count}; choose one of them.")
    return _bytes_of(image[0])


def frames_from(images: Tensor, index: int) -> NDArray[np.uint8]:
    """One frame, uint8 [H, W, 3], of an IMAGE.

    Args:
        images: [B, H, W, c] in 0..1.
        index: Number of the frame.
    """
    return _bytes_of(images[index, ..., :3])


def _bytes_of(picture: Tensor) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = (picture.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy()
    return array


def audio_from(audio: Mapping[str, Any]) -> tuple[NDArray[np.float32], int]:
    """Mono samples [n] and their rate, of an AUDIO.

    Args:
        audio: `waveform` [1, c, n] and `sample_rate`.

    Raises:
        AudioError: It does not hold exactly one sound.
    """
    waveform = audio["waveform"]
    if waveform.ndim != 3 or len(waveform) != 1:
        count = len(waveform) if waveform.ndim == 3 else "no"
        raise AudioError(f"The speech is one sound, and this AUDIO holds {count}; choose one of them.")
    return audio_of((waveform[0].float(), audio["sample_rate"]))


def audio_to(audio: Audio) -> dict[str, Any]:
    """An AUDIO of a sound."""
    samples = torch.from_numpy(np.array(audio.samples, np.float32))
    return {"waveform": samples[None, None], "sample_rate": audio.sample_rate}


def check_room(count: int, size: tuple[int, int]) -> None:
    """Check that the frames of a video fit into main memory as ComfyUI holds them.

    Args:
        count: Number of frames.
        size: (H, W).

    Raises:
        OutOfMemory: They do not.
    """
    needed, there = count * size[0] * size[1] * _BYTES, host_memory()
    if needed > there:
        raise OutOfMemory(
            f"{count} frames of {size[1]} x {size[0]} pixels take {needed / 2**30:.1f} GiB as IMAGE, and {there / 2**30:.1f} GiB are free; "
            "use the node 'FantasyTalking long video', which writes them to a file."
        )


def take(video: Any, size: tuple[int, int]) -> Tensor:
    """The frames of a video as an IMAGE, float32 [F, H, W, 3] in 0..1.

    Args:
        video: Gives frames, uint8 [H, W, 3], when it is iterated, and knows their number.
        size: (H, W).
    """
    images = torch.empty((len(video), *size, 3), dtype=torch.float32)
    count = 0
    for frame in video:
        images[count] = torch.from_numpy(np.array(frame)).to(torch.float32) / 255
        count += 1
    return images[:count]


def source_of(video: Any, folder: Path) -> Path:
    """The file of a VIDEO: its own where all of it is meant, else one that ComfyUI writes to a folder of temporary files.

    Args:
        video: A VIDEO of ComfyUI.
        folder: Folder for the file.
    """
    from fantasytalking.pipeline.face_in_footage import open_footage

    source = video.get_stream_source()
    if isinstance(source, str) and abs(open_footage(source).seconds - video.get_duration()) < 0.1:
        return Path(source)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"fantasytalking-{uuid.uuid4().hex}.mp4"
    video.save_to(str(target))
    return target
