"""The commands and the Python of docs/serving.md run as they stand there, against a server of this test."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fantasytalking
from fantasytalking.media.video import write_video
from fantasytalking.provenance.marks import Marks
from tests.pipeline.tiny_pipeline import portrait
from tests.serving.hand_service import HandService
from tests.serving.live_server import running

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
EXAMPLE = Path(fantasytalking.__file__).parent / "models" / "embedded" / "example"
WRITTEN = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A marked video."""
    frames = [np.roll(portrait(320), step, axis=1) for step in (0, 1, 2, 1, 0, 1)]
    return write_video(tmp_path_factory.mktemp("film") / "video.mp4", frames, 25, marks=Marks()).read_bytes()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, film: bytes) -> Iterator[str]:
    service = HandService(tmp_path_factory.mktemp("service"))
    service.hand.film = film
    service.hand.start()
    with running(service.app, service.settings) as port:
        yield f"http://127.0.0.1:{port}"
    service.hand.stop(0)
    service.store.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("portrait.png", "speech.wav"):
        shutil.copy(EXAMPLE / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def block_before(name: str, language: str) -> str:
    """The block that names a test as its keeper."""
    text = PAGE.read_text()
    return text[text.index(f"::{name} -->") :].split(f"```{language}\n")[1].split("```")[0]


def test_the_python_of_the_page_runs(
    address: str, folder: Path, film: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(block_before("test_the_python_of_the_page_runs", "python").replace(WRITTEN, address), {})
    assert (folder / "video.mp4").read_bytes() == film
    shown = capsys.readouterr().out
    assert "completed 100.0" in shown and shown.splitlines()[-1] == "True"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_the_commands_of_the_page_run(address: str, folder: Path, film: bytes) -> None:
    answers: list[Any] = []
    for line in block_before("test_the_commands_of_the_page_run", "bash").strip().splitlines():
        given = line.replace(WRITTEN, address).replace("ID", answers[0]["id"] if answers else "")
        done = subprocess.run([*given.split(), "-sS"], capture_output=True, text=True, timeout=60, check=True)
        if "events" in line:
            assert "event: end" in done.stdout
            continue
        answers.append(json.loads(done.stdout or "null"))
    made, listed, _, checked, _, cancelled, deleted = answers
    assert made["status"] == "queued" and made["settings"]["seed"] == 3 and listed["data"][0]["id"] == made["id"]
    assert (folder / "video.mp4").read_bytes() == film and checked["is_marked"]
    assert (folder / "portrait.png").read_bytes().startswith(b"\x89PNG")
    assert cancelled["error"]["code"] == "already_ended" and deleted["deleted"] is True
