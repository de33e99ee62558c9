"""Pack `make bench-gpu` for a machine with a CUDA card and PyTorch, but without network: one file of at most 64 MiB.

It holds this package without its weights, the benchmark, and wheels of small dependencies, of which those are installed that the machine
lacks, beside its own packages. On the machine:

    tar xJf bench-gpu.tar.xz && bash bench-gpu/run.sh

Run that again until it says that all cells are measured; then send bench-gpu/results/report.json and speed.svg.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = (
    "benchmark_run",
    "clips",
    "other_loops",
    "speed",
    "speed_cells",
    "speed_loading",
    "speed_models",
    "speed_quality",
    "speed_report",
    "speed_worker",
    "step_caches",
)
SMALL = (
    "accelerate",
    "annotated-types",
    "av",
    "diffusers",
    "einops",
    "ftfy",
    "huggingface-hub",
    "importlib-metadata",
    "jinja2",
    "markdown-it-py",
    "markupsafe",
    "mdurl",
    "peft",
    "psutil",
    "pydantic",
    "pydantic-core",
    "pygments",
    "regex",
    "rich",
    "safetensors",
    "soxr",
    "tokenizers",
    "transformers",
    "typing-inspection",
    "wcwidth",
    "zipp",
)
"""Dependencies whose wheels travel. NumPy, SciPy, Pillow and OpenCV are large, and beside PyTorch on nearly every machine of this kind."""
LARGEST = 64 * 2**20
PLATFORMS = tuple(f"manylinux{name}_x86_64" for name in ("_2_28", "_2_27", "_2_24", "_2_17", "2014", "1"))
RUN = """#!/usr/bin/env bash
# Measures what is not measured yet, for at most nine minutes; options are those of benchmarks/speed.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
python="${PYTHON:-python3}"
if [ ! -f site/.installed ]; then
  lacking=$("$python" lacking.py wheels/*.whl)
  "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target site $lacking
  touch site/.installed
fi
PYTHONPATH="$PWD/site" exec "$python" -W ignore benchmarks/speed.py --models 14b --output results "$@"
"""
LACKING = '''"""Print those of the wheels whose package this machine lacks, or has in an older version than this project accepts."""

import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename

wheels = {canonicalize_name(parse_wheel_filename(Path(path).name)[0]): path for path in sys.argv[1:]}
with zipfile.ZipFile(wheels["fantasytalking"]) as own:
    metadata = next(own.read(name).decode() for name in own.namelist() if name.endswith(".dist-info/METADATA"))
told = [line.partition(":")[2] for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
bounds = {canonicalize_name(one.name): one.specifier for one in map(Requirement, told)}
for name, path in wheels.items():
    try:
        there = name != "fantasytalking" and (name not in bounds or bounds[name].contains(version(name), prereleases=True))
    except PackageNotFoundError:
        there = False
    if not there:
        print(path)
'''


def repack(wheel: Path, target: Path, keeps_weights: bool = True) -> None:
    """Copy a wheel uncompressed, as the whole bundle is compressed better than each file; or without its weights."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as slim:
        for name in source.namelist():
            if not keeps_weights and is_weights(name):
                continue
            content = source.read(name)
            if not keeps_weights and name.endswith(".dist-info/RECORD"):
                lines = content.decode().splitlines(keepends=True)
                content = "".join(line for line in lines if not is_weights(line.split(",")[0])).encode()
            slim.writestr(name, content)


def is_weights(name: str) -> bool:
    """Whether a file of the package holds weights."""
    return name.endswith((".safetensors", ".tflite", ".npz"))


def build_wheel(folder: Path) -> Path:
    """Build the package's wheel in a folder, without weights."""
    with tempfile.TemporaryDirectory() as scratch:
        _pip("wheel", "--no-deps", "--wheel-dir", scratch, str(ROOT))
        (made,) = Path(scratch).glob("fantasytalking-*.whl")
        # A model of random weights needs none of them.
        repack(made, folder / made.name, keeps_weights=False)
    return folder / made.name


def download(folder: Path, python: str) -> None:
    """Download the wheels of small dependencies for Linux on x86-64, in the tested versions."""
    chosen = [one for platform in PLATFORMS for one in ("--platform", platform)]
    options = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python, *chosen]
    with tempfile.TemporaryDirectory() as scratch:
        _pip("download", *options, "-c", str(ROOT / "constraints.txt"), "-d", scratch, *SMALL)
        for wheel in Path(scratch).glob("*.whl"):
            repack(wheel, folder / wheel.name)


def _pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", words[0], "-qq", *words[1:]], check=True)


def pack(wheels: Path, target: Path) -> int:
    """Write the bundle and return its size in bytes.

    Args:
        wheels: Folder of wheels.
        target: The .tar.xz file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(target, "w:xz") as bundle:
        for name, text in (("run.sh", RUN), ("lacking.py", LACKING)):
            (Path(scratch) / name).write_text(text)
            bundle.add(Path(scratch) / name, f"bench-gpu/{name}")
        for name in SCRIPTS:
            bundle.add(ROOT / "benchmarks" / f"{name}.py", f"bench-gpu/benchmarks/{name}.py")
        for wheel in sorted(wheels.glob("*.whl")):
            bundle.add(wheel, f"bench-gpu/wheels/{wheel.name}")
    return target.stat().st_size


def main() -> int:
    """Build, download and pack."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("dist/bench-gpu.tar.xz"), help="the file to write")
    parser.add_argument("--python", default="3.12", help="Python of the machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        wheels = Path(scratch)
        build_wheel(wheels)
        download(wheels, options.python)
        size = pack(wheels, options.output)
    print(f"{options.output}: {size / 2**20:.1f} MiB")
    if size > LARGEST:
        print(f"The bundle is larger than {LARGEST // 2**20} MiB; take names out of SMALL.", file=sys.stderr)
    return int(size > LARGEST)


if __name__ == "__main__":
    sys.exit(main())
