"""Modules that are imported when what they bring is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fantasytalking.system.deferred_imports import Kind, deferred_imports, when_loaded

FILES = {
    "heavy/__init__.py": "from heavy.parts import Layer\nSIZE = 3\n",
    "heavy/parts.py": "class Layer:\n    def __init__(self, width): self.width = width\n\ndef build(width): return Layer(width)\n",
    "heavy/other.py": "VALUE = 5\n",
    "compiler/__init__.py": (
        "marked, tracing = [], []\n"
        "def allow(function): marked.append(function); return function\n"
        "def disable(function=None, recursive=True, *, reason=None):\n"
        "    def wrapped(*arguments):\n"
        "        tracing.append((recursive, reason))\n"
        "        return function(*arguments)\n"
        "    wrapped.is_disabled = True\n"
        "    return wrapped if function else lambda function: disable(function, recursive, reason=reason)\n"
    ),
}
TABLE: dict[str, dict[str, Kind]] = {
    "heavy": {},
    "heavy.parts": {"Layer": "use", "build": "use"},
    "compiler": {"allow": "mark", "disable": "wrap"},
    "not_installed_at_all": {"nothing": "use"},
}


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    finders = list(sys.meta_path)
    yield tmp_path
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.partition(".")[0] in ("heavy", "compiler", "user")]:
        del sys.modules[name]


def loaded(name: str) -> bool:
    return getattr(sys.modules.get(name), "__file__", None) is not None


def run(folder: Path, code: str) -> Any:
    """A module that imports deferred ones, as a framework does."""
    (folder / "user.py").write_text(code)
    importlib.invalidate_caches()
    return importlib.import_module("user")


def test_a_module_is_loaded_when_something_of_it_is_used(packages: Path) -> None:
    with deferred_imports(TABLE):
        user = run(packages, "import heavy\nfrom heavy.parts import Layer, build\ndef size(): return heavy.SIZE\n")
        assert not loaded("heavy") and not loaded("heavy.parts")
    assert not loaded("heavy")
    kept = user.Layer
    made = user.build(4)
    assert loaded("heavy.parts") and made.width == 4 and kept(2).width == 2
    assert user.size() == 3
    from heavy.parts import Layer  # type: ignore[import-not-found]

    assert isinstance(made, Layer) and isinstance(made, kept) and issubclass(Layer, kept)
    assert not isinstance(made, Mapping) and not issubclass(dict, kept)


def test_what_was_imported_gives_way_to_what_it_stands_for(packages: Path) -> None:
    with deferred_imports(TABLE):
        user = run(
            packages, "import compiler\nimport heavy.parts\nfrom heavy.parts import Layer, build\nstay = [build]\n"
        )
    parts, compiler = importlib.import_module("heavy.parts"), importlib.import_module("compiler")
    assert user.Layer is parts.Layer and user.build is parts.build and user.compiler is compiler
    assert user.heavy is sys.modules["heavy"] and user.heavy.parts is parts
    assert user.stay[0](6).width == 6


def test_asking_whether_something_is_an_instance_loads_nothing(packages: Path) -> None:
    with deferred_imports(TABLE):
        user = run(
            packages, "from heavy.parts import Layer\ndef is_layer(x: Layer): return isinstance(x, (int, Layer))\n"
        )
        assert not user.is_layer("x") and user.is_layer(3)
    assert not user.is_layer("x") and not loaded("heavy")


def test_what_the_table_does_not_name_loads_the_module_within_the_block(packages: Path) -> None:
    with deferred_imports(TABLE):
        from heavy import SIZE  # type: ignore[import-not-found]

        assert SIZE == 3 and loaded("heavy") and loaded("heavy.parts")
        from heavy.parts import Layer

        assert isinstance(Layer, type)


def test_a_part_that_the_table_does_not_name_can_be_imported(packages: Path) -> None:
    with deferred_imports(TABLE):
        import heavy.parts

        deferred = heavy.parts
        import heavy.other

        assert heavy.other.VALUE == 5 and loaded("heavy")
    assert deferred.Layer(1).width == 1


def test_the_parent_of_a_part_may_load_it_first(packages: Path) -> None:
    with deferred_imports({"heavy": {}}):
        import heavy

        assert not loaded("heavy")
        parts = importlib.import_module("heavy.parts")
    assert parts is heavy.parts and parts.__spec__ is not None
    assert parts.__spec__.origin == str(packages / "heavy" / "parts.py")


def test_a_deferred_class_can_be_a_base_and_a_part_of_a_union(packages: Path) -> None:
    with deferred_imports(TABLE):
        user = run(
            packages,
            "from heavy.parts import Layer\nclass Wide(Layer): pass\ndef of(x: Layer | None, y: None | Layer = None): ...\n",
        )
    assert user.Wide(9).width == 9 and user.Layer.__name__ == "Layer"


def test_marks_are_made_up_for_when_the_module_is_loaded(packages: Path) -> None:
    with deferred_imports(TABLE):
        user = run(packages, "import compiler\n@compiler.allow\ndef f(x): return x\n\ng = compiler.allow(len)\n")
        assert not loaded("compiler") and user.f(3) == 3
    compiler = importlib.import_module("compiler")
    assert compiler.marked == [user.f, len] and isinstance(compiler.__loader__, importlib.machinery.SourceFileLoader)
    user.compiler.allow(max)
    assert compiler.marked == [user.f, len, max]


def test_a_wrapping_decorator_wraps_once_its_module_is_loaded(packages: Path) -> None:
    code = (
        "from compiler import disable\n@disable\ndef f(x): return x\n\n"
        "@disable(recursive=False, reason='why')\ndef g(x):\n    'text'\n    return -x\n"
    )
    with deferred_imports(TABLE):
        user = run(packages, code)
    assert (user.f(3), user.g(3), user.g.__doc__) == (3, -3, "text") and not loaded("compiler")
    compiler = importlib.import_module("compiler")
    assert (user.f(3), user.g(3)) == (3, -3) and user.g.is_disabled
    assert compiler.tracing == [(True, None), (False, "why")]


def test_what_is_loaded_or_not_installed_is_left_alone(packages: Path) -> None:
    heavy = importlib.import_module("heavy")
    with deferred_imports(TABLE):
        assert importlib.import_module("heavy") is heavy
        assert importlib.util.find_spec("compiler") is not None
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("not_installed_at_all")


def test_a_look_through_all_modules_loads_nothing(packages: Path) -> None:
    with deferred_imports(TABLE):
        import compiler  # type: ignore[import-not-found]

        assert not hasattr(compiler, "__file__") and not hasattr(compiler, "__wrapped__")
        assert importlib.util.find_spec("compiler") is not None
        assert not loaded("compiler")


def test_a_function_sees_a_module_once_it_is_loaded(packages: Path) -> None:
    seen: list[ModuleType] = []
    with when_loaded("heavy.parts", seen.append):
        parts = importlib.import_module("heavy.parts")
    with when_loaded("heavy.other", seen.append):
        pass
    importlib.import_module("heavy.other")
    assert seen == [parts]
