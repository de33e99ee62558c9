"""The arithmetic of identity.py and contact_sheet.py."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from contact_sheet import REPOSITORY, check_outside, make_sheet, spread_frames
from identity import FaceCheck, check_frames, overall, summary

from fantasytalking.errors import OutputError
from tests.pipeline.tiny_pipeline import portrait


def test_a_still_portrait_keeps_its_face() -> None:
    picture = portrait()
    (check,) = check_frames([picture], picture)
    assert check.good and check.whole
    assert check.cosine == pytest.approx(1, abs=1e-4)
    assert check.sharpness == pytest.approx(1)


def test_a_blurred_face_is_less_sharp_and_an_empty_frame_has_none() -> None:
    picture = portrait()
    blurred, empty = check_frames([cv2.GaussianBlur(picture, (0, 0), 2), np.zeros_like(picture)], picture)
    assert blurred.sharpness is not None and blurred.sharpness < 0.5
    assert empty == FaceCheck(None, None, False)


def test_a_lost_face_counts_as_bad_but_not_towards_the_cosine() -> None:
    found = summary(
        [FaceCheck(0.9, 1.0, True), FaceCheck(0.5, 0.8, True), FaceCheck(None, None, False), FaceCheck(0.7, 0.6, True)]
    )
    assert found["found"] == 0.75
    assert found["good"] == 0.5
    assert found["cosine"] == pytest.approx(0.7)
    assert found["lowest_cosine"] == 0.5


def test_shares_are_over_frames_and_cosines_over_videos() -> None:
    short, long = summary([FaceCheck(0.9, 1.0, True)]), summary([FaceCheck(0.5, 1.0, True)] * 3)
    total = overall([short, long])
    assert total["share_good"] == 0.25
    assert total["cosine"] == pytest.approx(0.7)


def test_a_sheet_is_a_grid_of_cells() -> None:
    image = np.zeros((30, 20, 3), np.uint8)
    assert make_sheet([[image, image], [image]], 16).shape == (2 * 20 + 4, 2 * 20 + 4, 3)


def test_the_last_frame_is_on_the_sheet_and_the_first_is_not() -> None:
    frames = np.arange(17, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert [int(frame[0, 0, 0]) for frame in spread_frames(frames, 4)] == [4, 8, 12, 16]


def test_a_sheet_is_never_written_into_the_repository() -> None:
    with pytest.raises(OutputError, match="outside"):
        check_outside(REPOSITORY / "docs" / "sheet.jpg")
    assert check_outside(Path("/elsewhere/sheet.jpg"))
