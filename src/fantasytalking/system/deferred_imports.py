"""Imports that wait for the first use: stand-ins for modules that a framework imports although most programs never use them.

`importlib.util.LazyLoader` defers `import module`, but not `from module import name`, which is how frameworks import most of
what they need for a feature of theirs. Here a table says what each deferred module is asked for. Whatever else it is asked for
loads it at once, so a table that has aged costs time but breaks nothing.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Literal, TypeAlias

__all__ = ["Kind", "deferred_imports", "when_loaded"]

Kind: TypeAlias = Literal["use", "mark", "wrap"]
"""What a name is. `use`: a class or function that is used later, if at all. `mark`: a decorator that notes its argument in the module and
returns it. `wrap`: a decorator whose result behaves like its argument as long as the module is not loaded."""

_Act: TypeAlias = Callable[[ModuleType], Any]
"""What is done with a module that has been loaded."""


@contextlib.contextmanager
def deferred_imports(modules: Mapping[str, Mapping[str, Kind]]) -> Iterator[None]:
    """Put off the import of modules within the block until they are used, in the block or after it.

    After the block `import` finds the modules themselves again; what was imported within goes on to stand for them. A module that is not
    installed, or that was loaded before, is left alone.

    Args:
        modules: Dotted name -> names that are imported from it, and what they are. The parent of a module that is not listed is loaded.
    """
    finder = _Finder(modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.withdraw(finder.pending)


@contextlib.contextmanager
def when_loaded(name: str, act: Callable[[ModuleType], Any]) -> Iterator[None]:
    """Call a function on a module as soon as it is loaded, if that happens within the block.

    Args:
        name: Dotted name of the module.
        act: Gets the module.
    """
    _OBSERVER.add(name, act)
    try:
        yield
    finally:
        _OBSERVER.discard(name, act)


def _loaded(name: str) -> ModuleType | None:
    """A module that is loaded, or whose loading has begun; None for a stand-in."""
    module = sys.modules.get(name)
    return None if isinstance(module, _StandIn) else module


def _installed(name: str) -> ModuleSpec | None:
    """Where the files of a module are, found without importing its parents."""
    spec, path, parts = None, None, name.split(".")
    for count in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:count]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


class _Finder(MetaPathFinder, Loader):
    """Gives stand-ins for modules that are still pending."""

    def __init__(self, modules: Mapping[str, Mapping[str, Kind]]) -> None:
        self.names = {
            name: dict(kinds) for name, kinds in modules.items() if _loaded(name) is None and _installed(name)
        }
        self.pending = set(self.names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self.pending:
            # every stand-in is a package, so that importing a part of it is not refused before anybody asks here
            return ModuleSpec(fullname, self, is_package=True)
        parent = fullname.rpartition(".")[0]
        if parent not in self.pending:
            return None
        location = self.load(parent).__path__
        if fullname in sys.modules:
            return ModuleSpec(fullname, _Present(sys.modules[fullname]))
        return PathFinder.find_spec(fullname, location)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        stand_in = _StandIn(spec.name, self)
        _OBSERVER.add(spec.name, stand_in.give_way)
        return stand_in

    def exec_module(self, module: ModuleType) -> None:
        pass

    def load(self, name: str) -> ModuleType:
        """The module itself; it and the modules below or above it are no longer deferred, as they import each other."""
        around = {one for one in self.pending if f"{name}.".startswith(f"{one}.")}
        if around:
            top = min(around, key=len)
            self.withdraw({one for one in self.pending if f"{one}.".startswith(f"{top}.")})
        return importlib.import_module(name)

    def withdraw(self, names: set[str]) -> None:
        """Let `import` find modules themselves again."""
        self.pending = self.pending - names
        for name in names:
            if isinstance(sys.modules.get(name), _StandIn):
                del sys.modules[name]


class _StandIn(ModuleType):
    """Stands for a module that is not loaded yet."""

    def __init__(self, name: str, finder: _Finder) -> None:
        super().__init__(name)
        self.__dict__["_finder"] = finder

    def __getattr__(self, name: str) -> Any:
        finder: _Finder = self.__dict__["_finder"]
        if _loaded(self.__name__) is None:
            kind = self._names().get(name)
            if kind is not None:
                self.__dict__[name] = found = _MAKERS[kind](finder, self.__name__, name)
                return found
            if f"{self.__name__}.{name}" in finder.pending:
                return importlib.import_module(f"{self.__name__}.{name}")
            # Tools that look through all modules ask for these; a stand-in has neither file nor source.
            if name.startswith("__") and name != "__version__":
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} before it is loaded")
        return getattr(finder.load(self.__name__), name)

    def give_way(self, loaded: ModuleType) -> None:
        """Put the module, and what it is asked for, into the modules that imported the stand-in and its names."""
        given = {id(found): getattr(loaded, name, found) for name, found in vars(self).items() if name in self._names()}
        given[id(self)] = loaded
        for module in [one for one in sys.modules.values() if isinstance(one, ModuleType)]:
            names = vars(module)
            for name in [name for name, value in names.items() if id(value) in given]:
                names[name] = given[id(names[name])]

    def _names(self) -> Mapping[str, Kind]:
        finder: _Finder = self.__dict__["_finder"]
        return finder.names[self.__name__]


class _Present(Loader):
    """Loader of a module that its parent has loaded in the meantime."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Use:
    """Stands for a class or a function until it is used in any other way than for `isinstance` and annotations."""

    def __init__(self, finder: _Finder, module: str, name: str) -> None:
        self._finder, self._module, self._name = finder, module, name

    def _itself(self) -> Any:
        return getattr(self._finder.load(self._module), self._name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._itself()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._itself(), name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._itself(),)

    def __or__(self, other: Any) -> Any:
        return self._itself() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._itself()

    def __instancecheck__(self, instance: Any) -> bool:
        # what is not loaded has no instances
        return hasattr(_loaded(self._module), self._name) and isinstance(instance, self._itself())

    def __subclasscheck__(self, subclass: type) -> bool:
        return hasattr(_loaded(self._module), self._name) and issubclass(subclass, self._itself())


