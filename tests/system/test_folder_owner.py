"""One process at a time writes into a folder, and a dead owner does not keep it."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fantasytalking.errors import OutputError
from fantasytalking.system import folder_owner
from fantasytalking.system.folder_owner import OWNER, owned

HOLD = """
import sys, time
from pathlib import Path
from fantasytalking.system.folder_owner import owned
with owned(Path(sys.argv[1]), "training in"):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_and_a_killed_one_is_replaced(tmp_path: Path) -> None:
    folder, told = tmp_path / "run", list[str]()
    with holder(folder) as other:
        with pytest.raises(OutputError) as refused, owned(folder, "evaluating into"):
            pass
        assert re.fullmatch(
            rf"Another process is training in '{folder}' \(process {other.pid} on \S+, since [\d-]+ [\d:]+ UTC\); "
            "wait for it, stop it, or choose another --output.",
            str(refused.value),
        )
        other.send_signal(signal.SIGKILL)
        other.wait()
        with owned(folder, "evaluating into", tell=told.append):
            assert json.loads((folder / OWNER).read_text())["process"] == os.getpid()
    assert len(told) == 1 and f"process {other.pid}" in told[0] and "takes over" in told[0]


def test_a_folder_is_left_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), owned(tmp_path / "new" / "run", "training in"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with owned(tmp_path / "new" / "run", "training in"):
        (tmp_path / "new" / "run" / "result").touch()
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["result"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"The run folder .* cannot be made or written .*give a folder"),
        owned(tmp_path / "file" / "run", "training in", kind="run folder"),
    ):
        pass


def record(folder: Path, **changes: object) -> Path:
    """A folder with the file of an owner that was not able to remove it."""
    with owned(folder, "training in"):
        text = (folder / OWNER).read_text()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OWNER).write_text(json.dumps(json.loads(text) | changes))
    return folder / OWNER


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no locks, as some clusters' have none."""

    def refuse(number: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(folder_owner, "lock", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_process_is_known_by_its_number_and_its_start(tmp_path: Path) -> None:
    record(tmp_path)
    with pytest.raises(OutputError, match="Another process is training in"), owned(tmp_path, "training in"):
        pass
    record(tmp_path / "reused", born=1.0)
    with owned(tmp_path / "reused", "training in"):
        pass


@contextmanager
def beating(path: Path) -> Iterator[None]:
    """Touch a file again and again, as its owner does."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_an_owner_on_another_machine_is_watched_for_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_owner, "BEAT", 0.1)
    monkeypatch.setattr(folder_owner, "SILENCE", 0.5)
    path, told = record(tmp_path, host="elsewhere", boot="another"), list[str]()
    refusal = pytest.raises(OutputError, match="on elsewhere")
    with beating(path), refusal, owned(tmp_path, "training in", tell=told.append):
        pass
    assert "waiting up to" in told[0]
    with owned(tmp_path, "training in"):
        before = (tmp_path / OWNER).stat().st_mtime_ns
        deadline = time.monotonic() + 30
        while (tmp_path / OWNER).stat().st_mtime_ns == before:
            assert time.monotonic() < deadline, "the owner gives no sign of life"
            time.sleep(0.05)


def test_an_owner_on_another_machine_that_is_long_silent_is_not_waited_for(tmp_path: Path) -> None:
    path, told = record(tmp_path, host="elsewhere", boot="another"), list[str]()
    os.utime(path, (1, 1))
    with owned(tmp_path, "training in", tell=told.append):
        pass
    assert len(told) == 1 and "takes over" in told[0]
