"""What native code writes to stderr is discarded within the block alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fantasytalking.system.native_output import quiet_stderr

AS_CLOSED = """
import os, sys
for number in (0, 1, 2):
    os.close(number)
sys.stdout = sys.stderr = None
from fantasytalking.system.native_output import fill_closed_descriptors
fill_closed_descriptors()
with open(sys.argv[1], "w") as file:
    os.write(2, b"from native code")
    print("from Python", file=sys.stderr)
    file.write(str(file.fileno()))
"""


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", AS_CLOSED, str(tmp_path / "video")], check=True)
    assert int((tmp_path / "video").read_text()) > 2


def test_stderr_is_quiet_within_the_block_and_back_after_it(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        os.write(2, b"from native code")
    with pytest.raises(FileNotFoundError), quiet_stderr():
        os.stat("/no/such/file")
    os.write(2, b"after it")
    assert capfd.readouterr().err == "after it"


def test_blocks_in_two_threads_leave_stderr_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    """The second begins within the first and ends after it, unless they take turns."""
    is_open, may_end = threading.Event(), threading.Event()

    def first() -> None:
        with quiet_stderr():
            is_open.set()
            may_end.wait(0.2)

    def second() -> None:
        is_open.wait()
        with quiet_stderr():
            may_end.set()
            threads[0].join(0.2)

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"after both")
    assert capfd.readouterr().err == "after both"
