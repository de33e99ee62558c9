"""Tensors that say where they are and mostly hold no values: what a device would hold is counted without one.

A `Placed` tensor is on the host or on the device of `tests.devices.pretended`; it holds a meta tensor, or, where it is small and all that
it comes from is known, a CPU tensor. `Residence` lets operations run on what they hold, keeps results where the operation ran, and counts
the bytes of the storages that are alive on the device.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fantasytalking.checkpoints.fill_model import final_dtype
from tests.devices.pretended import DEVICE

__all__ = ["Placed", "Residence", "placed"]

HOST, META = torch.device("cpu"), torch.device("meta")
SMALL = 2**16
"""Numbers up to which a new tensor has values."""


class Placed(torch.Tensor):
    """A tensor with a place; `inner` is the meta or CPU tensor that it stands for."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    inner: Tensor  # type: ignore[assignment]
    place: torch.device

    @staticmethod
    def __new__(cls, inner: Tensor, place: torch.device = HOST) -> Placed:  # type: ignore[misc]
        made: Placed = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=META
        )
        made.inner, made.place = inner, place
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return run(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    @property  # type: ignore[override]
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        assert isinstance(value, Placed)
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.inner, self.place = value.inner, value.place

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        # What has no values is black.
        return (torch.zeros(self.shape, dtype=self.dtype) if self.inner.is_meta else self.inner).numpy()

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Placed({tuple(self.shape)}, {self.dtype}, {self.place})"


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on what its tensors hold."""
    given: list[Tensor] = []
    _collect((args, kwargs), given)
    there = [value for value in given if isinstance(value, Placed)]
    target = kwargs.get("device")
    place = _place(there, target)
    dtype = kwargs.get("dtype")
    if func in _COPIES and there and args[0].device == place and dtype in (None, args[0].dtype):
        return args[0]
    if func is torch.ops.aten.equal.default and any(one.inner.is_meta for one in there):
        return args[0].shape == args[1].shape
    valueless = any(one.inner.is_meta for one in there) or (not given and place != HOST and not _is_small(args))
    inner = META if valueless else HOST
    known: dict[int, tuple[Tensor, Placed]] = {}
    if target is not None:
        kwargs = {**kwargs, "device": inner}
    kwargs = {name: value for name, value in kwargs.items() if name not in ("pin_memory", "non_blocking")}
    held = _unwrapped(args, inner, known), _unwrapped(kwargs, inner, known)
    result = _on_meta(func, *held) if valueless and _makes_new(func) else func(*held[0], **held[1])
    return result if place == HOST and not valueless and not there else _wrapped(result, place, known)


@functools.cache
def _makes_new(func: Any) -> bool:
    """Whether an operation changes no tensor and gives none that shares memory with another."""
    schema = func._schema
    shares = any(one.alias_info is not None for one in (*schema.arguments, *schema.returns))
    # PyTorch's word for a view of which nothing else is left
    return not shares and "_unsafe_view" not in schema.name


_known_results: dict[Any, Any] = {}


def _on_meta(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives on the meta device; the layout is found once, as PyTorch works it out in slow Python."""
    key = func, _layout(args), _layout(kwargs)
    if key not in _known_results:
        result = func(*args, **kwargs)
        _known_results[key] = _layout(result)
        return result
    return _with_layout(_known_results[key])


def _layout(value: Any) -> Any:
    """Tensors as their layouts, in any nesting."""
    if isinstance(value, Tensor):
        return _Layout(tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        return tuple(map(_layout, value))
    if isinstance(value, dict):
        return tuple((name, _layout(item)) for name, item in sorted(value.items()))
    return value if not isinstance(value, bool | int | float) else (type(value), value)


def _with_layout(value: Any) -> Any:
    """New tensors of the layouts that an operation gave."""
    if isinstance(value, _Layout):
        return torch.empty_strided(value.shape, value.stride, dtype=value.dtype, device=META)
    return tuple(map(_with_layout, value)) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class _Layout:
    """What a tensor of the meta device has."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, found)


def _unwrapped(value: Any, inner: torch.device, known: dict[int, tuple[Tensor, Placed]]) -> Any:
    """What tensors hold, on one device, in any nesting; `known` takes down which belongs to which."""
    if isinstance(value, Tensor):
        held = value.inner if isinstance(value, Placed) else value
        held = held if held.device == inner else held.to(inner)
        if isinstance(value, Placed):
            known[id(held)] = held, value
        return held
    if isinstance(value, list | tuple):
        return type(value)([_unwrapped(item, inner, known) for item in value])
    if isinstance(value, dict):
        return {name: _unwrapped(item, inner, known) for name, item in value.items()}
    return value


def _wrapped(value: Any, place: torch.device, known: dict[int, tuple[Tensor, Placed]]) -> Any:
    """The inverse; an operation in place gives back the tensor that it was given."""
    if isinstance(value, Tensor):
        return known[id(value)][1] if id(value) in known else Placed(value, place)
    if isinstance(value, list | tuple):
        return type(value)([_wrapped(item, place, known) for item in value])
    return value


_COPIES = {torch.ops.aten._to_copy.default}


def _place(there: list[Placed], target: Any) -> torch.device:
    # PyTorch itself takes them for tensors of the meta device.
    if target is not None and torch.device(target).type != "meta":
        return DEVICE if torch.device(target).type == DEVICE.type else HOST
    return DEVICE if any(one.place == DEVICE for one in there) else HOST


def _is_small(args: Any) -> bool:
    sides = next((value for value in args if isinstance(value, list | tuple | torch.Size)), ())
    return torch.Size(sides).numel() <= SMALL if all(isinstance(side, int) for side in sides) else False


class Residence(TorchDispatchMode):
    """Bytes of the storages on the device, and the most there have been, by phase."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.live = 0
        self.phase = ""
        self.peaks: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = run(func, args, kwargs or {})
        made: list[Tensor] = []
        _collect(result, made)
        for tensor in made:
            if isinstance(tensor, Placed) and tensor.place == DEVICE:
                self.count(tensor)
        return result

    def count(self, tensor: Placed) -> None:
        storage = tensor.inner.untyped_storage()
        key = storage._cdata
        if key in self.sizes:
            return
        self.sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        weakref.finalize(storage, self._forget, key)
        self.peaks[self.phase] = max(self.peaks.get(self.phase, 0), self.live)

    def _forget(self, key: int) -> None:
        self.live -= self.sizes.pop(key)


def placed(module: nn.Module, dtype: torch.dtype = torch.float32) -> Any:
    """Put a module of the meta device on the host in a type, as loading does."""
    made: dict[int, Tensor] = {}
    for prefix, part in module.named_modules():
        for name, value in [*part._parameters.items(), *part._buffers.items()]:
            if value is None:
                continue
            # Tied weights are one tensor.
            if id(value) not in made:
                kind = final_dtype(module, f"{prefix}.{name}", value.dtype, dtype)
                held = Placed(torch.empty(value.shape, dtype=kind, device="meta"))
                made[id(value)] = nn.Parameter(held, requires_grad=False) if name in part._parameters else held
            (part._parameters if name in part._parameters else part._buffers)[name] = made[id(value)]  # type: ignore[assignment]
    return module.eval()
