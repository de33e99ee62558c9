"""What a command does around its import of the frameworks, before any of them is there."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from fantasytalking.errors import SettingsError
from fantasytalking.system.deferred_imports import Kind, deferred_imports, when_loaded

__all__ = ["SELDOM_USED", "check_device", "check_threads", "importing_frameworks"]

MOST_THREADS = 1024

SELDOM_USED: Mapping[str, Mapping[str, Kind]] = {
    # diffusers imports it, and with it PyTorch's compiler, before anybody asks for quantised weights
    "bitsandbytes": {},
    # SciPy takes over all names of NumPy, its Fortran compiler among them
    "numpy.f2py": {},
    # diffusers' and accelerate's checks for LoRA
    "peft": {"PeftModel": "use"},
    "peft.helpers": {"disable_input_dtype_casting": "use"},
    "peft.tuners": {},
    "peft.tuners.tuners_utils": {"BaseTunerLayer": "use"},
    # reads pictures from the network
    "requests": {},
    # noise schedules of diffusers that are not ours, and losses of transformers
    "scipy.integrate": {},
    "scipy.optimize": {"linear_sum_assignment": "use"},
    "scipy.stats": {},
    # what the frameworks tell the compiler about their functions, in case that someone compiles them
    "torch._dynamo": {"allow_in_graph": "mark", "assume_constant_result": "mark", "disable": "wrap"},
    "torch._dynamo._trace_wrapped_higher_order_op": {"TransformGetItemToIndex": "use"},
    "torch._dynamo.eval_frame": {"OptimizedModule": "use"},
}
"""What diffusers and transformers import for features that generating a video with a plain model does not use."""


@contextlib.contextmanager
def importing_frameworks() -> Iterator[None]:
    """Import the frameworks faster within the block, and let threads of PyTorch wait without using a core.

    A third of the time of the imports goes into `SELDOM_USED`, which is imported when it is used, and a sixth into the garbage collector,
    which looks at millions of new objects again and again, all of which stay. Threads of OpenMP that wait for each other spin by default:
    where several processes share the cores, each waits for threads that cannot run because others spin. `OMP_WAIT_POLICY`, which is read
    when PyTorch is loaded, is left as it is where it is set.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    collected, first = gc.isenabled(), "torch" not in sys.modules
    gc.disable()
    try:
        with deferred_imports(SELDOM_USED), _looking_once(), _listing_packages_later():
            yield
    finally:
        if first:
            gc.freeze()
        if collected:
            gc.enable()


@contextlib.contextmanager
def _looking_once() -> Iterator[None]:
    """Let transformers look through the files of all its models once; it does so for itself, and again for its package `models`."""
    name, changed = "create_import_structure_from_path", []

    def remember(import_utils: ModuleType) -> None:
        look = getattr(import_utils, name, None)
        if look is None:
            return
        known = functools.cache(look)
        setattr(import_utils, name, lambda path: known(os.path.dirname(path) if os.path.isfile(path) else str(path)))
        changed.append((import_utils, look))

    try:
        with when_loaded("transformers.utils.import_utils", remember):
            yield
    finally:
        for import_utils, look in changed:
            setattr(import_utils, name, look)


@contextlib.contextmanager
def _listing_packages_later() -> Iterator[None]:
    """Read the list of all files of all installed packages, which diffusers asks for, when something is looked up in it."""
    listed = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = lambda: _Later(listed)
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = listed


class _Later(Mapping[str, Any]):
    """What a function returns, which is called when it is needed."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._made = functools.cache(make)

    def __getitem__(self, key: str) -> Any:
        return self._made()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())


def check_threads(count: int | None) -> None:
    """Check a number of threads that a user gave; None is the library's choice.

    Raises:
        SettingsError: It is not within 1..1024.
    """
    if count is not None and not 1 <= count <= MOST_THREADS:
        raise SettingsError(f"--threads must be at least 1 and at most {MOST_THREADS}, but {count} was given.")


def check_device(name: str) -> None:
    """Check the name of a device that a user gave, before anything is read or started.

    Args:
        name: `auto` or a device of PyTorch. `auto` and `cpu` are everywhere, so for them no framework is imported.

    Raises:
        SettingsError: There is no such device on this machine.
    """
    if name in ("auto", "cpu"):
        return
    with importing_frameworks():
        from fantasytalking.system.machine import choose_device
    choose_device(name)
