"""The released code's own numbers, on its own weights at tiny width."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent / "released"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """check.py, which is a script and not part of a package."""
    spec = importlib.util.spec_from_file_location("parity_check", Path(__file__).with_name("check.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_tensor_of_the_released_code_is_met_within_its_tolerance(check: ModuleType) -> None:
    errors = check.check(FOLDER)
    assert set(errors) == set(check.TOLERANCES)
    assert {name: error for name, error in errors.items() if error > check.TOLERANCES[name]} == {}


def test_the_files_are_those_whose_checksums_their_page_lists() -> None:
    listed = dict(re.findall(r"^\| `(\S+)` \| `([0-9a-f]{64})` \|$", (FOLDER / "README.md").read_text(), re.MULTILINE))
    assert listed.keys() == {path.name for path in FOLDER.iterdir()} - {"README.md"}
    assert {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in listed} == listed


def test_the_check_says_how_to_call_it_when_the_folder_is_missing(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["check.py", str(tmp_path)])
    assert check.main() == 2
    assert "usage" in capsys.readouterr().err


def test_different_shapes_and_nan_are_infinitely_far_apart(check: ModuleType) -> None:
    import torch

    assert check.distance(torch.zeros(1, 2), torch.zeros(2)) == float("inf")
    assert check.distance(torch.full((2,), float("nan")), torch.zeros(2)) == float("inf")
