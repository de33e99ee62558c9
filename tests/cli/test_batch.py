"""`fantasytalking batch`: what its page shows, what it says to bad manifests, and that killed runs and workers lose and repeat nothing."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from fantasytalking.cli.__main__ import main
from fantasytalking.cli.batch import Batch, deciding
from fantasytalking.cli.batch_cases import read_cases
from fantasytalking.cli.batch_worker import BatchModel, BatchWorker, to_job
from fantasytalking.cli.options import parse
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions
from fantasytalking.media.video import probe_video
from fantasytalking.system.json import read_json_lines
from tests.pipeline.tiny_pipeline import EXAMPLE, embedded_pipeline, portrait

PAGE = Path(__file__).resolve().parents[2] / "docs" / "generate.md"
QUICK = ("--steps", "1", "--max-seconds", "0.4", "--model", "model")
POSIX = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is a Unix facility")


@pytest.fixture
def here(tmp_path: Path, shelf: Path) -> Path:
    """A folder with a portrait, speech and a tiny model."""
    for path in shelf.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("batch")
    Image.fromarray(portrait()).save(made / "face.png")
    shutil.copy(EXAMPLE / "speech.wav", made / "speech.wav")
    (made / "noise.png").write_bytes(b"no picture")
    embedded_pipeline().save_pretrained(made / "model")
    return made


def write_manifest(folder: Path, *lines: dict[str, Any] | str) -> Path:
    """A manifest whose lines name the portrait and the speech unless they say otherwise."""
    known = {"image": "face.png", "audio": "speech.wav"}
    texts = [line if isinstance(line, str) else json.dumps({**known, **line}) for line in lines]
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(texts) + "\n")
    return path


def answer(capsys: pytest.CaptureFixture[str], folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    with chdir(folder):
        assert main(["batch", "manifest.jsonl", "--output", "out", *QUICK, *words, "--json"]) == code
    shown = capsys.readouterr()
    found: dict[str, Any] = json.loads(shown.out)
    return found


def videos(folder: Path) -> dict[str, tuple[int, int]]:
    """Name -> identity of each video, which another file of the same name would not have."""
    return {
        path.stem: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in (folder / "out").glob("*.mp4")
        if not path.name.startswith(".")
    }


def test_the_example_of_the_page_runs_and_is_resumed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text()
    lines = text.split("```json\n")[1].split("```")[0]
    command = next(line for line in text.splitlines() if line.startswith("fantasytalking batch"))
    (here / "portraits").mkdir()
    (here / "speech").mkdir()
    for line in lines.splitlines():
        case = json.loads(line)
        shutil.copy(here / "face.png", here / case["image"])
        shutil.copy(here / "speech.wav", here / case["audio"])
    (here / "cases.jsonl").write_text(lines)
    with chdir(here):
        words = [*shlex.split(command)[1:], *QUICK]
        assert main(words) == 0
        report = Path(capsys.readouterr().out.splitlines()[-1])
        rows = read_json_lines(report)
        assert [row["status"] for row in rows] == ["done"] * len(lines.splitlines())
        assert all(probe_video(row["output"]).frames >= 5 for row in rows)
        assert main(words) == 0
        assert {row["status"] for row in read_json_lines(report)} == {"kept"}


def test_a_line_that_changed_is_done_again_and_no_other(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(here, {"name": "one"}, {"name": "two", "seed": 1})
    assert answer(capsys, here)["made"] == 2
    before = videos(here)
    write_manifest(here, {"seed": 1, "name": "two"}, {"name": "one", "seed": 5})
    found = answer(capsys, here)
    assert (found["made"], found["kept"], found["failed"]) == (1, 1, [])
    after = videos(here)
    assert after["two"] == before["two"] and after["one"] != before["one"]
    (here / "out" / "two.mp4").write_bytes(b"cut off")
    assert (answer(capsys, here)["made"], probe_video(here / "out" / "two.mp4").frames > 0) == (1, True)


def test_another_schedule_beside_a_lora_makes_other_videos(here: Path) -> None:
    (folder := here / "lora").mkdir()
    manifest = write_manifest(here, {"name": "one"})
    (folder / "weights.safetensors").write_bytes(b"numbers")
    arguments = [str(manifest), "--output", str(here / "out"), "--model", str(here / "model")]
    options = parse(Batch, "batch", [*arguments, "--lora", str(folder / "weights.safetensors")])

    def key() -> str:
        return read_cases(manifest, here / "out", {}, deciding(options))[0].key

    keys = [key()]
    for steps in (4, 8):
        (folder / "defaults.json").write_text(json.dumps({"steps": steps}))
        keys.append(key())
    assert len(set(keys)) == 3


def test_a_case_that_fails_is_listed_and_the_others_are_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(
        here, {"name": "good"}, {"name": "bad", "image": "noise.png"}, {"name": "face", "face": 7}, {"name": "end"}
    )
    found = answer(capsys, here, code=2)
    assert (found["made"], [case["name"] for case in found["failed"]]) == (2, ["bad", "face"])
    rows = read_json_lines(Path(found["report"]))
    assert [(row["name"], row["status"]) for row in rows] == [
        ("good", "done"),
        ("bad", "failed"),
        ("face", "failed"),
        ("end", "done"),
    ]
    assert rows[1]["error"]["kind"] == "ImageError" and "noise.png" in rows[1]["error"]["message"]
    assert set(videos(here)) == {"good", "end"}
    Image.fromarray(portrait()).save(here / "good.png")
    write_manifest(here, {"name": "good"}, {"name": "bad", "image": "good.png"}, {"name": "end"})
    assert (answer(capsys, here)["made"], set(videos(here))) == (1, {"good", "bad", "end"})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"sed": 3}, "Line 2 of 'manifest.jsonl' has an unknown key 'sed'; did you mean 'seed'?"),
        ({"imag": "a.png"}, "did you mean 'image'?"),
        ({"steps": 0}, "Line 2 of 'manifest.jsonl': steps must be"),
        ({"image": "gone.png"}, "Line 2 of 'manifest.jsonl': The image file 'gone.png' does not exist"),
        ({"audio": "gone.wav"}, "The audio file 'gone.wav' does not exist"),
        ({"audio": 3}, "needs 'audio', the path of a file, but 3 was given"),
        ('{"image": "face.png"}', "needs 'audio', the path of a file, but it has none"),
        ({"name": "one"}, "the name 'one' is that of line 1, too"),
        ({"name": "One"}, "the name 'One' is that of line 1, too"),
        ({"name": "a/b"}, "must be usable as a file name, but 'a/b' was given"),
        ({"name": 3}, "must be usable as a file name, but 3 was given"),
        ("[1]", "must be a JSON object, but [1] was given"),
        ("{", "Line 2 of 'manifest.jsonl' is not JSON"),
    ],
)
def test_a_manifest_is_checked_before_anything_is_written(
    here: Path, line: dict[str, Any] | str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(here, {"name": "one"}, line)
    assert message in answer(capsys, here, code=2)["error"]["message"]
    assert not (here / "out").exists()


def test_all_lines_at_fault_are_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(here, {"sed": 3}, "", {"name": "good"}, {"image": "gone.png"})
    message = answer(capsys, here, code=2)["error"]["message"]
    assert message.startswith("Line 1 of") and message.endswith("(2 lines cannot be used; this is the first.)")
    write_manifest(here, "")
    assert "has no lines" in answer(capsys, here, code=2)["error"]["message"]


def test_files_of_others_are_not_replaced(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(here, {"name": "one"})
    (here / "out").write_text("a file")
    assert "is a file; give a folder" in answer(capsys, here, code=2)["error"]["message"]
    (here / "out").unlink()
    (here / "out").mkdir()
    (here / "out" / "one.mp4").write_bytes(b"of somebody else")
    assert "exists already and is not of this batch" in answer(capsys, here, code=2)["error"]["message"]
    assert answer(capsys, here, "--overwrite")["made"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", "0"), "--workers must be at least 1, but 0 was given"),
        (("--device", "cuda:99"), "There is no device 'cuda:99'"),
        (("--transformer", "gone"), "There are no weights at --transformer gone"),
    ],
)
def test_bad_options_are_one_sentence(
    here: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(here, {"name": "one"})
    assert message in answer(capsys, here, *words, code=2)["error"]["message"]
    assert not (here / "out").exists()


def test_a_case_that_ended_two_workers_is_not_given_to_a_third(here: Path) -> None:
    model = BatchModel("model", RunOptions(), MemoryOptions(), ProfileOptions(), "this-run")
    (case,) = read_cases(write_manifest(here, {"name": "one"}), here / "out", {}, {})
    case.tries.parent.mkdir(parents=True)
    case.tries.write_text("earlier-run\n" + "this-run\n" * 2)
    row = BatchWorker(model)(to_job(case))
    assert row["status"] == "failed" and "was ended from outside 2 times" in row["error"]["message"]
    assert not case.video.exists()


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fantasytalking.cli", "batch", "manifest.jsonl", "--output", "out", *QUICK, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not happened() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def family(process: subprocess.Popen[bytes]) -> Sequence[psutil.Process]:
    whole = psutil.Process(process.pid)
    return [whole, *whole.children(recursive=True)]


@POSIX
@pytest.mark.slow
def test_a_command_that_is_killed_goes_on_where_it_was(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two kills, one while a case is begun and one between two cases; `benchmarks/kill_batch.py` makes ten at random moments."""
    write_manifest(here, *({"name": f"case{number}", "seed": number, "steps": 4} for number in range(6)))
    before: dict[str, tuple[int, int]] = {}
    for moment in (lambda: len(videos(here)) >= 1, lambda: len(list((here / "out" / ".cases").glob("*.tries"))) >= 4):
        process = start(here)
        wait_until(moment, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = videos(here)
        assert before.items() <= now.items(), "a complete case was done again"
        before = now
    assert 1 <= len(before) < 6
    found = answer(capsys, here)
    after = videos(here)
    assert before.items() <= after.items() and set(after) == {f"case{number}" for number in range(6)}
    assert found["failed"] == [] and len(before) <= found["kept"] <= len(before) + 1
    assert not list((here / "out").rglob(".*.part*")) and not list((here / "out" / ".cases").glob("*.mp4"))


@POSIX
@pytest.mark.slow
def test_a_worker_that_is_killed_gives_its_case_back(here: Path) -> None:
    write_manifest(here, *({"name": f"case{number}", "seed": number, "steps": 4} for number in range(3)))
    process = start(here, "--workers", "2")
    wait_until(lambda: len(list((here / "out" / ".cases").glob("*.tries"))) >= 2, process)
    actors = [one for one in family(process) if "BoundActor" in " ".join(one.cmdline()) or "MapWorker" in one.name()]
    actors = actors or [one for one in family(process) if "ray::" in " ".join(one.cmdline())]
    assert actors, [one.cmdline() for one in family(process)]
    for one in actors[:1]:
        one.kill()
    assert process.wait(300) == 0, (here / "log.txt").read_text()
    rows = read_json_lines(here / "out" / "report.jsonl")
    assert [(row["name"], row["status"]) for row in rows] == [(f"case{number}", "done") for number in range(3)]
    tries = [path.read_text().split() for path in sorted((here / "out" / ".cases").glob("*.tries"))]
    assert sum(map(len, tries)) == 4, tries
