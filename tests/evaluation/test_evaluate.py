"""A whole evaluation: every row, every problem by name, and nothing measured twice."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import markupsafe
import numpy as np
import psutil
import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.errors import FantasyTalkingError, InputError, OutputError, SettingsError
from fantasytalking.evaluation import measure
from fantasytalking.evaluation.clip_facts import read_facts
from fantasytalking.evaluation.common_frames import CommonFrames
from fantasytalking.evaluation.evaluate import STORE, EvaluationOptions, _Plan, evaluate
from fantasytalking.evaluation.metrics.registry import Choice, build
from fantasytalking.evaluation.pairing import GROUND_TRUTH, SHUFFLED, STILL, Task
from fantasytalking.evaluation.report.write_report import table_text
from fantasytalking.evaluation.results import ClipResult, Report, load_report
from fantasytalking.evaluation.row_frames import clip_problems
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import read_frames, write_video
from fantasytalking.pipeline.progress import Progress
from tests.evaluation.conftest import SMALL

CHEAP = ("fid", "es", "mouth", "csim")


@pytest.fixture(scope="module")
def folders(talking: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Real clips `a`, `b`, `mute`, and generated ones: `a` swapped in, `b` short, `mute` corrupt, `extra` without counterpart."""
    top = tmp_path_factory.mktemp("folders")
    real, made = top / "real", top / "made"
    real.mkdir()
    made.mkdir()
    shutil.copy(talking / "calm.mp4", real / "a.mp4")
    # The clips of the fixture speak the same words: one of them gets them backwards, to have a sound of its own.
    speech = load_audio(talking / "lively.mp4")
    write_video(
        real / "b.mp4",
        read_frames(talking / "lively.mp4")[0],
        25,
        Audio(speech.samples[::-1].copy(), speech.sample_rate),
    )
    frames, rate = read_frames(talking / "calm.mp4", max_frames=20)
    write_video(real / "mute.mp4", frames, rate)
    shutil.copy(talking / "lively.mp4", made / "a.mp4")
    write_video(
        made / "b.mp4", read_frames(talking / "lively.mp4", max_frames=55)[0], 25, load_audio(talking / "lively.mp4")
    )
    (made / "mute.mp4").write_bytes(b"\0" * 500)
    shutil.copy(talking / "calm.mp4", made / "extra.mp4")
    return real, made


