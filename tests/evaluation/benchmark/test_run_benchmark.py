"""From manifest to report; runs go on where they were, after kill -9 too; what cannot be used is named and left out."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fantasytalking.errors import InputError, OutputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Manifest, Order, Picture, Same, save_manifest
from fantasytalking.evaluation.benchmark.run_benchmark import BenchmarkOptions, BenchmarkOutcome, run_benchmark
from fantasytalking.evaluation.evaluate import EvaluationOptions
from fantasytalking.evaluation.pairing import GROUND_TRUTH
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.media.video import probe_video
from fantasytalking.pipeline.progress import Progress
from fantasytalking.system.json import read_json_object
from tests.evaluation.benchmark.samples import case, manifest, method, talking_video
from tests.pipeline.tiny_pipeline import embedded_pipeline

PROTOCOL = Protocol(name="tiny", longest_side=96, max_seconds=0.8, min_track=5, resamples=10, frechet_resamples=10)


class Silent(Progress):
    """Keeps notes to itself."""

    def show_note(self, text: str) -> None:
        """Not shown."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    embedded_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for index in range(4):
        talking_video(folder / f"c{index}.mp4", 0.8, 200 + 100 * index)
    return folder


def example(data: Path, count: int = 3) -> Manifest:
    cases = [case(data, f"c{i}.mp4", 0.8, settings={"seed": 0, "longest_side": 96}) for i in range(count)]
    expectations = (
        Order("own speech is followed", "mouth", "own", "other"),
        Same("sharpness stays", "sharpness", ("own", "other"), 10),
        Order("of a metric that is not asked for", "sd", "own", "other"),
    )
    return manifest(*cases, expectations=expectations)


def run(one: Manifest, data: Path, output: Path, model: Path, **changes: Any) -> BenchmarkOutcome:
    scoring = EvaluationOptions(
        protocol=PROTOCOL, metrics=("mouth", "sharpness"), baselines=("still",), workers=1, device="cpu"
    )
    running = BenchmarkOptions(models={"TINY": str(model)}, devices=("cpu",), scoring=scoring)
    return run_benchmark(one, data, output, dataclasses.replace(running, **changes), Silent())


