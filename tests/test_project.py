"""The project's own files agree with each other and with the package."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "fantasytalking"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    """Distribution name to pinned version, from constraints.txt."""
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def requirements() -> list[Requirement]:
    """Every requirement of the package and its extras, but for the extras that name other extras."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    found = [Requirement(text) for group in groups for text in group]
    return [requirement for requirement in found if requirement.name != PROJECT["name"]]


def imported_modules(path: Path) -> set[str]:
    """Top-level names of the modules that a source file imports, those inside functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


def test_the_version_is_the_same_everywhere() -> None:
    import fantasytalking

    version = PROJECT["version"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^version: {re.escape(version)}$", citation, re.MULTILINE)
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    assert fantasytalking.__version__ == version


def test_every_dependency_is_pinned_inside_its_bounds() -> None:
    pinned = pins()
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} has no pin in constraints.txt"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} excludes the pin {pinned[name]}"


def test_the_pins_bring_no_graphics_card_libraries() -> None:
    assert not [name for name in pins() if name.startswith(("nvidia-", "cuda-", "triton"))]


def test_what_is_imported_is_declared() -> None:
    sources = [path for folder in (PACKAGE, ROOT / "benchmarks") for path in folder.rglob("*.py")]
    own = {"fantasytalking", "benchmarks", "tests", *(path.stem for path in sources if PACKAGE not in path.parents)}
    imported = {name for path in sources for name in imported_modules(path)} - own - sys.stdlib_module_names
    providers = {module: names for module, names in metadata.packages_distributions().items()}
    declared = {canonicalize_name(requirement.name) for requirement in requirements()}
    for module in sorted(imported):
        names = {canonicalize_name(name) for name in providers.get(module, [module])}
        assert names & declared, f"{module} is imported but none of {sorted(names)} is in pyproject.toml"


@pytest.mark.parametrize("suffix", [".tflite", ".safetensors", ".npz", ".npy"])
def test_every_bundled_binary_has_its_source_and_licence_written_down_near_it(suffix: str) -> None:
    for path in PACKAGE.rglob(f"*{suffix}"):
        folders = [folder for folder in path.parents if folder.is_relative_to(PACKAGE)]
        texts = [
            note.read_text()
            for folder in folders
            for note in (folder / "NOTICE", folder / "README.md")
            if note.is_file()
        ]
        assert any(path.name in text or path.parent.name in text for text in texts), (
            f"no NOTICE or README names {path.name}"
        )


def test_no_file_is_too_large_for_a_clone() -> None:
    sizes = {
        path: path.stat().st_size for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert sum(sizes.values()) < 90e6, "networks, weights and example files together stay below 90 MB"


def test_the_console_command_exists() -> None:
    module, _, function = PROJECT["scripts"]["fantasytalking"].partition(":")
    tree = ast.parse((PACKAGE.parent / Path(*module.split("."))).with_suffix(".py").read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
