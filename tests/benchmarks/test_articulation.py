"""The arithmetic of articulation.py, blinks_and_head.py, turned.py and unsure_faces.py."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import blinks_and_head
import numpy as np
import pytest
import turned
import unsure_faces
from articulation import contrast, find_tracks, interval, share_closed, summarise
from PIL import Image

from fantasytalking.errors import InputError
from fantasytalking.perception.landmarks import face_mesh
from tests.pipeline.tiny_pipeline import portrait


def row(name: str, group: str, closures: list[float], contrast: float) -> dict[str, object]:
    values = np.array(closures)
    return {
        "portrait": name,
        "group": group,
        "closures": values,
        "vowels": values + contrast,
        "contrast": contrast,
    }


ROWS = [
    row("a", "closed-mouth", [0.01, 0.04, 0.05, 0.02], 0.08),
    row("b", "open-mouth", [0.2, 0.03, np.nan, 0.05], 0.04),
    row("b", "open-mouth", [0.2, 0.03, 0.3, 0.05], 0.06),
]


def test_lips_that_are_not_seen_count_neither_as_closed_nor_as_open() -> None:
    assert share_closed(ROWS[:1]) == 0.75
    assert share_closed(ROWS[1:2]) == pytest.approx(1 / 3)


def test_groups_are_summarised_apart_and_each_portrait_is_one() -> None:
    found = summarise(ROWS)
    assert found["all"]["portraits"] == 2
    assert found["open-mouth"]["closures"] == 8
    assert found["open-mouth"]["contrast"][0] == pytest.approx(0.05)
    assert found["closed-mouth"]["closed"] == (0.75, 0.75, 0.75)


def test_an_interval_is_that_of_drawing_portraits_anew() -> None:
    value, low, high = interval(ROWS, contrast)
    assert (value, low, high) == pytest.approx((0.06, 0.05, 0.08))


def test_a_track_without_its_onsets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "syllables_new.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"syllables_new.json"):
        find_tracks(Namespace(speech=tmp_path, tracks=["syllables_new"]))
    with pytest.raises(InputError, match="no track of syllables"):
        find_tracks(Namespace(speech=tmp_path, tracks=["others"]))


def video(blinks: int, remaining: float, length: float) -> dict[str, object]:
    return {
        "a_minute": float(blinks),
        "remaining": [remaining] * blinks,
        "length": [length] * blinks,
        "symmetry": [0.9] * blinks,
        "yaw_pitch_roll": (1.0, 2.0, 3.0),
        "jerk": 100.0,
    }


def test_blinks_are_those_of_the_openings_and_the_head_is_that_of_the_meshes() -> None:
    openings = np.ones((100, 2))
    openings[40:45] = [[0.8], [0.5], [0.5], [0.6], [0.9]]
    found = blinks_and_head.describe(
        np.random.default_rng(0).normal(size=(1, 468, 3)).repeat(100, axis=0), openings, 25.0
    )
    assert (found["blinks"], found["a_minute"], found["remaining"]) == (1, 15, [0])
    assert found["jerk"] == pytest.approx(0, abs=1e-6) and found["seconds"] == 4


def test_blinks_are_as_wanted_only_if_all_of_them_are() -> None:
    good = video(12, 0.1, 0.2)
    assert blinks_and_head.summarise([good, video(20, 0.3, 0.4)])["as_wanted"]
    assert not blinks_and_head.summarise([good, video(0, 0.1, 0.2)])["as_wanted"]
    assert not blinks_and_head.summarise([good, video(12, 0.6, 0.2)])["as_wanted"]
    assert not blinks_and_head.summarise([good, video(12, 0.1, 0.5)])["as_wanted"]


def test_one_frame_with_a_fold_is_enough_for_a_group() -> None:
    still = {"group": "turned", "frames": 10, "frames_with_any": 0, "mean": 0.0, "largest": 0.0, "turn": 1.0}
    groups = turned.summarise({"a": still, "b": still | {"frames_with_any": 1, "largest": 0.002}})
    assert groups["turned"]["largest"] == 0.002
    assert groups["turned"]["frames_with_any"] == 1


def test_sheets_are_as_large_as_the_videos(tmp_path: Path) -> None:
    pictures = [np.zeros((60, 40, 3), np.uint8)] * 2
    told = turned.write_sheets({str(k): pictures for k in range(5)}, tmp_path)
    assert len(told) == 2
    with Image.open(tmp_path / "sheet_1.jpg") as sheet:
        assert sheet.size == (2 * 64 + 4, 4 * 64 + 4)


def test_what_the_example_is_told_as_well_is_nothing_about_the_face() -> None:
    answers = {
        "example": {"kind": "example", "notes": ["a limit", "shrunk to 12 pixels"], "refused": None},
        "cat": {"kind": "unsure", "notes": ["a limit", "not sure of the face"], "refused": None},
        "dog": {"kind": "unsure", "notes": [], "refused": "no face"},
        "man": {"kind": "ordinary", "notes": ["shrunk to 7 pixels"], "refused": None},
    }
    counts = unsure_faces.judge(answers)
    assert (counts["unsure"]["told"], counts["unsure"]["refused"], counts["unsure"]["silent"]) == (["cat"], ["dog"], [])
    assert counts["ordinary"]["silent"] == ["man"]


def test_a_mask_covers_mouth_and_chin_but_no_eye() -> None:
    picture = portrait(256)
    masked = unsure_faces.draw_mask(picture)
    points = face_mesh(picture).points[:, :2].round().astype(int)
    covered = (masked != picture).any(-1)
    assert all(covered[y, x] for x, y in points[[13, 14, 61, 291, 200]])
    assert not any(covered[y, x] for x, y in points[[33, 133, 263, 362, 9]])
