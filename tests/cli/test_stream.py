"""`generate --stream` and `--output -` with a tiny real model."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import pytest
from PIL import Image

from fantasytalking.cli.__main__ import main
from fantasytalking.media.video import probe_video, write_video
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that every call needs but the output: portrait, 1.6 seconds of speech, a model whose clips are shorter."""
    folder = tmp_path_factory.mktemp("given")
    embedded_pipeline(max_frames=33, long_video="continue").save_pretrained(folder / "model")
    Image.fromarray(portrait(160)).save(folder / "face.png")
    write_video(folder / "voice.mp4", [portrait(64)] * 40, 25, speech(1.6))
    words = ["--image", "face.png", "--audio", "voice.mp4", "--model", "model"]
    return [word if word.startswith("--") else str(folder / word) for word in words]


def test_a_stream_is_written_to_a_file_and_its_pace_is_told(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.mp4"
    assert main(["generate", *given, "--output", str(path), "--stream", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["frames"], told["width"], told["output"]) == (40, 160, str(path))
    assert told["first_frame_seconds"] > 0 and told["frames_per_second"] > 0
    info = probe_video(path)
    assert (info.frames, info.fps, info.has_audio) == (40, 25, True)
    assert main(["generate", *given, "--output", str(path), "--stream"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_video_goes_to_standard_output_and_all_else_to_standard_error(
    given: list[str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["generate", *given, "--output", "-"]) == 0
    shown = capfdbinary.readouterr()
    with av.open(io.BytesIO(shown.out), "r") as container:
        assert len(list(container.decode(video=0))) == 40
    assert b"First frame after" in shown.err and b"times the video's own rate" in shown.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--output", "-", "--json"], "leave one of them out"),
        (["--output", "out.mkv", "--stream"], "ends in '.mkv'; accepted are .mp4, .m4v"),
    ],
)
def test_a_stream_that_cannot_be_written_is_refused(
    words: list[str], told: str, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", *given, *words]) == 2
    shown = capsys.readouterr()
    assert told in shown.out + shown.err
