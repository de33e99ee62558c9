"""Arrays in a safetensors file with a digest of their content, so that damage is noticed: intermediate results that a later start reads."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fantasytalking.errors import InputError
from fantasytalking.system.files import atomic_path

__all__ = ["read_arrays", "save_arrays"]

_DIGEST = "sha256"
_HEX = re.compile("[0-9a-f]{64}")


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str] | None = None) -> None:
    """Write arrays and texts; the file appears complete or not at all.

    Args:
        path: The file; an existing one is replaced.
        arrays: Arrays by name.
        texts: Texts by name, stored beside them.

    Raises:
        OutputError: The file cannot be written.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_path(path, overwrite=True) as temporary:
        save_file(whole, temporary, metadata={**(texts or {}), _DIGEST: _digest(whole, texts or {})})


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read arrays and texts that `save_arrays` wrote; a file without a digest, of an earlier version, is taken as it is.

    Raises:
        InputError: The file cannot be read, or its content is not what was written.
    """
    try:
        with safe_open(path, "numpy") as file:
            texts = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from error
    digest = texts.pop(_DIGEST, None)
    # A digest under another name is one whose name was damaged.
    if digest != _digest(arrays, texts) if digest is not None else any(map(_HEX.fullmatch, texts.values())):
        raise InputError(f"{path} is damaged (its content does not have the digest that was stored with it).")
    return arrays, texts


def _digest(arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()
