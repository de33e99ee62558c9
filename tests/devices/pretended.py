"""A second device that needs no hardware: tensors that say they are elsewhere, although the CPU does their arithmetic.

PyTorch keeps one device type free for backends of others (PrivateUse1). Here it is named ``pretended``, and its tensors are a subclass
that holds a CPU tensor. Every operation runs on what they hold; an operation that meets tensors of both devices raises, as it would on
CUDA, with CUDA's exceptions: numbers (CPU tensors without dimensions) may meet tensors of the device, a tensor of the device may be indexed
by CPU tensors, and copies go either way. Gradients, optimisers, modules and accelerate work as on any device.

The device is there while `pretended_device` is entered. Its registration cannot be undone, so outside of it the process still knows the
name but no library finds the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

__all__ = ["DEVICE", "PretendedTensor", "pretended_device"]

NAME = "pretended"
ACCELERATE_DEVICE = "ACCELERATE_TORCH_DEVICE"
"""Environment variable that accelerate takes its device from."""
_present = False


class _Module(_DummyBackendModule):  # type: ignore[misc]
    """``torch.pretended``, with what PyTorch and accelerate ask of ``torch.cuda``."""

    def is_available(self) -> bool:
        return _present

    def device_count(self) -> int:
        return int(_present)

    def get_rng_state(self, device: Any = None) -> Tensor:
        """The CPU's generator draws for this device too, and whoever asks keeps its state anyway."""
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        """See `get_rng_state`."""

    def synchronize(self, device: Any = None) -> None:
        """Nothing runs in the background."""

    def empty_cache(self) -> None:
        """There is no cache."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class _Hook(torch._C._acc.PrivateUse1Hooks):  # type: ignore[misc]
    def is_available(self) -> bool:
        return _present

    def has_primary_context(self, device_index: int) -> bool:
        return _present

    def is_built(self) -> bool:
        return True


_setup_privateuseone_for_python_backend(NAME, _Module(), _Hook())
DEVICE = torch.device(NAME, 0)


class PretendedTensor(torch.Tensor):
    """A tensor of the pretended device; `inner` is the CPU tensor with its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    inner: Tensor  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool | None = None) -> Tensor:  # type: ignore[misc]
        if requires_grad is not None:  # accelerate makes a parameter by calling the class of the one before
            return torch.nn.Parameter(inner, requires_grad)
        # under `torch.inference_mode` a subclass's views of tensors that were made before would be refused
        with torch.inference_mode(False):
            made: PretendedTensor = torch.Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device=DEVICE,
            )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation on the CPU after checking that a device would have run it."""
        return _run(func, tuple(args), dict(kwargs or {}))

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(
                f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        return self.detach().cpu().numpy()

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved with its device, as CUDA's tensors are."""
        parts = (self.detach().cpu(), self.dtype, str(DEVICE), self.requires_grad)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, parts

    def untyped_storage(self) -> torch.UntypedStorage:
        """For those who look which tensors share memory before they write them."""
        return self.inner.untyped_storage()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{self.inner!r} on {DEVICE}"

    @property  # type: ignore[override]
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, PretendedTensor):
            raise RuntimeError(f"Attempted to set the data of a tensor on {DEVICE} to one on {value.device}.")
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.inner = value.inner


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if func in (torch.ops.aten.copy_.default, torch.ops.aten._copy_from.default):
        return _copy(func, args)
    _refuse_mixtures(func, args, kwargs)
    stays = True
    if kwargs.get("device") is not None:
        stays = torch.device(kwargs["device"]).type == NAME
        kwargs["device"] = torch.device("cpu") if stays else kwargs["device"]
    known: dict[int, PretendedTensor] = {}
    result = func(*_unwrapped(args, known), **_unwrapped(kwargs, known))
    for tensor in known.values():
        if tensor.shape != tensor.inner.shape:
            raise NotImplementedError(f"{func} resizes a tensor in place, which the pretended device cannot.")
    return _wrapped(result, known) if stays else result


def _copy(func: Any, args: tuple[Any, ...]) -> Any:
    """Copies are what goes from one device to the other."""
    into, source = args[:2] if func is torch.ops.aten.copy_.default else args[1::-1]
    inner = into.inner if isinstance(into, PretendedTensor) else into
    inner.copy_(source.inner if isinstance(source, PretendedTensor) else source)
    return into