def _mark(finder: _Finder, module: str, name: str) -> Callable[[Any], Any]:
    """A decorator that marks its argument when the module is loaded."""

    def decorator(marked: Any) -> Any:
        if _loaded(module) is not None:
            return getattr(finder.load(module), name)(marked)
        _OBSERVER.add(module, lambda loaded: getattr(loaded, name)(marked))
        return marked

    return decorator


def _wrap(finder: _Finder, module: str, name: str) -> Callable[..., Any]:
    """A decorator that wraps its argument when the module is loaded."""

    def decorator(function: Callable[..., Any] | None = None, *arguments: Any, **options: Any) -> Any:
        if function is None:
            return lambda function: decorator(function, *arguments, **options)
        if _loaded(module) is not None:
            return getattr(finder.load(module), name)(function, *arguments, **options)
        current: list[Callable[..., Any]] = [function]

        @functools.wraps(function)
        def wrapped(*given: Any, **named: Any) -> Any:
            return current[0](*given, **named)

        def wrap(loaded: ModuleType) -> None:
            current[0] = getattr(loaded, name)(function, *arguments, **options)
            # with what the module knows its wrappers by
            vars(wrapped).update(vars(current[0]))

        _OBSERVER.add(module, wrap)
        return wrapped

    return decorator


_MAKERS: dict[Kind, Callable[[_Finder, str, str], Any]] = {"use": _Use, "mark": _mark, "wrap": _wrap}


class _Observer(MetaPathFinder):
    """Acts on modules when they are loaded, each time once; on `sys.meta_path` while there is anything to wait for."""

    def __init__(self) -> None:
        self.acts: dict[str, list[_Act]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.acts:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Followed(spec.loader, self)
        return spec

    def add(self, name: str, act: _Act) -> None:
        self.acts.setdefault(name, []).append(act)
        if self not in sys.meta_path:
            # behind the finders of stand-ins, which let a module pass once it is wanted itself
            last = max((place for place, one in enumerate(sys.meta_path) if isinstance(one, _Finder)), default=-1)
            sys.meta_path.insert(last + 1, self)

    def discard(self, name: str, act: _Act) -> None:
        if act in self.acts.get(name, ()):
            self.acts[name].remove(act)
            if not self.acts[name]:
                self.take(name)

    def take(self, name: str) -> list[_Act]:
        acts = self.acts.pop(name, [])
        if not self.acts and self in sys.meta_path:
            sys.meta_path.remove(self)
        return acts


class _Followed(Loader):
    """The loader of a module, followed by what the observer does."""

    def __init__(self, loader: Any, observer: _Observer) -> None:
        self.loader, self.observer = loader, observer

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self.loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        for act in self.observer.take(module.__name__):
            act(module)


_OBSERVER = _Observer()
