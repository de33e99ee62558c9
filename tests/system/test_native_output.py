"""What native code writes to stderr is discarded within the block alone."""

from __future__ import annotations

import os

import pytest

from fantasytalking.system.native_output import quiet_stderr


def test_stderr_is_quiet_within_the_block_and_back_after_it(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        os.write(2, b"from native code")
    with pytest.raises(FileNotFoundError), quiet_stderr():
        os.stat("/no/such/file")
    os.write(2, b"after it")
    assert capfd.readouterr().err == "after it"
