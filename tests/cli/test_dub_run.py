"""`generate --video` with a tiny real model: output, JSON, mistakes, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fantasytalking.cli.__main__ import main
from fantasytalking.cli.dub_run import parse_speakers
from fantasytalking.errors import SettingsError
from fantasytalking.media.video import probe_video, write_video
from tests.media.files import left_over
from tests.pipeline.test_dubbing import side_by_side
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, wan_pipeline


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, footage of a face, footage of a wall, and speech."""
    folder = tmp_path_factory.mktemp("inputs")
    embedded_pipeline().save_pretrained(folder / "model")
    write_video(folder / "film.mp4", [portrait()] * 10, 25, speech(0.4), preset="ultrafast")
    write_video(folder / "wall.mp4", np.full((6, 96, 128, 3), 120, np.uint8), 25, preset="ultrafast")
    write_video(folder / "voice.mp4", [portrait(64)] * 10, 25, speech(0.4), preset="ultrafast")
    return folder


def words(inputs: Path, output: Path, **changes: str | Path) -> list[str]:
    options = {
        "video": inputs / "film.mp4",
        "audio": inputs / "voice.mp4",
        "model": inputs / "model",
        "output": output,
        "steps": "1",
        "face-check": "off",
        **changes,
    }
    return ["generate", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def test_footage_is_dubbed_and_told_as_one_json_object(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "dubbed.mp4"
    assert main([*words(inputs, output), "--json"]) == 0
    shown = capsys.readouterr()
    assert "dubbing: done" in shown.err and "tracking: done" in shown.err
    assert probe_video(output).frames == 10
    found = json.loads(shown.out)
    assert (found["output"], found["frames"], found["fps"], found["width"]) == (str(output), 10, 25.0, 192)
    assert left_over(tmp_path) == ["dubbed.mp4"]


def test_mistakes_are_one_sentence_before_any_framework_is_imported(inputs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    neither = [word for word in words(inputs, output) if word not in ("--video", str(inputs / "film.mp4"))]
    commands = {
        "None of the 6 frames of the video": words(inputs, output, video=inputs / "wall.mp4"),
        "has no picture": words(inputs, output, video=inputs / "nothing.mp4"),
        "does not exist": words(inputs, output, video=inputs / "nowhere.mp4"),
        "no face 4 in the video": [*words(inputs, output), "--face", "4"],
        "Both --image and --video were given": [*words(inputs, output), "--image", "face.png"],
        "needs --image, the portrait, or --video": neither,
        "needs --audio or --speaker, not both": [*words(inputs, output), "--speaker", "0=a.wav"],
        "are not streamed": [*words(inputs, output), "--stream"],
        "dub_strength": [*words(inputs, output), "--dub-strength", "2"],
    }
    (inputs / "nothing.mp4").write_bytes((inputs / "voice.mp4").read_bytes()[:40])
    code = (
        "import sys, json\nfrom fantasytalking.cli.__main__ import main\n"
        f"for words in json.loads({json.dumps(list(commands.values()))!r}):\n    print(main(words))\n"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2"] * len(commands) + ["[]"]
    messages = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [want for want, message in zip(commands, messages, strict=True) if want not in message] == []
    assert left_over(tmp_path) == []


def test_a_track_for_each_face_is_a_face_and_a_file() -> None:
    assert parse_speakers(("0=anna.wav", "12=a=b.wav")) == {0: Path("anna.wav"), 12: Path("a=b.wav")}
    for texts, message in ((("anna.wav",), "takes FACE=AUDIO"), (("1=a.wav", "1=b.wav"), "names face 1 twice")):
        with pytest.raises(SettingsError, match=message):
            parse_speakers(texts)


@pytest.mark.parametrize("kind", ["embedded", "wan"])
def test_two_people_in_one_picture_speak_and_the_picture_is_told_of_once(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = embedded_pipeline() if kind == "embedded" else wan_pipeline(longest_side=96)
    pipeline.save_pretrained(tmp_path / "model")
    Image.fromarray(side_by_side(1)[0]).save(tmp_path / "couple.png")
    for name, seconds in (("anna", 0.4), ("ben", 0.2)):
        write_video(tmp_path / f"{name}.mp4", [portrait(64)] * round(25 * seconds), 25, speech(seconds))
    speakers = ("--speaker", f"0={tmp_path / 'anna.mp4'}", f"1={tmp_path / 'ben.mp4'}")
    files = (
        "--image",
        f"{tmp_path / 'couple.png'}",
        "--model",
        f"{tmp_path / 'model'}",
        "--output",
        f"{tmp_path / 'o.mp4'}",
    )
    options = ("--steps", "1", "--longest-side", "96", "--face-check", "off", "--json")
    assert main(["generate", *files, *speakers, *options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["frames"], told["width"]) == ((10, 96) if kind == "embedded" else (9, 96))
    assert sum("is shrunk to" in note for note in told["notes"]) == (kind == "embedded")


@pytest.mark.slow
def test_ctrl_c_while_frames_are_written_leaves_no_file(inputs: Path, tmp_path: Path) -> None:
    write_video(inputs / "long.mp4", [portrait()] * 200, 25, preset="ultrafast")
    process = subprocess.Popen(
        [sys.executable, "-m", "fantasytalking.cli", *words(inputs, tmp_path / "out.mp4", video=inputs / "long.mp4")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".*.part*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown.splitlines()[-1] == "Interrupted. No half-written file remains."
    assert left_over(tmp_path) == []
