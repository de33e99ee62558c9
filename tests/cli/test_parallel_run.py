"""`generate --parallel`: one video, one path, one sentence, whatever happens in which process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from fantasytalking.cli.__main__ import main
from fantasytalking.media.video import probe_video, write_video
from tests.acceleration.parallel_runs import free_port, in_processes
from tests.pipeline.tiny_pipeline import portrait, speech, transformer, wan_pipeline


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("parallel")
    wan_pipeline(transformer=transformer()).save_pretrained(folder / "model")
    Image.fromarray(portrait(80)[:, :48]).save(folder / "face.png")
    write_video(folder / "voice.mp4", [portrait(64)] * 10, 25, speech(0.3))
    words = {"model": "model", "image": "face.png", "audio": "voice.mp4"}
    named = [word for name, file in words.items() for word in (f"--{name}", str(folder / file))]
    return ["generate", *named, "--device", "cpu", "--longest-side", "80", "--steps", "2"]


@pytest.mark.slow
def test_two_processes_write_the_video_of_one(
    given: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    alone, together = tmp_path / "alone.mp4", tmp_path / "together.mp4"
    assert main([*given, "--output", str(alone)]) == 0
    assert main([*given, "--output", str(together), "--parallel", "ulysses=2", "--json"]) == 0
    out = capfd.readouterr().out.splitlines()
    assert out[0] == str(alone) and json.loads(out[1])["output"] == str(together) and len(out) == 2
    # The frames themselves are compared in tests/acceleration/test_ranks.py: the encoder writes the same ones differently each time.
    assert probe_video(together) == probe_video(alone)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all_with_one_sentence(given: list[str], tmp_path: Path) -> None:
    words = [*given, "--output", str(tmp_path / "out.mp4"), "--parallel", "guidance=2", "--steps", "1000"]
    run = subprocess.Popen([sys.executable, "-m", "fantasytalking.cli", *words], stderr=subprocess.PIPE, text=True)
    parent, workers = psutil.Process(run.pid), list[psutil.Process]()
    while len(workers) < 2:
        time.sleep(0.05)
        assert run.poll() is None
        workers = [one for one in parent.children() if any("spawn_main" in word for word in one.cmdline())]
    workers[1].kill()
    _, told = run.communicate(timeout=120)
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    assert run.returncode == 2 and len(errors) == 1, told
    assert "Process 1 of 2 was ended from outside (exit status -9)" in errors[0]
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    assert os.listdir(tmp_path) == []


def answers(rank: int, count: int, commands: list[tuple[int, list[str]]]) -> list[tuple[int, str, str]]:
    """Exit status, output and messages of each command."""
    found = []
    for port, command in commands:
        os.environ["MASTER_PORT"] = str(port)
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as told:
            try:
                code = main(command)
            except SystemExit as stop:
                code = int(stop.code or 0)
            found.append((code, out, told))
    return [(code, out.getvalue(), told.getvalue()) for code, out, told in found]


def test_of_processes_that_torchrun_has_started_the_first_alone_speaks(given: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    good = [*given, "--output", str(out), "--overwrite"]
    write_video(tmp_path / "film.mp4", [portrait(192)] * 10, 25)
    dubbing = [*(word for word in good if word not in ("--image", given[given.index("--image") + 1]))]
    commands = [
        [*good, "--parallel", "auto"],
        good,
        [*good, "--parallel", "guidance=3"],
        [*good, "--parallel", "guidance=2", "--steps", "0"],
        [*good, "--parallel", "guidance=2", "--lora", str(tmp_path / "none.safetensors")],
        [*good, "--parallel", "guidance=2", "--prompt-guidance-scale", "1", "--json"],
        [*good, "--parallel", "ulysses=2", "--stream", "--json"],
        [*good, "--parallel", "guidance=2", "--stream", "--output", str(tmp_path)],
        [*dubbing, "--parallel", "guidance=2", "--video", str(tmp_path / "film.mp4")],
        [*dubbing, "--parallel", "guidance=2", "--video", str(tmp_path / "nowhere.mp4")],
        [*good, "--parallel", "guidance=2", "--audio", "-", "--pcm-rate", "16000"],
    ]
    first, second = in_processes(2, answers, [(free_port(), command) for command in commands])
    assert first[0][:2] == (0, f"{out}\n") and second[0] == (0, "", "")
    for number, message in (
        (1, "torchrun has started this command 2 times"),
        (2, "guidance=3,ulysses=1 is for 3 processes, but there are 2"),
        (3, "steps"),
        (4, "There is no LoRA file"),
        (7, f"'{tmp_path}'"),
        (9, "nowhere.mp4"),
        (10, "Live speech is said by one process"),
    ):
        assert first[number][0] == 2 and message in first[number][2] and first[number][2].count("error: ") == 1
        assert second[number] == (2, "", "")
    assert json.loads(first[5][1])["settings"]["prompt_guidance_scale"] == 1 and second[5] == (0, "", "")
    assert json.loads(first[6][1])["frames"] == 9 and second[6] == (0, "", "")
    assert first[8][:2] == (0, f"{out}\n") and second[8] == (0, "", "")
    assert probe_video(out).frames == 10


def test_without_several_devices_it_runs_as_usual(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*given, "--output", str(tmp_path / "out.mp4"), "--parallel", "auto"]) == 0
    assert "note: There is one device for --parallel" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--parallel", "ring=2"),
            "given as auto, guidance=2, ulysses=4 or guidance=2,ulysses=2, but 'ring=2' was given",
        ),
        (("--parallel", "guidance=4"), "A step has 3 guidance passes at most"),
        (("--parallel", "auto", "--device", "cuda:1"), "each process has a device of its own"),
        (("--parallel", "guidance=2", "--image", "nowhere.png"), "nowhere.png"),
    ],
)
def test_a_division_that_cannot_be_is_one_sentence(
    given: list[str], tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*given, "--output", str(tmp_path / "out.mp4"), *words]) == 2
    told = capsys.readouterr().err.strip()
    assert message in told and told.count("\n") == 0
