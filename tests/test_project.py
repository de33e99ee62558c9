"""The project's own files agree with each other and with the package."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

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
    # what nodes for ComfyUI import from the program that loads them
    own |= {"comfy", "comfy_api", "folder_paths"}
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


def test_the_addresses_are_those_of_the_citation() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    paper = citation["preferred-citation"]["url"]
    repository = {"Repository": citation["repository-code"]} if "repository-code" in citation else {}
    assert PROJECT["urls"] == {"Paper": paper, **repository}
    assert f"]({paper})" in (ROOT / "README.md").read_text()


def test_committing_runs_what_make_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text().replace("$(VENV_PYTHON)", ".venv/bin/python")
    rules = dict(re.findall(r"^([\w-]+):[^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.MULTILINE))
    made = [line.strip() for target in ("lint", "types") for line in rules[target].splitlines()]
    assert [hook["entry"] for hook in hooks] == made


def test_hosted_ci_runs_the_same_script_on_every_supported_python() -> None:
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    supported = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r":: Python :: 3\.\d+$", name)]
    assert job["strategy"]["matrix"]["python"] == supported
    assert all(Version(version) in SpecifierSet(PROJECT["requires-python"]) for version in supported)


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_issue_forms_ask_something(name: str) -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text())
    assert form["name"] and form["description"]
    assert [part["id"] for part in form["body"] if part.get("validations", {}).get("required")]


def test_the_console_command_exists() -> None:
    module, _, function = PROJECT["scripts"]["fantasytalking"].partition(":")
    tree = ast.parse((PACKAGE.parent / Path(*module.split("."))).with_suffix(".py").read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_audit_passes_over_nothing_but_what_is_not_called() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    command = next(step["run"] for step in jobs["audit"]["steps"] if "pip_audit" in step.get("run", ""))
    assert "--strict" in command.split(), "a version that the database does not know would pass"
    called = {
        ("CVE-2026-69112", "PYSEC-2026-3804", "GHSA-4j2p-28q2-5m79"): r"load_checkpoint_(in_model|and_dispatch)",
        ("CVE-2025-3000", "PYSEC-2025-194"): r"jit\.script\b",
        ("PYSEC-2026-139",): r"export\.load|load_pt2|aoti",
    }
    assert set(re.findall(r"--ignore-vuln (\S+)", command)) == {name for names in called for name in names}
    for names, call in called.items():
        found = [path for path in PACKAGE.rglob("*.py") if re.search(call, path.read_text())]
        assert not found, f"{names[0]} has no fixed version, and {found[0]} calls what it is about"