def _unwrapped(value: Any, known: dict[int, PretendedTensor]) -> Any:
    """CPU tensors instead of the device's, in any nesting; `known` takes down which tensor belongs to which."""
    if isinstance(value, PretendedTensor):
        known[id(value.inner)] = value
        return value.inner
    if isinstance(value, list | tuple):
        return type(value)(_unwrapped(item, known) for item in value)
    if isinstance(value, dict):
        return {name: _unwrapped(item, known) for name, item in value.items()}
    return value


def _wrapped(value: Any, known: Mapping[int, PretendedTensor]) -> Any:
    """The inverse; an operation in place gives back the tensor that it was given."""
    if isinstance(value, PretendedTensor):
        return value
    if isinstance(value, Tensor):
        return known[id(value)] if id(value) in known else PretendedTensor(value)
    if isinstance(value, list | tuple):
        return type(value)(_wrapped(item, known) for item in value)
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index_put"}
_WITH_NUMBERS = _INDEXING | {"aten::masked_fill", "aten::masked_fill_", "aten::fill", "aten::fill_"}


def _refuse_mixtures(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise where CUDA would: tensors of both devices in one operation, or a CPU generator."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Generator):
            raise RuntimeError(f"Expected a '{NAME}' device type for generator but found '{value.device.type}'")
    schema = func._schema
    if schema.name in _INDEXING:
        if not isinstance(args[0], PretendedTensor):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        args = (args[0], *args[2:])  # CPU indices are brought over
    strangers = [t for t in _tensors([*args, *kwargs.values()]) if not isinstance(t, PretendedTensor)]
    if not strangers:
        return
    numbers_allowed = torch.Tag.pointwise in func.tags or "_foreach_" in schema.name or schema.name in _WITH_NUMBERS
    written = [
        args[i] if i < len(args) else kwargs.get(a.name)
        for i, a in enumerate(schema.arguments)
        if a.alias_info is not None and a.alias_info.is_write
    ]
    if any(t.ndim > 0 or not numbers_allowed or any(t is w for w in _tensors(written)) for t in strangers):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and cpu! ({schema.name}, "
            f"shapes {[tuple(t.shape) for t in strangers]} on the CPU)"
        )


def _on_cpu(name: str) -> Callable[..., Tensor]:
    """A factory function of the device: the CPU's, with its result wrapped."""
    packet, _, overload = name.partition(".")
    func = getattr(getattr(torch.ops.aten, packet), overload or "default")
    takes_format = any(a.name == "memory_format" for a in func._schema.arguments)

    def make(*args: Any, **kwargs: Any) -> Tensor:
        options = {key: value for key, value in kwargs.items() if key not in ("device", "layout", "pin_memory")}
        if not takes_format:
            options.pop("memory_format", None)
        return PretendedTensor(func(*args, **options, device="cpu"))

    return make


# The rest of the factory functions makes an empty tensor first; these would resize it.
_FACTORIES = (
    *("empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step", "linspace", "logspace"),
    *("eye", "eye.m", "randperm", "tril_indices", "triu_indices"),
)
_library = torch.library.Library("aten", "IMPL", "PrivateUse1")
for _name in _FACTORIES:
    _library.impl(_name, _on_cpu(_name))


@torch.library.impl(_library, "_copy_from")
def _copy_from(source: Tensor, into: Tensor, non_blocking: bool = False) -> Tensor:
    """Reached where PyTorch switches subclasses off, in ``torch.tensor(..., device=...)``."""
    return _copy(torch.ops.aten._copy_from.default, (source, into))  # type: ignore[no-any-return]


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """While it is entered, the device exists and accelerate trains on it.

    accelerate is told by the environment variable that it has for this. Modules are moved by swapping their parameters, so that an
    optimiser that was built before keeps them, as it does between CPU and CUDA.
    """
    global _present
    before, swap = os.environ.get(ACCELERATE_DEVICE), torch.__future__.get_swap_module_params_on_conversion()
    _forget_accelerate()
    os.environ[ACCELERATE_DEVICE] = str(DEVICE)
    torch.__future__.set_swap_module_params_on_conversion(True)
    _present = True
    try:
        yield DEVICE
    finally:
        _present = False
        torch.__future__.set_swap_module_params_on_conversion(swap)
        os.environ.pop(ACCELERATE_DEVICE)
        if before is not None:
            os.environ[ACCELERATE_DEVICE] = before
        _forget_accelerate()


def _forget_accelerate() -> None:
    """accelerate keeps the device of a process for good."""
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
