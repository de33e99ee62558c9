"""`generate` and `demo` with a tiny real model: output, options, JSON, interruption."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fantasytalking.cli.__main__ import main
from fantasytalking.cli.options import SettingOptions, given_settings
from fantasytalking.media.video import probe_video, read_frames, write_video
from fantasytalking.pipeline.load_pipeline import use_threads
from fantasytalking.pipeline.settings import settings_list
from fantasytalking.system.machine import usable_cores
from fantasytalking.system.processes import set_threads, threads
from tests.pipeline.tiny_pipeline import EXAMPLE, embedded_pipeline, portrait, speech


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    embedded_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def given(tmp_path: Path, model: Path) -> list[str]:
    """The options that every call needs: portrait, one second of speech, model, output."""
    Image.fromarray(portrait()).save(tmp_path / "face.png")
    write_video(tmp_path / "voice.mp4", [portrait(64)] * 25, 25, speech(1.0))
    return [
        *("--image", str(tmp_path / "face.png")),
        *("--audio", str(tmp_path / "voice.mp4")),
        *("--model", str(model)),
        *("--output", str(tmp_path / "out.mp4")),
    ]


def test_the_path_of_the_video_is_the_last_line(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", *given, "--steps", "1"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == str(tmp_path / "out.mp4")
    info = probe_video(tmp_path / "out.mp4")
    assert (info.frames, info.fps, info.width, info.height, info.has_audio) == (25, 25, 192, 192, True)
    assert all(stage in shown.err for stage in ("loading", "sampling", "decoding", "writing"))


def test_a_video_is_made_without_the_packages_of_other_features(given: list[str], tmp_path: Path) -> None:
    """They take a third of the time until the first step; the list is a lower bound of what must stay out."""
    assert main(["generate", *given, "--steps", "1", "--seed", "5"]) == 0
    usual = read_frames(tmp_path / "out.mp4")[0]
    words = ["generate", *given, "--steps", "1", "--seed", "5", "--overwrite"]
    code = (
        "import json, sys\nfrom fantasytalking.cli.__main__ import main\n"
        "from fantasytalking.system.startup import SELDOM_USED\n"
        f"assert main({words!r}) == 0\n"
        "others = ['torch._inductor', 'networkx', 'sklearn', 'PIL.PdfImagePlugin', 'pandas', 'ray', 'torchao', 'matplotlib']\n"
        "print(json.dumps([name for name in [*SELDOM_USED, *others] if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
    # Frames, as no two signatures are alike.
    np.testing.assert_array_equal(read_frames(tmp_path / "out.mp4")[0], usual)


@pytest.fixture
def restored() -> Iterator[None]:
    """The numbers of threads of this process, as they were."""
    with threads(torch.get_num_threads()):
        yield


@pytest.mark.parametrize("count", [1, 2])
def test_the_number_of_threads_reaches_networks_opencv_and_encoder(
    given: list[str], tmp_path: Path, restored: None, count: int
) -> None:
    assert main(["generate", *given, "--steps", "1", "--max-seconds", "0.4", "--threads", str(count)]) == 0
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (count, count)
    # x264 writes its options into the file: it must not wait for the last 40 frames, nor take as long as the frames do
    options = (tmp_path / "out.mp4").read_bytes()
    assert f"threads={count} ".encode() in options and b"rc_lookahead=10 " in options and b"crf=15.0 " in options


def test_a_small_model_takes_one_thread_unless_the_environment_says_otherwise(
    restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert use_threads(embedded_pipeline()) == 2 and torch.get_num_threads() == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert use_threads(embedded_pipeline()) == 0 and (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)


@pytest.mark.parametrize(("count", "seen"), [(None, min(2, usable_cores())), (1, 1)])
def test_speech_is_encoded_on_two_threads_where_nobody_said_how_many(
    restored: None, monkeypatch: pytest.MonkeyPatch, count: int | None, seen: int
) -> None:
    """Before, the second core waited while it was encoded."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pipeline = embedded_pipeline()
    use_threads(pipeline, count)
    used: list[int] = []
    pipeline.audio_encoder.register_forward_hook(lambda *_: used.append(torch.get_num_threads()))
    pipeline(portrait(), speech(0.4), steps=1)
    assert used == [seen] and torch.get_num_threads() == 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux lists the threads of a process")
