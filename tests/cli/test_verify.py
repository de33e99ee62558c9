"""`fantasytalking verify`: what it prints, and its exit status."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.media.video import write_video
from fantasytalking.provenance.marks import Marks
from tests.pipeline.tiny_pipeline import portrait

FRAMES = [np.roll(portrait(320), step, axis=1) for step in (0, 1, 2, 1, 0, 1)]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "provenance.md"


def test_a_marked_video_is_told_in_words_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_video(tmp_path / "talking.mp4", FRAMES, 25, marks=Marks(identifier=0xABCD, model="embedded"))
    assert main(["verify", str(path)]) == 0
    told = capsys.readouterr().out
    assert "manifest:   valid, signed with this computer's own key" in told and "model embedded" in told
    assert "watermark:  found, generation 0000abcd" in told and "metadata:   trainedAlgorithmicMedia" in told
    assert main(["verify", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["is_marked"], found["manifest"]["identifier"], found["watermark"]["found"]) == (
        True,
        "0000abcd",
        True,
    )


def test_what_lacks_a_mark_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_video(tmp_path / "plain.mp4", FRAMES, 25)
    assert main(["verify", str(path)]) == 1
    told = capsys.readouterr().out
    assert "manifest:   none" in told and "watermark:  not found (in 6 frames" in told
    content = bytearray(write_video(tmp_path / "made.mp4", FRAMES, 25, marks=Marks()).read_bytes())
    content[-900] ^= 1
    (tmp_path / "changed.mp4").write_bytes(content)
    assert main(["verify", str(tmp_path / "changed.mp4")]) == 1
    assert "not valid: The file was changed after it was signed." in capsys.readouterr().out


def test_what_is_no_video_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for words in (["nowhere.mp4"], [str(tmp_path / "text.mp4")], []):
        assert main(["verify", *words]) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_the_commands_of_the_page_are_these(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "talking.mp4", FRAMES, 25, marks=Marks())
    lines = [
        line
        for line in PAGE.read_text().splitlines()
        if line.startswith("fantasytalking verify talking.mp4") and "--trust" not in line
    ]
    assert len(lines) == 2
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0
        assert capsys.readouterr().out
