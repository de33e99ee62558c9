"""Rows of a table are over the same frames, or nothing is best; what sets a row apart from the real clips is a warning."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fantasytalking.evaluation.clip_facts import ClipFacts
from fantasytalking.evaluation.common_frames import CommonFrames
from fantasytalking.evaluation.measure import MeasuredClip
from fantasytalking.evaluation.metrics.metric import Measurement
from fantasytalking.evaluation.pairing import GROUND_TRUTH, SHUFFLED, STILL, Task, clips_of_all_methods
from fantasytalking.evaluation.protocol import PROTOCOLS, Protocol
from fantasytalking.evaluation.report.report_table import best_methods, table_text
from fantasytalking.evaluation.results import ClipResult, Column, Method, Report
from fantasytalking.evaluation.row_frames import (
    clip_problems,
    common_frames,
    encoding_warnings,
    footage_warnings,
    length_warnings,
    row_encodings,
)
from fantasytalking.evaluation.summary import summarise

REAL = ClipFacts(250, 10.0, 448, 448, 25.0, True, 0.0)
COLUMN = Column("score", "score", "", False, "higher", "", 3, "mean", "of a test")
RATIO = Column("score", "ratio", "", False, "neither", "", 3, "median", "of a test")
RARE = Column("score", "rare", "", False, "neither", "", 3, "occurring", "of a test")
CLOSE = Column("close", "close", "", False, "higher", "", 3, "closeness", "of a test", parts=("score",))
FD = Column("fd", "FD", "", False, "lower", "", 3, "frechet", "of a test")


def measured(method: str, clip: str, frames: int, own: ClipFacts = REAL, still: bool = False) -> MeasuredClip:
    real = Path(f"real/{clip}.mp4")
    video = real if method in (GROUND_TRUTH, STILL, SHUFFLED) else Path(f"{method}/{clip}.mp4")
    return MeasuredClip(Task(method, clip, video, real, video, still), frames, {}, (own, REAL))


def row(method: str, clips: dict[str, int]) -> Method:
    kind = "ground truth" if method in (GROUND_TRUTH, SHUFFLED) else "baseline" if method == STILL else "method"
    return Method(method, kind, "", {c: ClipResult("", "", frames, {"score": 1.0}) for c, frames in clips.items()}, {})  # type: ignore[arg-type]


def measurements(**values: float) -> dict[str, Measurement]:
    return {clip: Measurement({"score": value}) for clip, value in values.items()}


def test_a_mean_counts_the_clips_that_every_row_has() -> None:
    found = {
        GROUND_TRUTH: measurements(a=1.0, b=1.0, c=1.0),
        "easy": measurements(a=0.9, b=0.8),
        "hard": measurements(b=0.7, c=0.1),
        SHUFFLED: measurements(b=0.5),
    }
    summed = summarise(found, [COLUMN], Protocol())
    assert {m: (cells["score"].value, cells["score"].clips) for m, cells in summed.cells.items()} == {
        GROUND_TRUTH: (1.0, 1),
        "easy": (0.8, 1),
        "hard": (0.7, 1),
        SHUFFLED: (0.5, 1),
    }
    pair = next(c for c in summed.comparisons if {c.first, c.second} == {"easy", "hard"})
    assert (pair.clips, pair.difference) == (1, pytest.approx(0.1))
    assert summed.apart == ()


def test_a_ratio_is_a_median_and_what_occurs_counts_where_it_occurs() -> None:
    found = {
        GROUND_TRUTH: measurements(a=1.0, b=1.0, c=1.0),
        "ours": measurements(a=0.9, b=40.0, c=1.1),
    }
    ratio = summarise(found, [RATIO], Protocol())
    assert ratio.cells["ours"]["score"].value == 1.1 and ratio.comparisons[0].difference == pytest.approx(-0.1)
    blinked = found | {
        "ours": measurements(a=0.3) | {"b": Measurement(), "c": Measurement()},
        STILL: {"a": Measurement()},
    }
    rare = summarise(blinked, [RARE], Protocol())
    assert {m: (c["score"].value, c["score"].clips) for m, c in rare.cells.items()} == {
        GROUND_TRUTH: (1.0, 1),
        "ours": (0.3, 1),
        STILL: (None, 0),
    }
    assert rare.comparisons == [] and rare.cells[STILL]["score"].warning == "It occurs in no clip."


def test_closeness_is_of_the_clips_that_its_figures_count() -> None:
    found = {
        GROUND_TRUTH: measurements(a=1.0, b=3.0, c=9.0),
        "ours": measurements(a=0.5, b=1.5),
        STILL: measurements(a=0.0, b=0.0),
    }
    cells = summarise(found, [COLUMN, CLOSE], Protocol()).cells
    assert {m: (c["close"].value, c["close"].clips) for m, c in cells.items()} == {
        GROUND_TRUTH: (1.0, 2),
        "ours": (0.5, 2),
        STILL: (0.0, 2),
    }
    nothing = summarise({GROUND_TRUTH: {"a": Measurement()}}, [CLOSE], Protocol()).cells[GROUND_TRUTH]["close"]
    assert nothing.value is None and "has no value" in nothing.warning


def test_how_files_are_encoded_is_told_and_methods_that_differ_are_a_warning() -> None:
    eighteen, thirty = (dataclasses.replace(REAL, encoding=f"h264 in mp4, CRF {crf}") for crf in (18, 30))
    every = [
        *(measured("ours", clip, 100, eighteen) for clip in "ab"),
        measured("ours", "c", 100, thirty),
        measured("theirs", "a", 100, thirty),
        measured(STILL, "a", 100, thirty, still=True),
    ]
    ways = row_encodings(every)
    assert ways == {
        "ours": "h264 in mp4, CRF 18 (2 clips), h264 in mp4, CRF 30 (1 clip)",
        "theirs": "h264 in mp4, CRF 30",
    }
    rows = [dataclasses.replace(row(name, {"a": 100}), encoding=way) for name, way in ways.items()]
    (warning,) = encoding_warnings(rows)
    assert "'theirs': h264 in mp4, CRF 30" in warning and "encode all alike" in warning
    assert encoding_warnings([rows[1], dataclasses.replace(rows[1], name="same")]) == []


def test_a_clip_that_one_row_has_no_value_for_counts_in_no_row_of_that_column() -> None:
    found = {GROUND_TRUTH: measurements(a=1.0, b=0.0), "ours": measurements(a=0.5)}
    found["ours"]["b"] = Measurement({})
    cells = summarise(found, [COLUMN], Protocol()).cells
    assert cells[GROUND_TRUTH]["score"].value == 1.0
    assert cells[GROUND_TRUTH]["score"].warning == "1 of 2 clips do not count, as another row has no value for them"
    assert cells["ours"]["score"].warning == "1 of 2 clips could not be measured"


def test_rows_without_a_common_clip_keep_their_own_and_nothing_is_best() -> None:
    found = {GROUND_TRUTH: measurements(a=1.0, b=1.0), "one": measurements(a=0.9), "two": measurements(b=0.2)}
    summed = summarise(found, [COLUMN], Protocol())
    assert summed.cells["one"]["score"].value == 0.9 and summed.apart == ("score",)
    rows = [row(GROUND_TRUTH, {"a": 50, "b": 50}), row("one", {"a": 50}), row("two", {"b": 50})]
    rows = [dataclasses.replace(r, summary=summed.cells[r.name]) for r in rows]
    common = common_frames([], rows, summed.apart)
    assert not common.same
    warning = length_warnings([], rows, common, Protocol(), {"one": ["b"], "two": ["a"]}, 2)[0]
    assert "no clip in common" in warning and "nothing is called best" in warning
    report = Report("", "", Protocol().to_dict(), {}, {}, (COLUMN,), tuple(rows), (), (), (), "", 0.0, common)
    assert best_methods(report, COLUMN) == frozenset()
    same = CommonFrames(True, ("a",), 50)
    assert best_methods(dataclasses.replace(report, common=same), COLUMN) == {"one"}
    old = dataclasses.replace(report, common=None)
    assert best_methods(old, COLUMN) == frozenset(), "a report that did not record it is judged by its clips"
    assert "different frames" in table_text(report)


def test_clips_cut_to_the_shortest_video_are_told_with_seconds_and_whose_it_is() -> None:
    four = dataclasses.replace(REAL, frames=100, seconds=4.0)
    clips = [measured(GROUND_TRUTH, "a", 100), measured("ours", "a", 100, four), measured(STILL, "a", 100, still=True)]
    rows = [row(m, {"a": 100}) for m in (GROUND_TRUTH, "ours", STILL)]
    common = common_frames(clips, rows, ())
    assert (common.same, common.clips, common.frames, common.cut) == (True, ("a",), 100, ("a",))
    (warning,) = length_warnings(clips, rows, common, Protocol(), {}, 1)
    assert warning == (
        "1 of 1 clip is cut in every row, real clips and baselines included, to the end of the shortest video ('ours' in 1): 4.0 s of "
        "10.0 s are measured."
    )
    assert common.told(25.0) == (
        "All rows are measured over the same frames: 1 clip, each from its beginning to the end of the shortest of its videos, 1 of them "
        "cut to that, 4.0 s in all."
    )
    assert "all rows of this clip are measured over their first 4.00 s" in clip_problems(clips[1], Protocol())[0]


@pytest.mark.parametrize(
    ("changes", "protocol", "words"),
    [
        ({"width": 224, "height": 224}, "standard", "another size than the real clip"),
        ({"width": 224, "height": 224}, "small", "another size than the real clip"),
        ({"width": 256, "height": 256}, "small", ""),  # both are scaled down to 256, and nothing is lost
        ({"width": 448, "height": 252}, "standard", "another aspect ratio"),
        ({"fps": 23.0}, "standard", "another frame rate"),
        ({"fps": 25.0001}, "standard", ""),
        ({"frozen": 6.7}, "standard", "frozen while there is sound"),
    ],
)
def test_what_sets_a_method_apart_is_a_warning_of_the_clip_and_of_the_table(
    changes: dict[str, float], protocol: str, words: str
) -> None:
    clips = [measured(GROUND_TRUTH, "a", 250), measured("ours", "a", 250, dataclasses.replace(REAL, **changes))]  # type: ignore[arg-type]
    warnings = footage_warnings(clips, PROTOCOLS[protocol])
    assert len(warnings) == len(clip_problems(clips[1], PROTOCOLS[protocol])) == bool(words)
    assert all(words in warning and "'ours'" in warning and "1 of 1 clip" in warning for warning in warnings)
    assert clip_problems(clips[0], PROTOCOLS[protocol]) == []


def test_only_clips_of_all_methods_are_measured() -> None:
    def task(method: str, clip: str) -> Task:
        return measured(method, clip, 1).task

    tasks = [task(GROUND_TRUTH, "a"), task(GROUND_TRUTH, "b"), task("one", "a"), task("one", "b"), task("two", "b")]
    assert [(t.method, t.clip) for t in clips_of_all_methods(tasks)] == [(m, "b") for m in (GROUND_TRUTH, "one", "two")]
    assert clips_of_all_methods(tasks[:1] + tasks[4:]) == tasks[:1] + tasks[4:], "without a common clip, all of them"
