"""What the system refuses to every command alike: names that are too long, and a standard output that takes no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fantasytalking.cli.__main__ import COMMANDS, main
from fantasytalking.pipeline.model_names import embedded_folder

LONG = "n" * 300
EXAMPLE = embedded_folder() / "example"
IMAGE, AUDIO = str(EXAMPLE / "portrait.png"), str(EXAMPLE / "speech.wav")
GENERATE = ("generate", "--image", IMAGE, "--audio", AUDIO)
NAMES: dict[str, tuple[str, ...]] = {
    "generate --image": ("generate", "--image", f"{LONG}.png", "--audio", AUDIO, "--output", "o.mp4"),
    "generate --audio": ("generate", "--image", IMAGE, "--audio", f"{LONG}.wav", "--output", "o.mp4"),
    "generate --output": (*GENERATE, "--output", f"{LONG}.mp4"),
    "generate --output in a folder": (*GENERATE, "--output", f"{LONG}/o.mp4"),
    "generate --model": (*GENERATE, "--output", "o.mp4", "--model", LONG),
    "demo --output": ("demo", "--output", f"{LONG}.mp4"),
    "batch": ("batch", f"{LONG}.jsonl", "--output", "o"),
    "batch --output": ("batch", "here.txt", "--output", LONG),
    "download": ("download", LONG),
    "convert, source": ("convert", f"{LONG}.safetensors", "o.safetensors", "--layout", "released"),
    "convert, target": ("convert", "here.txt", LONG, "--layout", "released"),
    "convert --adapter": ("convert", "folder", "o", "--layout", "pipeline", "--adapter", LONG),
    "convert --audio-encoder": ("convert", "folder", "o", "--layout", "pipeline", "--audio-encoder", LONG),
    "convert --config": ("convert", "folder", "o", "--layout", "pipeline", "--config", LONG),
    "prepare": ("prepare", LONG, "--output", "o"),
    "prepare --output": ("prepare", "folder", "--output", LONG),
    "train --data": ("train", "embedded", "--data", LONG, "--output", "o"),
    "train --output": ("train", "embedded", "--data", "folder", "--output", LONG),
    "train --start": ("train", "embedded", "--data", "folder", "--output", "o", "--start", LONG),
    "train --teacher": ("train", "distil", "--data", "folder", "--output", "o", "--teacher", LONG),
    "train --base": ("train", "adapter-14b", "--data", "folder", "--output", "o", "--base", LONG),
    "export, run": ("export", LONG, "o", "--layout", "model"),
    "export, target": ("export", "folder", LONG, "--layout", "model"),
    "export --base": ("export", "folder", "o", "--layout", "model", "--base", LONG),
    "export --pipeline": ("export", "folder", "o", "--layout", "model", "--pipeline", LONG),
    "evaluate --reference": ("evaluate", "--generated", "folder", "--reference", LONG, "--output", "o"),
    "evaluate --output": ("evaluate", "--generated", "folder", "--reference", "folder", "--output", LONG),
    "evaluate --generated": ("evaluate", "--generated", LONG, "--reference", "folder", "--output", "o"),
    "compare": ("compare", LONG, "folder", "--output", "o"),
    "compare --output": ("compare", "folder", "folder", "--output", LONG),
    "benchmark": ("benchmark", f"{LONG}.json", "--data", "folder", "--output", "o"),
    "benchmark --data": ("benchmark", "here.txt", "--data", LONG, "--output", "o"),
    "benchmark --output": ("benchmark", "here.txt", "--data", "folder", "--output", LONG),
    "manifest": ("manifest", LONG, "--output", "o.json", "--name", "n"),
    "verify": ("verify", f"{LONG}.mp4"),
    "serve --data": ("serve", "--port", "0", "--data", LONG),
    "serve --config": ("serve", "--port", "0", "--config", f"{LONG}.toml"),
    "comfyui": ("comfyui", LONG),
    "manifest --output": ("manifest", "folder", "--output", f"{LONG}.json", "--name", "n"),
}


@pytest.mark.parametrize("where", NAMES)
def test_a_name_of_300_characters_is_one_sentence(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "here.txt").write_text("{}")
    assert main(NAMES[where]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("error: ") and line.endswith(".") and "n" * 40 in line, line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "here.txt"]
    assert not list((tmp_path / "folder").iterdir())


def test_a_path_that_only_the_system_refuses_is_an_error_as_json_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*NAMES["evaluate --generated"], "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["message"].endswith("use shorter names.")


def test_every_command_with_a_path_is_tried() -> None:
    assert {where.split()[0].rstrip(",") for where in NAMES} == set(COMMANDS) - {"info", "weights"}


PRINTING = {
    "info": ("info",),
    "info --json": ("info", "--json"),
    "weights": ("weights",),
    "benchmark --list": ("benchmark", "--list"),
    "train": ("train",),
    "the version": ("--version",),
    "help of generate": ("generate", "--help"),
    "the list of commands": ("--help",),
    "an error as JSON": (*GENERATE, "--output", "no/folder/o.mp4", "--json"),
}


def test_a_closed_standard_error_does_not_reach_the_output(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "fantasytalking.cli", *PRINTING["an error as JSON"]]
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *words], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "no/folder" in json.loads(done.stdout)["error"]["message"]


def test_a_closed_standard_output_takes_no_stream(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main([*GENERATE, "--output", "-"]) == 2
    assert "goes to standard output, which is closed" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("kind", PRINTING)
def test_a_full_standard_output_is_one_sentence(kind: str, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fantasytalking.cli", *PRINTING[kind]],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100"},
        )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: The standard output takes no more (No space left on device)")
