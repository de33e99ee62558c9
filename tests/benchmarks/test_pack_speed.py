"""The bundle of the speed benchmark holds what a machine without this project needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pack_speed
import pytest
from pack_speed import ROOT, SCRIPTS, SMALL, pack, repack


def wheel_of_the_package(folder: Path) -> Path:
    """As hatchling builds it, as far as it matters here: the package's files and their record."""
    wheel, info = folder / "fantasytalking-0.1.0-py3-none-any.whl", "fantasytalking-0.1.0.dist-info"
    package, record = ROOT / "src" / "fantasytalking", ""
    with zipfile.ZipFile(wheel, "w") as made:
        for path in sorted(package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                name = f"fantasytalking/{path.relative_to(package)}"
                made.write(path, name)
                record += f"{name},,\n"
        metadata = "Metadata-Version: 2.1\nName: fantasytalking\nVersion: 0.1.0\nRequires-Dist: torch>=2.8\n"
        made.writestr(f"{info}/METADATA", metadata + "Requires-Dist: peft>=0.18; extra == 'train'\n")
        made.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr(f"{info}/RECORD", record + f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return wheel


@pytest.mark.slow
def test_the_bundle_runs_where_the_package_is_not_installed(tmp_path: Path) -> None:
    for name in ("whole", "slim"):
        (tmp_path / name).mkdir()
    whole = wheel_of_the_package(tmp_path / "whole")
    repack(whole, tmp_path / "slim" / whole.name, keeps_weights=False)
    assert pack(tmp_path / "slim", tmp_path / "bundle.tar.xz") < 4 * 2**20
    with tarfile.open(tmp_path / "bundle.tar.xz") as bundle:
        bundle.extractall(tmp_path, filter="data")
    command = ["bash", "run.sh", "--models", "tiny", "--device", "cpu", "--limit", "1"]
    # Away from this checkout, so that nothing of it is found but what was packed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path / "bench-gpu", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 cells are measured" in done.stderr
    site = tmp_path / "bench-gpu" / "site" / "fantasytalking"
    assert (site / "__init__.py").is_file() and not [*site.rglob("*.safetensors"), *site.rglob("*.tflite")]
    assert (tmp_path / "bench-gpu" / "results" / "report.json").is_file()


def test_every_script_and_dependency_that_is_named_exists() -> None:
    pins = (ROOT / "constraints.txt").read_text().replace("_", "-").lower().splitlines()
    assert {name for name in SMALL if not any(line.startswith(f"{name}==") for line in pins)} == set()
    needed = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - set(SCRIPTS)
    for name in SCRIPTS:
        told = (ROOT / "benchmarks" / f"{name}.py").read_text()
        assert not [other for other in needed if f"\nfrom {other} import" in told], name
    assert pack_speed.LARGEST == 64 * 2**20
