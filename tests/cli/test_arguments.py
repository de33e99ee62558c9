"""Options of every command: each has a sentence of help, and a mistake in one is told before a framework is imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fantasytalking.cli.__main__ import COMMANDS, main
from fantasytalking.cli.train import FAMILIES
from fantasytalking.pipeline.model_names import embedded_folder
from tests.command_help import OPTION, PAGES, help_text

EXAMPLE = embedded_folder() / "example"
HEAVY = ("torch", "diffusers", "transformers", "cv2", "av")


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_every_option_has_a_sentence(words: tuple[str, ...]) -> None:
    # an entry begins with the option, and ends where the next begins
    entries = re.split(
        r"(?=(?<![\w`'(,] )(?<![\w-])--[a-z][\w.-]*(?:, --no-| [A-Z{\[]|, --[\w.]+no-))",
        help_text(*words).split(" options ", 1)[-1],
    )
    for entry in entries[1:]:
        text = re.sub(r"\((default|required|repeatable)[^)]*\)", "", OPTION.sub("", entry))
        assert re.search(r"[a-z]+ [a-z]+", text), entry


def test_no_switch_is_a_double_negative() -> None:
    for words in set(PAGES) - {("train",)}:  # its overview lists names in a row
        switches = re.findall(r"(--[\w.-]+), (--[\w.-]+)", help_text(*words))
        for positive, negative in switches:
            name, other = positive.rpartition(".")[2].removeprefix("--"), negative.rpartition(".")[2].removeprefix("--")
            assert other == f"no-{name}" and not name.startswith("no-"), (words, positive)
        assert not re.search(
            r"--(?:[\w-]+\.)*no-[\w-]+ [^(]*\(default: True\)", re.sub(r"--\S+, --\S+", "", help_text(*words))
        )


def cases(folder: Path) -> dict[str, list[str]]:
    """Mistaken command lines -> words that the sentence about each contains; every file and folder is missing."""
    gone, made, there = str(folder / "gone"), str(folder / "made"), str(folder / "model")
    (folder / "model").mkdir()
    example = f"--image {EXAMPLE / 'portrait.png'} --audio {EXAMPLE / 'speech.wav'}"
    found = {
        f"generate --image {gone} --audio {gone} --output {made}.mp4": ["image file", "does not exist"],
        f"generate --image {gone} --audio {gone} --output {made}.mp4 --steps 0": ["steps must be"],
        f"generate {example} --output {made}.mp4 --model {there}": [f"'{there}' holds no model_index.json"],
        f"generate {example} --output {made}.mp4 --lora {gone}=0.5": [
            f"There is no LoRA file '{gone}'; check the path."
        ],
        f"generate --image -a.png --audio {gone} --output {made}.mp4": ["--image needs a value", "write --image=-FILE"],
        "verify -a.mp4": ["VIDEO needs a value", "write ./-FILE"],
        "generate --nope 3": ["There is no option --nope; 'fantasytalking generate --help' lists them."],
        f"export {gone} {made} --layout model": ["There is no folder", gone],
        f"convert {gone} {made} --layout model": ["There are no weights at", gone],
        f"manifest {gone} --output {made} --name a": ["There is no video or folder", gone],
        f"manifest {gone} --output {made} --name a --fps nan": ["fps", "but nan was given"],
    }
    for family in FAMILIES:
        for name in family.names:
            model = {"_OnBase": "--base", "_OfTeacher": "--teacher"}.get(family.options.__name__)
            rest = f" {model} {there}" if model else ""
            options = f"train {name} --output {made}"
            found[f"{options} --data {gone}{rest}"] = ["There is no folder", gone, "--data must be"]
            found[f"{options}{rest}"] = ["needs --data", "--data is a"]
            found[f"{options} --data {gone}{rest} --train.keep 0"] = ["--train.keep must be"]
            found[f"{options} --data {gone}{rest} --train.kep 3"] = ["--train.kep", "did you mean --train.keep?"]
            found[f"{options} --data {folder}{rest}"] = ["lies in the data folder"]
            if model:
                found[f"{options} --data {gone} {model} {gone}"] = ["There is no model", gone]
    for command in COMMANDS:
        if command != "train":  # asks for a recipe first
            found[f"{command} --no-such-option 3"] = ["--no-such-option"]
    return found


def test_mistakes_are_one_sentence_before_any_framework_is_imported(tmp_path: Path) -> None:
    wanted = {line: words for line, words in cases(tmp_path).items() if not line.startswith("info")}
    code = (
        "import contextlib, io, json, sys\n"
        "from fantasytalking.cli.__main__ import main\n"
        "for line in json.load(sys.stdin):\n"
        "    shown = io.StringIO()\n"
        "    with contextlib.redirect_stderr(shown): status = main(line.split(' '))\n"
        f"    heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "    print(json.dumps([line, status, shown.getvalue(), heavy]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(list(wanted)), capture_output=True, text=True, check=True
    )
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    assert len(rows) == len(wanted)
    for line, status, shown, heavy in rows:
        assert (status, heavy) == (2, []), line
        assert shown.startswith("error: ") and shown.count("\n") == 1, (line, shown)
        assert all(words in shown for words in wanted[line]), (line, shown)
    assert not (tmp_path / "made").exists()


def test_the_help_of_export_says_which_runs_have_which_layouts() -> None:
    shown = help_text("export")
    assert "Of every run: pipeline" in shown and "Only of runs of adapter-* and lora-*: released" in shown


def test_a_layout_that_a_run_lacks_is_told_before_any_framework(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "whole" / "model").mkdir(parents=True)
    (tmp_path / "whole" / "model" / "model_index.json").write_text("{}")
    (tmp_path / "lora-run" / "lora").mkdir(parents=True)
    assert main(["export", str(tmp_path / "whole"), str(tmp_path / "out"), "--layout", "released"]) == 2
    assert "has no released layout; export it with --layout pipeline or transformer" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "lora-run"), str(tmp_path / "out"), "--layout", "lora"]) == 2
    assert "which needs no export" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--device", "cuda:99"), ("--device", "tpu")], ids=" ".join)
@pytest.mark.parametrize("command", ["generate", "demo", "batch", "prepare", "evaluate", "benchmark", "info"])
def test_a_device_that_is_not_there_is_told_before_anything_is_read(
    command: str, option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example, out = ["--image", str(EXAMPLE / "portrait.png"), "--audio", str(EXAMPLE / "speech.wav")], tmp_path / "out"
    output = ["--output", str(out) + (".mp4" if command in ("generate", "demo") else "")]
    if command == "benchmark":
        option = "--devices", option[1]
    words = {
        "generate": [*example, *output],
        "batch": [str(tmp_path / "gone.jsonl"), *output],
        "prepare": [str(EXAMPLE), *output],
        "evaluate": ["--generated", str(tmp_path / "gone"), "--reference", str(tmp_path / "gone"), *output],
        "benchmark": ["validation", "--data", str(tmp_path / "gone"), *output],
        "info": ["--plan"],
    }
    assert main([command, *words.get(command, output), *option]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: There is no device '{option[1]}' on this machine; use ") and shown.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--attention", "xformers"], "The attention back-end 'xformers' cannot be used on cpu in float32 ("),
        (["--attention", "_native_cudnn", "--dtype", "bfloat16"], "cannot be used on cpu in bfloat16 ("),
        (["--attention", "nativ"], "There is no attention back-end 'nativ'; did you mean 'native'?"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "stream", "batch"])
def test_an_attention_back_end_that_cannot_be_used_is_told_before_anything_is_read(
    command: str, words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate = ["generate", "--image", str(EXAMPLE / "portrait.png"), "--audio", str(EXAMPLE / "speech.wav")]
    lines = {
        "generate": [*generate, "--output", str(tmp_path / "out.mp4")],
        "stream": [*generate, "--output", str(tmp_path / "out.mp4"), "--stream"],
        "batch": ["batch", str(tmp_path / "gone.jsonl"), "--output", str(tmp_path / "out")],
    }
    assert main([*lines[command], "--device", "cpu", *words]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and told in shown and shown.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["generate", "-i", "a.png", "-a", "b.wav", "-o", "c.mp4"], "There is no option -i; did you mean --image?"),
        (
            ["generate", "--image", "a.png", "--audio", "b.wav", "-o", "c.mp4"],
            "There is no option -o; did you mean --output?",
        ),
        (
            ["generate", "a.png", "b.wav"],
            "'a.png' does not belong to an option; 'fantasytalking generate --help' lists them.",
        ),
        (["batch", "a.jsonl", "-z"], "There is no option -z; 'fantasytalking batch --help' lists them."),
    ],
)
def test_what_other_programs_would_take_is_told_by_its_word(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {told}\n"
