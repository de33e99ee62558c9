"""`fantasytalking serve`: what is refused before anything is started. The running service is tested in tests/serving."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.system.records import describe


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--prot", "1"], "There is no option --prot; did you mean --port?"),
        (["--port", "70000"], "port must be a whole number from 0 to 65535, but '70000' was given"),
        (["--engine", "rays"], "did you mean 'ray'?"),
        (["--devices", "cuda:99"], "There is no device 'cuda:99' on this machine; use"),
        (["--devices", "cpu,tpu"], "There is no device 'tpu' on this machine; use"),
        (["--devices", ""], "devices must name one at least, such as auto"),
        (["--host", "0.0.0.0"], "where others can call it, and has no tokens"),
    ],
)
def test_a_server_that_cannot_be_is_refused_in_one_sentence(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--data", str(tmp_path / "data"), *words]) == 2
    shown = capsys.readouterr().err
    assert told in shown and shown.count("\n") == 1 and not (tmp_path / "data").exists()


def test_an_address_that_is_taken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--data", str(tmp_path / "data"), "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["file", "file/data", "dangling"])
def test_a_data_folder_that_cannot_be_made_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "else")
    mask = os.umask(0o022)
    try:
        assert main(["serve", "--port", "0", "--data", str(tmp_path / name)]) == 2
    finally:
        os.umask(mask)
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: The output '{tmp_path / name}' could not be written") and shown.count("\n") == 1


def test_every_setting_is_an_option_but_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = capsys.readouterr().out
    for known in describe(ServerSettings):
        assert (known.option in shown) == (known.name != "tokens"), known.name