@pytest.mark.slow
def test_a_run_leaves_videos_records_references_and_a_judged_report(data: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    outcome = run(example(data), data, output, model)
    assert (outcome.made, outcome.kept, outcome.left_out) == (6, 0, ())
    for name in ("own", "other"):
        for clip in ("c0", "c1", "c2"):
            assert probe_video(output / "generated" / name / f"{clip}.mp4").frames == 20
            assert read_json_object(output / "generated" / name / f"{clip}.json")["method"] == name
    assert (output / "references" / "c0.mp4").read_bytes() == (data / "c0.mp4").read_bytes()
    assert outcome.report is not None
    rows = {row.name: row for row in outcome.report.methods}
    assert list(rows) == [GROUND_TRUTH, "own", "other", "still image"]
    assert sorted(rows["own"].clips) == ["c0", "c1", "c2"]
    assert f"model {model}" in rows["own"].note
    verdicts = [trend.verdict for trend in outcome.trends]
    # Three clips have no interval, so nothing is beyond doubt.
    assert verdicts[1:] == ["right direction, not significant", "not measured"] and verdicts[0] != "not measured"
    assert [t["verdict"] for t in json.loads((output / "report" / "trends.json").read_text())] == verdicts
    assert (output / "report" / "report.html").is_file() and (output / "report" / "trends.md").is_file()
    assert json.loads((output / "manifest.json").read_text())["methods"][0]["model"] == str(model)

    again = run(example(data), data, output, model)
    assert (again.made, again.kept) == (0, 6)

    part = run(example(data), data, output, model, limit=2, methods=("own",))
    assert (part.made, part.kept, part.trends) == (0, 2, ())
    assert part.report is not None
    assert {row.name: sorted(row.clips) for row in part.report.methods}["own"] == ["c0", "c1"]
    assert not part.report.problems, "what other runs left is not scored"

    changed = dataclasses.replace(
        example(data), methods=(method("own", settings={"w_face": 1.0}), method("other", speech="other"))
    )
    third = run(changed, data, output, model, score=False)
    assert (third.made, third.kept, third.report) == (3, 3, None)


def test_scoring_alone_makes_nothing_and_refuses_what_was_made_otherwise(
    data: Path, model: Path, tmp_path: Path
) -> None:
    output, one = tmp_path / "run", example(data, 2)
    run(one, data, output, model, score=False)
    (output / "generated" / "own" / "c1.json").unlink()
    outcome = run(one, data, output, model, generate=False)
    assert (outcome.made, outcome.kept) == (0, 3)
    assert [(item.case, item.method) for item in outcome.left_out] == [("c1", "own")]
    assert "without --score-only" in outcome.left_out[0].reason
    assert outcome.report is not None
    assert {row.name: sorted(row.clips) for row in outcome.report.methods}["own"] == ["c0"]
    assert (output / "generated" / "own" / "c1.mp4").is_file(), "scoring destroys nothing"


def test_what_cannot_be_used_is_named_and_the_run_goes_on(data: Path, model: Path, tmp_path: Path) -> None:
    one = example(data, 4)
    first, second, third, fourth = one.cases
    missing = dataclasses.replace(first, reference=dataclasses.replace(first.reference, file="gone.mp4"))
    foreign = dataclasses.replace(second, reference=dataclasses.replace(second.reference, sha256="0" * 64))
    (data / "blank.png").write_bytes(b"not a picture")
    blank = Picture("blank.png", case(data, "blank.png", 1.0).reference.sha256)
    faceless = dataclasses.replace(third, portrait=blank)
    bad = dataclasses.replace(
        one, cases=(missing, foreign, faceless, fourth), methods=(method("own"),), expectations=()
    )
    outcome = run(bad, data, tmp_path / "run", model)
    assert outcome.made == 1 and outcome.report is not None
    reasons = {(item.case, item.method): item.reason for item in outcome.left_out}
    assert list(reasons) == [("c0", ""), ("c1", ""), ("c2", "own")]
    assert "There is no file" in reasons["c0", ""] and "not the one that the manifest lists" in reasons["c1", ""]
    assert "blank.png" in reasons["c2", "own"]
    assert len(read_json_object(tmp_path / "run" / "left_out.json")["left_out"]) == 3


def test_nothing_usable_is_an_error(data: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No case of 'tiny' can be used; the first reason: There is no file"):
        run(example(data), tmp_path, tmp_path / "run", model)
    assert not (tmp_path / "run").exists(), "a wrong data folder leaves nothing behind"


def test_a_folder_of_something_else_is_not_written_into(data: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds other files"):
        run(example(data), data, tmp_path, model)
    other = tmp_path / "other"
    run(dataclasses.replace(example(data, 2), name="first"), data, other, model, score=False)
    with pytest.raises(OutputError, match="holds the benchmark 'first'"):
        run(example(data), data, other, model)


def test_a_folder_in_which_another_process_runs_a_benchmark_is_refused_and_left_as_it_is(
    data: Path, model: Path, tmp_path: Path
) -> None:
    code = "import sys, pathlib; from fantasytalking.system.folder_owner import owned\n"
    code += (
        "with owned(pathlib.Path(sys.argv[1]), 'running a benchmark in'): print('mine', flush=True); sys.stdin.read()"
    )
    output = tmp_path / "run"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "mine\n"
    try:
        with pytest.raises(OutputError, match=r"Another process is running a benchmark in '.*run'.*wait for it"):
            run(example(data, 2), data, output, model, score=False)
        assert [path.name for path in output.iterdir()] == [".owner.json"]
    finally:
        other.communicate("")
    # The advice, followed: once the other has ended, the folder is free.
    assert run(example(data, 1), data, output, model, score=False, methods=("own",)).made == 1


def records(output: Path) -> dict[Path, int]:
    """Finished videos and when they were written."""
    return {path: path.with_suffix(".mp4").stat().st_mtime_ns for path in output.glob("generated/*/[!.]*.json")}


def children(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in listing.read_text().split()] if listing.is_file() else []


def runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is a Unix facility")
def test_a_killed_run_goes_on_where_it_was(data: Path, model: Path, tmp_path: Path) -> None:
    output, path = tmp_path / "run", tmp_path / "tiny.json"
    one = example(data, 3)
    slow = tuple(dataclasses.replace(c, settings={"seed": 0, "steps": 20}) for c in one.cases)
    one = dataclasses.replace(one, cases=slow)
    save_manifest(one, path)
    words = [str(path), "--data", str(data), "--output", str(output), "--models", f"TINY={model}"]
    words += ["--generate-only", "--devices", "cpu", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fantasytalking.cli", "benchmark", *words], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(records(output)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    born = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 120
    while any(map(runs, born)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(runs, born)), "workers outlive their parent"
    before = records(output)
    assert 2 <= len(before) < 6
    outcome = run(one, data, output, model, score=False)
    assert (outcome.made, outcome.kept, outcome.left_out) == (6 - len(before), len(before), ())
    after = records(output)
    assert len(after) == 6 and all(after[path] == stamp for path, stamp in before.items())
    assert not list(output.rglob(".*.part*"))
