"""The look-up of wheels for other systems, on a folder of tiny wheels in place of a package index."""

from __future__ import annotations

import importlib.util
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def script() -> Any:
    spec = importlib.util.spec_from_file_location("check_wheels", ROOT / "scripts" / "check_wheels.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_wheels"] = module
    spec.loader.exec_module(module)
    return module


def write_wheel(folder: Path, file: str, *requires: str) -> None:
    name, version = file.split("-")[:2]
    described = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    described += "".join(f"Requires-Dist: {one}\n" for one in requires)
    with zipfile.ZipFile(folder / file, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", described)
        archive.writestr(
            f"{name}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {file[len(name) + len(version) + 2 : -4]}\n"
        )
        archive.writestr(f"{name}-{version}.dist-info/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_wheel(
        tmp_path, "plain-1.0-py3-none-any.whl", "native>=1", 'console; sys_platform == "win32"', 'more; extra == "all"'
    )
    write_wheel(tmp_path, "native-1.0-cp312-cp312-win_amd64.whl", "absent")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("index")
def test_what_is_missing_is_found_by_the_markers_of_the_other_system() -> None:
    check = script()
    lists = {"core": [Requirement("plain")], "mac": [Requirement('only_there; sys_platform == "darwin"')]}
    everything = [one for wanted in lists.values() for one in wanted]
    lacks = {
        system: check.missing(
            check.look_up(check.SYSTEMS[system], "3.12", everything, [sys.executable, "-m", "pip"]), lists
        )
        for system in ("windows", "macos-arm64")
    }
    assert lacks == {
        "windows": {"absent": ["core"], "console": ["core"]},
        "macos-arm64": {"native": ["core"], "only-there": ["mac"]},
    }


def test_every_extra_is_looked_up_with_what_it_names() -> None:
    groups = script().groups()
    assert {"core", "prepare", "train", "gguf", "dev"} <= groups.keys()
    assert (
        {one.name for one in groups["prepare"]}
        <= {one.name for one in groups["train"]}
        <= {one.name for one in groups["dev"]}
    )


def test_the_workflow_runs_on_every_system_with_every_python() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    matrix = jobs["systems"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "windows", "macos"}
    assert matrix["python"] == list(script().PYTHONS)
    words = " ".join(step.get("run", "") for step in jobs["systems"]["steps"])
    assert "make" not in words.split() and "fantasytalking demo" in words and "pip install" in words
