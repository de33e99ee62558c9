"""Pictures and sound as Python programs hold them: nested lists, tensors, arrays of any number type, samples with their rate.

Dimensions: H height, W width, c channels, n samples. PyTorch is not imported: a tensor is known by what it can do.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fantasytalking.errors import AudioError, ImageError, InputError

__all__ = ["audio_of", "checked_rate", "image_array", "is_tensor"]

_CHANNELS = (1, 3, 4)
_MOST_CHANNELS = 32
_SLOWEST, _FASTEST = 1000, 768_000
_WAYS = "(samples, sample_rate) or fantasytalking.Audio(samples, sample_rate)"


def is_tensor(value: Any) -> bool:
    """Whether a value is a PyTorch tensor, or works like one."""
    return all(hasattr(value, name) for name in ("detach", "cpu", "numpy"))


def image_array(source: Any) -> npt.NDArray[Any]:
    """A picture as an array [H, W] or [H, W, c].

    Args:
        source: An array; a tensor, also [c, H, W] and [1, c, H, W]; or nested lists of numbers. Whole numbers of any type are taken as
            0..255.

    Raises:
        ImageError: It is no such thing, or its numbers are outside 0..255.
    """
    if is_tensor(source):
        array = _numpy_of(source)
        if array.ndim == 4 and len(array) == 1:
            array = array[0]
        if array.ndim == 3 and array.shape[0] in _CHANNELS and array.shape[2] not in _CHANNELS:
            array = array.transpose(1, 2, 0)
    else:
        array = _array_of_numbers(source, ImageError, "image", "a file, a Pillow image, or an array [height, width, 3]")
    if array.dtype.kind in "iu" and array.dtype not in (np.uint8, np.uint16) and array.size:
        if array.min() < 0 or array.max() > 255:
            raise ImageError(
                f"The image array is {array.dtype} from {array.min()} to {array.max()}; give uint8 0..255, uint16 or float 0..1."
            )
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise ImageError(f"The image array is {array.dtype}; give uint8 0..255, uint16 or float 0..1.")
    return array


def checked_rate(rate: Any) -> int:
    """A sample rate.

    Raises:
        AudioError: It is no whole number of 1,000 to 768,000 a second.
    """
    whole = isinstance(rate, numbers.Real) and not isinstance(rate, bool) and float(rate).is_integer()
    if not whole or not _SLOWEST <= rate <= _FASTEST:
        raise AudioError(
            f"A sample rate is a whole number of {_SLOWEST} to {_FASTEST} a second, not {rate!r}; give one such as 16000."
        )
    return int(rate)


def audio_of(source: Any) -> tuple[npt.NDArray[np.float32], int]:
    """Samples [n] in -1..1 and their rate, of what is no file.

    Several channels are mixed; whole numbers are scaled by their type; what exceeds -1..1 is scaled down.

    Args:
        source: (samples, sample_rate) or (sample_rate, samples), or a mapping with `array` and `sampling_rate`. Samples are an array, a
            tensor or a list, [n], [c, n] or [n, c].

    Raises:
        AudioError: It is no such thing, the samples are no finite numbers, or the rate is none.
    """
    samples, rate = _samples_and_rate(source)
    rate = checked_rate(rate)
    array = (
        _numpy_of(samples)
        if is_tensor(samples)
        else _array_of_numbers(samples, AudioError, "speech", f"a file, {_WAYS}")
    )
    if array.dtype.kind not in "iuf":
        raise AudioError(f"The samples are {array.dtype}; give numbers in -1..1, or int16.")
    mono = _mono(_scaled(array))
    if not np.isfinite(mono).all():
        raise AudioError("The samples are not all finite numbers; give samples in -1..1.")
    peak = float(np.abs(mono).max(initial=0.0))
    return np.ascontiguousarray(mono / peak if peak > 1.0 else mono, np.float32), rate


def _samples_and_rate(source: Any) -> tuple[Any, Any]:
    if isinstance(source, Mapping):
        if {"array", "sampling_rate"} <= source.keys():
            return source["array"], source["sampling_rate"]
        raise AudioError(
            f"The speech is a mapping with {', '.join(map(str, source)) or 'nothing'}; give 'array' and 'sampling_rate', or {_WAYS}."
        )
    if isinstance(source, Sequence) and not isinstance(source, str | bytes) and len(source) == 2:
        first, second = source
        if _is_number(second) and not _is_number(first):
            return first, second
        if _is_number(first) and not _is_number(second):
            return second, first
    if isinstance(source, np.ndarray | list | tuple) or is_tensor(source):
        raise AudioError(f"The speech is samples without their rate, as {type(source).__name__}; give {_WAYS}.")
    raise AudioError(f"The speech is of type {type(source).__name__}; give a file, {_WAYS}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Number) or (isinstance(value, np.ndarray) and value.ndim == 0)


def _numpy_of(tensor: Any) -> npt.NDArray[Any]:
    tensor = tensor.detach().cpu()
    try:
        return np.asarray(tensor.numpy())
    except TypeError:
        # numpy knows no bfloat16
        return np.asarray(tensor.float().numpy())


def _array_of_numbers(source: Any, error: type[InputError], what: str, accepted: str) -> npt.NDArray[Any]:
    if not isinstance(source, np.ndarray | list | tuple):
        raise error(f"The {what} is of type {type(source).__name__}; give {accepted}.")
    try:
        array = np.asarray(source)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "iufb":
        raise error(f"The {what} is a {type(source).__name__} that is no array of numbers; give {accepted}.")
    return array


def _scaled(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if array.dtype == np.uint8:
        return (array.astype(np.float64) - 128.0) / 128.0
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    # Lists of whole numbers become int64, but nobody records with 64 bits: they are 16.
    bits = min(8 * array.dtype.itemsize, 32) if array.dtype != np.int64 else 16
    return array.astype(np.float64) / 2.0 ** (bits - 1)


def _mono(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim == 1:
        return array
    if array.ndim != 2 or min(array.shape) > _MOST_CHANNELS or 0 in array.shape:
        raise AudioError(f"The samples have the shape {list(array.shape)}; give [n], or [channels, n].")
    mixed: npt.NDArray[np.float64] = array.mean(axis=0 if array.shape[0] <= array.shape[1] else 1)
    return mixed