def test_the_face_networks_start_no_threads() -> None:
    code = (
        "import os\n"
        "import numpy as np\n"
        "from fantasytalking.perception.networks.network_runner import Network\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "Network('selfie_segmentation')(np.zeros((1, 256, 256, 3), np.float32))\n"
        "print(len(os.listdir('/proc/self/task')) - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]


@pytest.mark.parametrize("count", [0, 10**9])
def test_an_impossible_number_of_threads_is_told_before_the_inputs_are(
    capsys: pytest.CaptureFixture[str], count: int
) -> None:
    assert main(["generate", "--image", "x", "--audio", "x", "--output", "x.mp4", "--threads", str(count)]) == 2
    sentence = f"error: --threads must be at least 1 and at most 1024, but {count} was given."
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("--stream",), ("--max-seconds", "30")], ids=["file", "stream", "long"])
def test_each_stage_is_told_once(given: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", *given, "--steps", "1", "--longest-side", "96", *words]) == 0
    told = re.findall(r"^(\w+): done", capsys.readouterr().err, re.MULTILINE)
    assert "loading" in told and len(told) == len(set(told)), told


def test_programs_get_one_json_object(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", *given, "--json", "--steps", "1", "--seed", "11", "--max-seconds", "0.4"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["output"] == str(tmp_path / "out.mp4") and result["frames"] == 10 and result["fps"] == 25
    assert result["settings"]["seed"] == 11 and result["settings"]["steps"] == 1
    assert result["notes"] == ["Only the first 0.4 s of the speech are used (max_seconds)."]
    assert {"reading", "encoding", "sampling", "decoding"} <= set(result["seconds"])


def test_programs_get_errors_as_json_too(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", *given, "--json", "--steps", "0"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "SettingsError" and error["message"].startswith("steps must be")


def test_every_setting_is_an_option_of_generate_and_demo(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("generate", "demo"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = capsys.readouterr().out
        assert all(f"{setting.option} " in shown for setting in settings_list())


def test_an_option_that_is_not_given_leaves_the_models_own_default() -> None:
    assert given_settings(SettingOptions()) == {}
    assert given_settings(SettingOptions(fps="none", prompt="")) == {"fps": None, "prompt": ""}


def test_the_demo_needs_no_argument_but_a_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its model may still be missing from a checkout; the folder of a tiny one stands in for it."""
    from fantasytalking.pipeline import model_names

    monkeypatch.setattr(model_names, "EMBEDDED", "another name")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embedded").symlink_to(model)
    assert main(["demo", "--steps", "1", "--longest-side", "128", "--max-seconds", "0.5"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "demo.mp4"
    info = probe_video(tmp_path / "demo.mp4")
    assert (info.frames, info.width, info.height, info.has_audio) == (12, 128, 128, True)


def test_the_example_of_the_demo_is_in_the_package_with_its_sources() -> None:
    notice = (EXAMPLE / "NOTICE").read_text()
    assert {path.name for path in EXAMPLE.iterdir()} == {"NOTICE", "portrait.png", "speech.wav"}
    assert "portrait.png" in notice and "speech.wav" in notice and "Public domain" in notice


def interrupted(options: list[str], folder: Path, moment: str) -> tuple[int, str]:
    """Press Ctrl-C at a moment of a real process: when a stage begins, or when a file of a pattern is there."""
    # A terminal's Ctrl-C reaches the process group; here the process has one of its own.
    process = subprocess.Popen(
        [sys.executable, "-m", "fantasytalking.cli", "generate", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    assert process.stderr is not None
    if "*" in moment:
        while (
            not any(path.stat().st_size for path in folder.glob(moment))
            and time.monotonic() < deadline
            and process.poll() is None
        ):
            time.sleep(0.002)
    else:
        while moment not in process.stderr.readline() and time.monotonic() < deadline and process.poll() is None:
            pass
    os.killpg(process.pid, signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    return process.returncode, rest


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["encoding", ".*.part*"])
def test_ctrl_c_leaves_no_file_and_says_so(moment: str, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    options = [
        *("--image", str(EXAMPLE / "portrait.png"), "--audio", str(EXAMPLE / "speech.wav")),
        *("--model", str(model), "--output", str(folder / "out.mp4"), "--steps", "1", "--max-seconds", "1"),
    ]
    code, shown = interrupted(options, folder, moment)
    assert code == 130
    assert shown.splitlines()[-1] == "Interrupted. No half-written file remains."
    assert not list(folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "moment", "left", "told"),
    [
        # written from what is kept, so that is there by then
        ((), ".*.part*", "out.mp4.unfinished", "Interrupted. The same call goes on from there."),
        (("--stream",), "*.mp4", "out.mp4", "Interrupted. The stream ends there; what was written of it plays."),
    ],
    ids=["long", "stream"],
)
def test_ctrl_c_tells_what_is_kept(
    words: tuple[str, ...], moment: str, left: str, told: str, model: Path, tmp_path: Path
) -> None:
    with wave.open(str(EXAMPLE / "speech.wav")) as source, wave.open(str(tmp_path / "long.wav"), "wb") as long:
        long.setparams(source.getparams())
        long.writeframes(source.readframes(source.getnframes()) * 8)
    folder = tmp_path / "output"
    folder.mkdir()
    options = [
        *("--image", str(EXAMPLE / "portrait.png"), "--audio", str(tmp_path / "long.wav"), *words),
        *("--model", str(model), "--output", str(folder / "out.mp4"), "--steps", "1", "--longest-side", "128"),
    ]
    code, shown = interrupted(options, folder, moment)
    lines = shown.splitlines()
    assert (code, lines[-1]) == (130, told) and "Traceback" not in shown
    assert [path.name for path in folder.iterdir()] == [left]
    assert words or "finished and kept in 'out.mp4.unfinished'" in lines[-2]
    assert not words or probe_video(folder / left).frames >= 1