@pytest.fixture(scope="module")
def report(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    real, made = folders
    output = tmp_path_factory.mktemp("output") / "report"
    options = EvaluationOptions(
        SMALL, (*CHEAP, "sync"), "proxy", workers=1, device="cpu", command="the command", media=False
    )
    return evaluate({"ours": made}, real, output, options, Progress(), {"ours": "a note"}), output


def test_ground_truth_methods_and_baselines_are_rows_in_this_order(report: tuple[Report, Path]) -> None:
    found, _ = report
    assert [m.name for m in found.methods] == [GROUND_TRUTH, "ours", STILL, SHUFFLED]
    assert [m.kind for m in found.methods] == ["ground truth", "method", "baseline", "ground truth"]
    assert found.methods[1].note == "a note" and found.command == "the command"


def test_the_ground_truth_has_the_best_value_there_is(report: tuple[Report, Path]) -> None:
    cells = report[0].methods[0].summary
    assert cells["fid"].value == pytest.approx(0, abs=1e-6) and cells["fid"].low is None
    assert cells["mouth"].value == pytest.approx(1)
    # `mute` is corrupt in `ours` and counts nowhere; `b` is cut to the 55 frames of `ours`.
    assert cells["fid"].samples == sum(-(-n // 5) for n in (65, 55))


def test_all_rows_are_measured_over_the_same_frames_and_this_is_told_everywhere(report: tuple[Report, Path]) -> None:
    found, output = report
    frames = {m.name: {name: clip.frames for name, clip in m.clips.items() if name != "mute"} for m in found.methods}
    assert set(frames) == {GROUND_TRUTH, "ours", STILL, SHUFFLED}
    assert all(row == {"a": 65, "b": 55} for row in frames.values()), "b is 2.2 s long in `ours` and 2.6 s in truth"
    assert {(cell.clips, m.name) for m in found.methods for cell in m.summary.values()} == {(2, n) for n in frames}
    assert found.common == CommonFrames(True, ("a", "b"), 120, ("b",))
    told = "All rows are measured over the same frames: 2 clips, each from its beginning"
    cut = "1 of 2 clips is cut in every row, real clips and baselines included, to the end of the shortest video ('ours' in 1)"
    lacks = "All rows count only the 2 of 3 clips that every one has: 'ours' lacks 1 (mute)"
    page, text = (output / "report.html").read_text(), table_text(found)
    raw = json.loads((output / "report.json").read_text())
    assert raw["common"]["same"] is True and raw["common"]["text"].startswith(told)
    assert told in page and told in text
    for warning in (cut, lacks):
        assert any(w.startswith(warning) for w in raw["warnings"])
        assert f"Warning: {warning}" in text and markupsafe.escape(warning) in page


def test_the_row_that_lacks_a_clip_is_named_whoever_it_is() -> None:
    def results(*clips: str) -> dict[str, ClipResult]:
        return {clip: ClipResult("", "", 50, {}) for clip in clips}

    path = Path("x.mp4")
    tasks = [Task(method, clip, path, path, path) for method in (GROUND_TRUTH, "one", "two") for clip in "bc"]
    plan = _Plan(tasks, [], ["a", "b", "c"], {"one": {"a", "b", "c"}, "two": {"b", "c"}})
    assert plan.lacking({GROUND_TRUTH: results(*"bc"), "one": results(*"bc"), "two": results(*"c")}) == {
        "two": ["a", "b"]
    }
    assert plan.lacking({GROUND_TRUTH: results(*"bc"), "one": results(*"bc"), "two": {}}) == {"two": ["a"]}
    broken = plan.lacking({GROUND_TRUTH: results(*"c"), "one": results(*"c"), "two": results(*"c")})
    assert broken == {GROUND_TRUTH: ["b"], "two": ["a"]}


def test_the_offset_of_a_clip_keeps_its_sign_in_the_csv(report: tuple[Report, Path]) -> None:
    with (report[1] / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows_by_name = {m.name: m for m in report[0].methods}
    for one in rows:
        if one["sync-proxy offset, frames"]:
            x, y = (rows_by_name[one["method"]].clips[one["clip"]].curves["sync"].__dict__[k] for k in "xy")
            assert float(one["sync-proxy offset, frames"]) == x[int(np.argmin(y))]
    assert any(float(one["sync-proxy offset, frames"] or 0) < 0 for one in rows)


def test_files_that_cannot_be_used_are_named_and_stop_nothing(report: tuple[Report, Path]) -> None:
    problems = {(p.method, p.clip): p.reason for p in report[0].problems}
    assert "not a readable media file" in problems["ours", "mute"]
    assert "no real clip" in problems["ours", "extra"]
    assert any("2.20 s and the real clip 2.60 s" in p.reason for p in report[0].problems if p.clip == "b")
    assert any(
        p.method == GROUND_TRUTH and p.clip == "mute" and "sync: The video has no sound" in p.reason
        for p in report[0].problems
    )
    assert set(report[0].methods[1].clips) == {"a", "b"}


def test_too_few_samples_are_a_warning_with_the_number(report: tuple[Report, Path]) -> None:
    warning = report[0].methods[1].summary["fid"].warning
    assert "24 samples of 2 clips" in warning and "2048" in warning
    assert "singular" in warning
    assert any("2 clips are few" in w for w in report[0].warnings)


def test_pairs_are_compared_on_common_clips(report: tuple[Report, Path]) -> None:
    by = {(c.column, c.first, c.second): c for c in report[0].comparisons}
    mouth = by["mouth", GROUND_TRUTH, "ours"]
    assert mouth.clips == 2 and mouth.difference > 0 and mouth.p is not None
    assert by["fid", "ours", STILL].p is None
    assert ("fid", GROUND_TRUTH, "ours") not in by


def test_another_sound_changes_sync_and_nothing_else(report: tuple[Report, Path]) -> None:
    truth, shuffled = report[0].methods[0], report[0].methods[3]
    for clip in ("a", "b"):
        for key, value in truth.clips[clip].values.items():
            if not key.startswith("sync"):
                assert shuffled.clips[clip].values[key] == value
    assert truth.clips["a"].values["sync_d"] != shuffled.clips["a"].values["sync_d"]
    assert set(truth.clips["a"].curves) >= {"sync", "mouth", "mouth_reference"}


def test_everything_that_a_number_depends_on_is_stored(report: tuple[Report, Path]) -> None:
    _found, output = report
    again = load_report(output)
    assert again.protocol == SMALL.to_dict() and again.software["torch"] and again.machine["cpu"]
    column = next(c for c in again.columns if c.key == "fid")
    assert column.proxy and len(column.weights["mobilenet_v2.safetensors"]) == 64
    assert {p.name for p in output.iterdir()} == {STORE, "report.json", "report.html", "report.csv", "clips.csv"}


def test_a_second_run_measures_nothing_and_a_new_metric_only_itself(
    report: tuple[Report, Path], folders: tuple[Path, Path]
) -> None:
    real, made = folders
    before = {p.name: p.stat().st_mtime_ns for p in (report[1] / STORE).iterdir()}
    options = EvaluationOptions(SMALL, (*CHEAP, "sync", "sharpness"), "proxy", workers=1, device="cpu", media=False)
    found = evaluate({"renamed": made}, real, report[1], options, Progress())
    after = {p.name: p.stat().st_mtime_ns for p in (report[1] / STORE).iterdir()}
    assert {name: after[name] for name in before} == before
    new = [name for name in after if name not in before]
    # Three real clips, two generated, three still ones; the shuffled row shares the picture of the real clips.
    assert len(new) == 3 + 2 + 3
    assert found.methods[1].summary["fid"].value == report[0].methods[1].summary["fid"].value


def test_a_damaged_store_is_measured_again(
    report: tuple[Report, Path], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    real, made = folders
    shutil.copytree(report[1] / STORE, tmp_path / STORE)
    for path in sorted((tmp_path / STORE).iterdir())[::2]:
        path.write_bytes(path.read_bytes()[:40])
    options = EvaluationOptions(SMALL, CHEAP, "proxy", workers=1, device="cpu", media=False)
    found = evaluate({"ours": made}, real, tmp_path, options, Progress())
    for key in ("fid", "mouth"):
        assert found.methods[1].summary[key].value == pytest.approx(report[0].methods[1].summary[key].value, rel=1e-6)


def stored(store: Path) -> dict[str, int]:
    """Finished measurements and when they were written."""
    return {p.name: p.stat().st_mtime_ns for p in store.glob("[!.]*.json")}


def stopped(command: list[str], store: Path, signal_number: int) -> int:
    """Start the command, stop it by a signal two measurements later, and return its status; no process of it is left."""
    before = len(stored(store))
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(stored(store)) < before + 2 and running.poll() is None:
        time.sleep(0.02)
    children = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal_number)
    status = running.wait(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, "a worker outlived the run"
    return status


@pytest.mark.slow
def test_a_killed_and_an_interrupted_run_go_on_where_they_were(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real, made = folders
    words = ["evaluate", "--generated", f"ours={made}", "--reference", str(real)]
    protocol = tmp_path / "protocol.json"
    protocol.write_text(json.dumps(SMALL.to_dict()))
    words += ["--output", str(tmp_path / "out"), "--metrics", *CHEAP, "--protocol", str(protocol)]
    words += ["--backend", "proxy", "--device", "cpu", "--no-media"]
    command = [sys.executable, "-m", "fantasytalking.cli", *words, "--workers", "2"]
    store = tmp_path / "out" / STORE
    assert stopped(command, store, signal.SIGKILL) == -signal.SIGKILL
    kept = stored(store)
    assert kept and not (tmp_path / "out" / "report.json").exists(), "killed in the middle"
    assert stopped(command, store, signal.SIGINT) == 130
    more = stored(store)
    assert len(more) > len(kept) and not (tmp_path / "out" / "report.json").exists(), "interrupted in the middle"
    # What is left is for one worker, which is this process.
    assert main([*words, "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == str(tmp_path / "out" / "report.html")
    assert "not a readable media file" in err
    after = stored(store)
    assert {k: after[k] for k in kept | more} == kept | more, "nothing is measured twice"


def test_a_folder_that_another_process_evaluates_into_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, made = folders
    code = "import sys, pathlib; from fantasytalking.system.folder_owner import owned\n"
    code += "with owned(pathlib.Path(sys.argv[1]), 'evaluating into'): print('mine', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "mine\n"
    options = EvaluationOptions(SMALL, ("mouth",), "proxy", workers=1, device="cpu", media=False)
    try:
        with pytest.raises(OutputError, match=r"Another process is evaluating into '.*out'.*choose another --output"):
            evaluate({"ours": made}, real, tmp_path / "out", options, Progress())
    finally:
        other.communicate("")


def test_two_workers_find_the_same_as_one(
    report: tuple[Report, Path], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    real, made = folders
    options = EvaluationOptions(SMALL, ("es", "mouth"), "proxy", (), 2, "cpu", media=False)
    found = evaluate({"ours": made}, real, tmp_path, options, Progress())
    for key in ("es", "mouth"):
        assert found.methods[1].summary[key].value == pytest.approx(report[0].methods[1].summary[key].value, abs=1e-5)


def test_what_cannot_be_evaluated_is_said_before_anything_is_measured(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    real, made = folders
    for options, message in (
        ({"metrics": ("fids",)}, "did you mean 'fid'"),
        ({"metrics": ()}, "No metric was given"),
        ({"baselines": ("silent",)}, "no baseline 'silent'"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"device": "tpu"}, "no device 'tpu'"),
    ):
        with pytest.raises(SettingsError, match=message):
            evaluate({"ours": made}, real, tmp_path / "none", EvaluationOptions(SMALL, **options), Progress())  # type: ignore[arg-type]
    with pytest.raises(FantasyTalkingError, match="fetch"):
        evaluate(
            {"ours": made},
            real,
            tmp_path / "none",
            EvaluationOptions(SMALL, ("fid",), "standard", device="cpu"),
            Progress(),
        )
    with pytest.raises(InputError, match="does not exist"):
        evaluate(
            {"ours": tmp_path / "nowhere"},
            real,
            tmp_path / "none",
            EvaluationOptions(SMALL, ("mouth",), device="cpu"),
            Progress(),
        )
    assert not (tmp_path / "none").exists()


def test_a_file_without_sound_is_heard_with_its_references(
    folders: tuple[Path, Path], calm: object, tmp_path: Path
) -> None:
    real, _ = folders
    frames, rate = read_frames(real / "a.mp4", max_frames=40)
    write_video(tmp_path / "a.mp4", frames, rate)
    task = Task("ours", "a", tmp_path / "a.mp4", real / "a.mp4", tmp_path / "a.mp4")
    made, true = measure._load_pair(task, SMALL, 30)
    assert made.sound is not None and true.sound is not None
    assert len(made.frames) == len(true.frames) == 30
    np.testing.assert_array_equal(made.sound, true.sound)
    assert len(made.sound) == round(len(made.frames) / 25 * 16000)
    (tmp_path / "store").mkdir()
    (measured,) = measure.measure_clip([task], [], SMALL, tmp_path / "store")
    assert any("no sound of its own" in problem for problem in clip_problems(measured, SMALL))


def test_a_stored_sync_depends_on_the_reference_only_where_that_lends_the_sound(
    folders: tuple[Path, Path], talking: Path, tmp_path: Path
) -> None:
    real, _ = folders
    frames, rate = read_frames(real / "a.mp4", max_frames=10)
    silent = write_video(tmp_path / "silent.mp4", frames, rate)
    sync, fid = (build(Choice(name, False, "cpu")) for name in ("sync", "fid"))
    for video, metric, depends in ((silent, sync, True), (silent, fid, False), (talking / "calm.mp4", sync, False)):
        own = read_facts(video, SMALL)
        tasks = [Task("ours", "a", video, real / name, video) for name in ("a.mp4", "b.mp4")]
        keys = {measure._key(task, metric, SMALL, own.frames, own, own) for task in tasks}
        assert len(keys) == (2 if depends else 1)
