"""The set-up script finds a Python that works, and says plainly when there is none. Nothing is installed here."""

import os
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with just what the set-up reads."""
    folder = tmp_path / "clone"
    (folder / "scripts").mkdir(parents=True)
    for name in ("scripts/setup.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def stub(folder: Path, name: str, body: str) -> None:
    """An executable shell script called `name`."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def set_up(clone: Path, stubs: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the script where no interpreter can be found but the stubs."""
    stubs.mkdir(exist_ok=True)
    for tool in ("bash", "dirname", "sed", "cksum", "cat", "rm", "uname"):
        found = shutil.which(tool)
        if found and not (stubs / tool).exists():
            (stubs / tool).symlink_to(found)
    environment = {"PATH": str(stubs), "HOME": str(clone), **variables}
    return subprocess.run(
        [str(stubs / "bash"), "scripts/setup.sh"], cwd=clone, env=environment, capture_output=True, text=True
    )


def test_no_python_at_all_gives_a_message_that_says_what_to_install(clone: Path, tmp_path: Path) -> None:
    done = set_up(clone, tmp_path / "bin")
    assert done.returncode != 0
    assert "No Python 3.11, 3.12 or 3.13" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (clone / ".venv").exists()


def test_stand_ins_of_version_managers_that_do_not_run_are_passed_over(clone: Path, tmp_path: Path) -> None:
    stub(tmp_path / "bin", "python3.11", "echo 'command not found' >&2; exit 127")
    stub(
        tmp_path / "bin",
        "python3.12",
        f'case "$1" in -c) exit 0;; --version) echo Python 3.12.0;; *) echo "$@" > {tmp_path}/made; exit 3;; esac',
    )
    done = set_up(clone, tmp_path / "bin")
    assert done.returncode == 3
    assert "Python 3.12.0" in done.stdout
    assert (tmp_path / "made").read_text().strip() == "-m venv .venv"


def test_a_named_python_that_does_not_fit_is_refused_by_name(clone: Path, tmp_path: Path) -> None:
    stub(tmp_path / "bin", "old", "exit 1")
    done = set_up(clone, tmp_path / "bin", PYTHON="old")
    assert done.returncode != 0
    assert "PYTHON=old does not run" in done.stderr


def working_python(tmp_path: Path) -> Path:
    """Puts a python3.11 on the path that "makes" an environment of itself; returns the file that lists its calls."""
    calls = tmp_path / "calls"
    stub(
        tmp_path / "bin",
        "python3.11",
        f"""
case "$1" in
  --version) echo Python 3.11.0;;
  -m) mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "$@" >> {calls};;
  scripts/uv_install.py) echo "$@" >> {calls}; if [ -n "$NO_UV" ]; then echo "told by uv" >&2; exit 2; fi;;
esac
exit 0""",
    )
    for tool in ("mkdir", "cp"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return calls


def test_torch_can_come_from_an_index_of_its_own(clone: Path, tmp_path: Path) -> None:
    calls = working_python(tmp_path)
    done = set_up(clone, tmp_path / "bin", TORCH_INDEX="https://example.org/cpu")
    assert done.returncode == 0, done.stderr
    with_index = [line for line in calls.read_text().splitlines() if " --index-url" in line]
    assert len(with_index) == 1
    # PyTorch's index has few versions of what torch needs, so that comes with the package
    assert with_index[0].endswith("--no-deps --index-url https://example.org/cpu torch")
    last = [line for line in calls.read_text().splitlines() if "--editable" in line][-1]
    assert "--extra-index-url https://example.org/cpu" in last and "--no-deps" not in last


def test_uv_installs_and_pip_where_uv_fails(clone: Path, tmp_path: Path) -> None:
    calls = working_python(tmp_path)
    assert set_up(clone, tmp_path / "bin").returncode == 0
    with_uv = [line for line in calls.read_text().splitlines() if line.endswith("--editable .")]
    assert with_uv == ["scripts/uv_install.py --constraint constraints.txt --editable ."]
    (clone / "constraints.txt").write_text("# other\n")
    done = set_up(clone, tmp_path / "bin", NO_UV="1")
    assert done.returncode == 0 and "told by uv" not in done.stderr
    last = [line for line in calls.read_text().splitlines() if line.endswith("--editable .")][-1]
    assert last.startswith("-m pip install ") and "--constraint constraints.txt" in last


CONFIGURED = """:env:.cert='/etc/ca.crt'
:env:.timeout='180'
:env:.find-links='/opt/wheels'
global.find-links='/gone'
global.constraint='/etc/limits.txt'
global.extra-index-url='\\nfile:///opt/more\\nhttps://example.org/simple'
freeze.exclude='pip'
"""
"""What `pip config list` prints."""


def test_uv_is_told_what_pip_is_told() -> None:
    uv_install = runpy.run_path(str(ROOT / "scripts" / "uv_install.py"))
    options, variables = uv_install["for_uv"](uv_install["settings"](CONFIGURED.splitlines()))
    given = [" ".join(pair) for pair in zip(options[::2], options[1::2], strict=True)]
    assert sorted(given) == [
        *("--constraint /etc/limits.txt", "--extra-index-url file:///opt/more"),
        *("--extra-index-url https://example.org/simple", "--find-links /opt/wheels"),
        "--index-strategy unsafe-best-match",
    ]
    assert variables == {"SSL_CERT_FILE": "/etc/ca.crt"}


def test_pip_installs_where_uv_cannot_be_told_of_a_setting() -> None:
    uv_install = runpy.run_path(str(ROOT / "scripts" / "uv_install.py"))
    with pytest.raises(ValueError, match="no-binary cannot be handed on"):
        uv_install["for_uv"](uv_install["settings"](["global.no-binary=':all:'"]))


def test_a_finished_set_up_is_not_repeated(clone: Path, tmp_path: Path) -> None:
    calls = working_python(tmp_path)
    first = set_up(clone, tmp_path / "bin")
    assert first.returncode == 0, first.stderr
    made = calls.read_text()
    assert "-m venv .venv" in made and "pip install" in made
    assert set_up(clone, tmp_path / "bin").returncode == 0
    assert calls.read_text() == made
    os.utime(clone / "pyproject.toml")
    assert set_up(clone, tmp_path / "bin").returncode == 0
    assert calls.read_text() == made, "a new time stamp with the same content is no reason to install again"
    (clone / "constraints.txt").write_text("# other\n")
    assert set_up(clone, tmp_path / "bin").returncode == 0
    assert calls.read_text() != made
