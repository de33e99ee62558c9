"""`generate --audio -` with a tiny real model: raw samples on standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fantasytalking.cli.__main__ import main
from fantasytalking.media.video import probe_video
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech

DATA = np.round(speech(1.6).samples * 32767).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that every call needs but rate and output."""
    folder = tmp_path_factory.mktemp("given")
    embedded_pipeline(max_frames=33, long_video="continue").save_pretrained(folder / "model")
    Image.fromarray(portrait(160)).save(folder / "face.png")
    return ["--image", str(folder / "face.png"), "--audio", "-", "--model", str(folder / "model")]


@pytest.fixture
def standard_input() -> Iterator[int]:
    """A pipe in place of standard input; gives its other end."""
    read, write = os.pipe()
    before, usual = os.dup(0), sys.stdin
    os.dup2(read, 0)
    os.close(read)
    with open(0, closefd=False) as stdin:
        sys.stdin = stdin
        try:
            yield write
        finally:
            sys.stdin = usual
            os.dup2(before, 0)
            os.close(before)


def test_raw_samples_are_said_and_the_delay_is_told(
    given: list[str], tmp_path: Path, standard_input: int, capsys: pytest.CaptureFixture[str]
) -> None:
    os.write(standard_input, DATA)
    os.close(standard_input)
    path = tmp_path / "out.mp4"
    assert main(["generate", *given, "--pcm-rate", "16000", "--output", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["frames"] == 40 and told["delay_median_seconds"] > 0
    assert told["delay_99th_percentile_seconds"] >= told["delay_median_seconds"]
    info = probe_video(path)
    assert (info.frames, info.fps, info.has_audio) == (40, 25, True)


@pytest.mark.parametrize(
    ("data", "words", "told"),
    [
        (DATA[:8001], ["--pcm-rate", "16000"], "ends within a sample: 1 bytes are left of 2; is it s16le, mono?"),
        (b"", ["--pcm-rate", "16000"], "Standard input ended before any sound came"),
        (DATA, [], "add --pcm-rate, such as --pcm-rate 16000"),
        (DATA, ["--pcm-rate", "11111"], "a multiple of 25, not 11111"),
        (DATA, ["--pcm-rate", "16000", "--pcm-format", "s24le"], "s24le"),
        (DATA, ["--pcm-rate", "16000", "--parallel", "auto"], "Live speech is said by one process"),
        (DATA, ["--pcm-rate", "16000", "--long-video", "windows"], "give long_video='continue'"),
    ],
)
def test_what_cannot_be_said_is_told_in_a_sentence(
    data: bytes,
    words: list[str],
    told: str,
    given: list[str],
    tmp_path: Path,
    standard_input: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.write(standard_input, data)
    os.close(standard_input)
    assert main(["generate", *given, *words, "--output", str(tmp_path / "out.mp4")]) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error


def test_options_of_standard_input_need_it(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word if word != "-" else str(tmp_path / "voice.wav") for word in given]
    assert main(["generate", *words, "--pcm-rate", "16000", "--output", str(tmp_path / "out.mp4")]) == 2
    assert "add --audio -" in capsys.readouterr().err


def test_a_terminal_is_no_standard_input(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals")
    first, second = pty.openpty()
    with open(second) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert main(["generate", *given, "--pcm-rate", "16000", "--output", str(tmp_path / "out.mp4")]) == 2
    os.close(first)
    assert "which is a terminal; send it from a program or a file" in capsys.readouterr().err


@pytest.mark.slow  # a process of its own, which Ctrl-C reaches
def test_ctrl_c_ends_the_speech_and_what_was_heard_is_said(given: list[str], tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "fantasytalking.cli", "generate", *given, "--pcm-rate", "16000"]
    process = subprocess.Popen(
        [*command, "--output", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(DATA)
    process.stdin.flush()
    while not path.exists() or not path.stat().st_size:
        assert process.poll() is None, process.stderr.read().decode()
    process.send_signal(2)
    shown = process.stderr.read().decode()
    process.stdin.close()
    assert process.wait(60) == 0 and "what has been heard is still said" in shown
    assert probe_video(path).frames == 40 and process.stdout.read().decode().strip() == str(path)
    process.stdout.close()
    process.stderr.close()
