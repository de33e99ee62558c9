"""docs/api.md says what is public: it names modules that exist, and documentation uses no others unless they are provisional."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fantasytalking.pipeline.model_names import DEPRECATED_NAMES, resolve_model
from tests.test_docs import blocks

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "api.md").read_text()
PUBLIC = re.findall(r"^\| `(fantasytalking[\w.]*)` \|", PAGE, re.MULTILINE)
PROVISIONAL = (
    "fantasytalking.training",
    "fantasytalking.evaluation",
    "fantasytalking.data",
    "fantasytalking.pipeline",
    "fantasytalking.acceleration",
)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_class_and_function_is_explained(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", None)
    exported = {export: getattr(module, export) for export in listed or vars(module) if not export.startswith("_")}
    things = {
        export: value
        for export, value in exported.items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and (listed or value.__module__ == name)
    }
    assert module.__doc__ and things
    unexplained = [export for export, value in things.items() if not (value.__doc__ or "").strip()]
    assert not unexplained, f"{name} has no text for {unexplained}"


def test_documentation_imports_public_or_provisional_modules_only() -> None:
    extending = "docs/extending.md"  # whose modules are provisional, all of them
    for block in (block for block in blocks("python") if block.page != extending):
        for node in ast.walk(ast.parse(block.body)):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if module.startswith("fantasytalking"):
                known = module in PUBLIC or module.startswith(PROVISIONAL)
                assert known, f"{block.page}:{block.line} imports {module}, which docs/api.md does not list"


def test_provisional_packages_are_those_of_the_page() -> None:
    assert all(f"`{package}`" in PAGE for package in PROVISIONAL)


@pytest.mark.parametrize(("old", "new"), DEPRECATED_NAMES.items())
def test_a_deprecated_model_name_works_and_warns_as_the_page_says(old: str, new: str) -> None:
    (row,) = re.findall(rf"^\| the model name `{old}` .*\| `(\w+)` \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    with pytest.warns(FutureWarning, match=rf"'{new}'.* version {re.escape(row[1])}\."):
        folder = resolve_model(old)
    assert row[0] == new
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_model(new) == folder


def test_importing_the_pipeline_writes_nothing() -> None:
    """A first line about torchvision, which nobody needs here, would look like a fault of the user's installation."""
    code = "from fantasytalking import FantasyTalkingPipeline; FantasyTalkingPipeline.from_pretrained"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
