"""The file that a live session is saved to: tensors of safetensors, and a digest of what they belong to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fantasytalking.errors import InputError, OutputError
from fantasytalking.system.files import atomic_path, full_disk_error

__all__ = ["load_live_state", "save_live_state"]

_VIDEO, _SPEECH = "video.", "speech."


def save_live_state(
    path: str | os.PathLike[str], video: dict[str, Tensor], speech: dict[str, NDArray[Any]], digest: str
) -> None:
    """Write the state of a session.

    Args:
        path: safetensors file; an existing one is replaced.
        video: State of the video.
        speech: State of the speech.
        digest: Of what the session was made with.

    Raises:
        OutputError: It cannot be written.
    """
    target = Path(path).expanduser()
    tensors = {_VIDEO + name: value.contiguous() for name, value in video.items()}
    tensors |= {_SPEECH + name: torch.from_numpy(np.array(value)) for name, value in speech.items()}
    try:
        with atomic_path(target, overwrite=True) as temporary, full_disk_error(target, Exception):
            save_file(tensors, temporary, {"kind": "fantasytalking live session", "digest": digest})
    except OSError as error:
        raise OutputError(f"The session cannot be saved to '{target}': {error.strerror or error}.") from error


def load_live_state(path: str | os.PathLike[str], digest: str) -> tuple[dict[str, Tensor], dict[str, NDArray[Any]]]:
    """Read the state of a session: that of the video, and that of the speech. Nothing in the file is run.

    Raises:
        InputError: There is no such file, it is none of a session, or of one with another model, portrait, settings or sample rate.
    """
    source = Path(path).expanduser()
    try:
        with safe_open(source, "pt") as file:
            told = file.metadata() or {}
            if told.get("kind") != "fantasytalking live session":
                raise InputError(f"'{source}' holds no live session; give a file that a session's save() has written.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except (OSError, SafetensorError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise InputError(f"The session '{source}' cannot be read: {reason}.") from error
    if told.get("digest") != digest:
        raise InputError(
            f"The session in '{source}' was made with another model, portrait, settings, options or sample rate; go on with the same ones."
        )
    video = {name.removeprefix(_VIDEO): value for name, value in tensors.items() if name.startswith(_VIDEO)}
    speech = {name.removeprefix(_SPEECH): value.numpy() for name, value in tensors.items() if name.startswith(_SPEECH)}
    return video, speech
