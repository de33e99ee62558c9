"""Progress for people is on stderr: bars on a terminal, lines elsewhere, and notes that break up neither."""

from __future__ import annotations

import ast
import os
import pty
import re
import sys
import threading
from pathlib import Path

import pytest

from fantasytalking.pipeline import progress
from fantasytalking.pipeline.progress import TerminalProgress, print_line, show_note, stage
from tests.training.tiny_run import trainer


def test_a_stage_off_a_terminal_is_lines_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE", 0.0)
    with stage("face tracks", 4) as advance:
        advance()
        show_note("A clip is left out.")
        advance(3)
    with stage("nothing", 0):
        pass
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(
        r"face tracks: 1 of 4, 0:00 left\nnote: A clip is left out.\nface tracks: done in 0:00\n", shown.err
    )


def test_a_program_without_standard_error_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under pythonw on Windows."""
    monkeypatch.setattr(sys, "stderr", None)
    assert type(progress.default_progress()) is progress.Progress
    with TerminalProgress().stage("loading"):
        show_note("A clip is left out.")


def test_a_stage_that_fails_is_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), TerminalProgress().stage("loading"):
        raise ZeroDivisionError
    assert "done" not in capsys.readouterr().err


def on_terminal(work: str) -> str:
    """What a program prints to stderr, which is a terminal; its stdout is none and stays empty."""
    pid, terminal = pty.fork()
    if pid == 0:
        out = os.open(os.devnull, os.O_WRONLY)
        os.dup2(out, 1)
        os.environ |= {"COLUMNS": "200", "TERM": "xterm"}
        os.execv(sys.executable, [sys.executable, "-c", work])
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert os.waitpid(pid, 0)[1] == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_on_a_terminal_notes_of_any_thread_stand_above_the_bar() -> None:
    shown = on_terminal(
        "import threading\n"
        "from fantasytalking.pipeline.progress import show_note, stage\n"
        "with stage('mouth pairs', 3) as advance:\n"
        "    advance()\n"
        "    other = threading.Thread(target=show_note, args=('The set is as it was prepared ' + 200 * 'x',))\n"
        "    other.start(); other.join()\n"
        "    with stage('inner', 2) as inside:\n"
        "        inside(2)\n"
        "    advance(2)\n"
    )
    lines = [line.strip() for line in re.split(r"[\r\n]+", shown)]
    assert f"note: The set is as it was prepared {200 * 'x'}" in shown.replace("\r\n", "").replace("\n", "")
    assert "inner: done in 0:00" in lines
    assert any(re.fullmatch(r"mouth pairs .*3/3.*left.*", line) for line in lines)


def test_training_off_a_terminal_is_text_and_says_which_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path / "painter").train(until=2)
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert shown.out == ""
    assert lines[0] == "painter: training from step 0 to 2"
    assert re.fullmatch(
        r"painter: step 1 of 2, clip: loss [\d.]+, lips [\d.]+, rest [\d.]+, [\d.]+ steps/s, [\d.]+ min left", lines[1]
    )


def test_only_commands_print() -> None:
    package, found = Path(progress.__file__).parents[1], []
    for path in package.rglob("*.py"):
        if path.parent.name != "cli":
            calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
            found += [path.name for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    assert found == []


def test_lines_of_threads_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    threads = [threading.Thread(target=print_line, args=(str(i) * 50,)) for i in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(capsys.readouterr().err.splitlines()) == [str(i) * 50 for i in range(8)]
