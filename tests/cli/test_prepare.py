"""`fantasytalking prepare`: the commands of docs/data-preparation.md on made-up videos, and what it says to bad input."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.data.prepared_set import PreparedSet
from tests.data.preparation.toy import make_videos

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data-preparation.md"
# without Ray, and with few looks at the frames
QUICK = ("--workers", "0", "--sync", "off", "--body-every", "1", "--face-every", "1")


def fenced(language: str, containing: str) -> str:
    """The page's first fenced block of a language that contains some words."""
    parts = PAGE.read_text().split(f"```{language}\n")[1:]
    return next(text for text in (part.split("```")[0] for part in parts) if containing in text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, talking: Path) -> Iterator[Path]:
    """What the page assumes: a folder `videos`."""
    made = tmp_path_factory.mktemp("preparing")
    make_videos(made / "videos", talking)
    with chdir(made):
        yield made


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Path:
    """The set of the page's first command."""
    words = shlex.split(fenced("bash", "sets/first"))
    assert main([*words[1:], *QUICK]) == 0
    return folder / "sets" / "first"


def test_the_command_of_the_page_prepares_a_folder(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(fenced("bash", "sets/first"))
    assert main([*words[1:], *QUICK]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "sets/first"
    assert main([*words[1:], *QUICK, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["output"] == "sets/first" and (told["totals"]["kept"], told["totals"]["dropped"]) == (2, 2)
    assert Path(told["report"]).is_file()


def test_the_python_example_reads_a_clip(prepared: Path) -> None:
    names: dict[str, object] = {}
    exec(compile(fenced("python", "PreparedSet"), str(PAGE), "exec"), names)
    arrays = names["arrays"]
    assert isinstance(arrays, dict) and arrays.keys() == {"points", "speech"}


def test_a_set_holds_what_the_page_says(prepared: Path) -> None:
    lines = PAGE.read_text().split("## What is in a set")[1].split("A clip in a shard")[0].splitlines()
    names = [name for line in lines if line.startswith("| `") for name in re.findall(r"`([^`]+)`", line.split("|")[1])]
    assert len(names) == 7
    for name in names:
        # there is no validation clip in the example
        assert (prepared / name).exists() or name.startswith("shards/val"), f"the page promises {name}"
    arrays = PreparedSet.open(prepared).arrays("calm-0000")
    table = PAGE.read_text().split("| array | shape, type | content |")[1].split("\n\n")[0]
    assert arrays.keys() <= set(re.findall(r"`([^`]+)`", table))


def test_every_reason_is_explained() -> None:
    package = Path(__file__).resolve().parents[2] / "src" / "fantasytalking" / "data"
    given = {"in-validation"}
    for path in [*(package / "preparation").glob("*.py"), package / "usable_stretches.py"]:
        text = path.read_text()
        given |= set(
            re.findall(r'(?:Refusal\(\s*|Dropped\(\w+, |Unusable\(\w+, |"unreadable"\] = \[)"([a-z-]+)"', text)
        )
    table = PAGE.read_text().split("| reason | meaning | option |")[1].split("\n\n")[0]
    explained = set(re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE))
    assert {"frozen", "frame-rate", "no-sound"} <= given and len(given) >= 14
    assert given == explained


def test_nothing_kept_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "videos/broken.mp4", "--output", "none", *QUICK]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "error: No clip was kept (1 unreadable)" in shown.err
    assert (folder / "none" / "report.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "There is no video to prepare"),
        (("gone",), "There is no video, folder or catalogue 'gone'"),
        (("videos/notes.jsonl",), "There is no video, folder or catalogue"),
        (("videos", "--clips-per-shard", "0"), "clips_per_shard must be a whole number of at least 1, but 0 was given"),
        (("videos", "--workers", "-1"), "workers must be a whole number of at least 0 or nothing, but -1 was given"),
        (("videos", "--val-share", "2"), "val_share must be a number from 0 to 0.9, but 2.0 was given"),
        (("videos", "--model", "modle"), "There is no model 'modle'"),
        (("videos", "--address", "here"), "address must be auto, HOST:PORT or ray://HOST:PORT, but 'here' was given"),
        (("videos", "--max-frozen", "0"), "max_frozen must be a number from 0.1 to 600 (seconds), but 0.0 was given"),
        (("videos", "--workrs", "2"), "did you mean --workers?"),
        (("videos", "--min-secnds", "2"), "did you mean --min-seconds?"),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *words, "--output", "out", "--json"]) == 2
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert message in error["message"]
    assert not (folder / "out").exists()


def test_a_model_that_the_hub_does_not_have_is_told_at_once(folder: Path) -> None:
    """In a process of its own, to see what it imports; nobody listens at the address of the hub."""
    code = (
        "import sys; from fantasytalking.cli.__main__ import main; "
        "code = main(['prepare', 'videos', '--output', 'out', '--model', 'nobody/nothing']); "
        "print([name for name in ('torch', 'ray') if name in sys.modules]); sys.exit(code)"
    )
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(folder / "cache")}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert time.monotonic() - began < 25  # it took half a minute of tries
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "error: The model 'nobody/nothing' has no readable model_index.json (the hub cannot be reached); give embedded"
    )
    assert not (folder / "out").exists()


def test_a_seed_without_people_to_choose_from_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = "note: --seed chooses the people for validation and has no effect without --val-share.\n"
    for more, told in ((), True), (("--val-share", "0.5"), False):
        words = ("prepare", "videos/broken.mp4", "--output", f"seeded{told}", "--seed", "3", *more, *QUICK)
        assert main(words) == 2
        assert (note in capsys.readouterr().err) is told


def test_a_setting_out_of_its_range_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "videos", "--output", "out", "--min-speech", "3"]) == 2
    message = "error: min_speech must be a number from 0 to 1, but 3.0 was given; leave it out for 0.3.\n"
    assert capsys.readouterr().err == message
