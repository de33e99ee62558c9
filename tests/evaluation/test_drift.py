"""Drift and seams of a long video, measured on one that has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import VideoError
from fantasytalking.evaluation.drift import Drift, drift_plot, measure_drift
from fantasytalking.media.video import read_frames, write_video


@pytest.fixture(scope="module")
def drift(talking: Path, tmp_path_factory: pytest.TempPathFactory) -> Drift:
    """A clip of 1.2 s, and then again with its picture brighter, blurred by halving, and a jump at the seam."""
    import cv2

    frames, fps = read_frames(talking / "lively.mp4", max_frames=30)
    small = [cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for frame in frames]
    blurred = [cv2.resize(frame, frames.shape[2:0:-1], interpolation=cv2.INTER_LINEAR) for frame in small]
    worse = [np.clip(frame.astype(int) + 12, 0, 255).astype(np.uint8) for frame in blurred]
    path = tmp_path_factory.mktemp("drift") / "long.mp4"
    write_video(path, [*frames, *worse], float(fps))
    opening = np.full(60, np.nan, np.float32)
    found = measure_drift(path, seconds=1.2, seams=(30, 45))
    opening[:30] = found.opening[:30]
    return measure_drift(path, seconds=1.2, seams=(30, 45), expected=opening)


def test_a_video_that_gets_brighter_and_blurred_is_told(drift: Drift) -> None:
    first, last = drift.pieces
    assert (first.start, last.start) == (0.0, 1.2)
    assert 9 < last.luma - first.luma < 15 and last.colour > first.colour + 2
    assert drift.change("sharpness") < -0.2 and drift.change("identity") < 0
    assert abs(drift.change("articulation")) < 0.3


def test_a_seam_stands_out_of_the_frame_differences_and_a_place_without_one_does_not(drift: Drift) -> None:
    at_seam, elsewhere = drift.seam_percentiles()
    assert len(drift.differences) == 59 and at_seam > 97 and elsewhere < 95
    assert drift.flash_percentile() < at_seam


def test_the_mouth_is_compared_where_something_is_expected(drift: Drift) -> None:
    assert drift.pieces[0].mouth_r == pytest.approx(1.0) and np.isnan(drift.pieces[1].mouth_r)


def test_the_plot_is_a_file_of_its_own_that_shows_every_measure(drift: Drift) -> None:
    from xml.dom.minidom import parseString

    picture = parseString(str(drift_plot(drift, "60 frames")))
    assert len(picture.getElementsByTagName("polyline")) == 5
    assert len([line for line in picture.getElementsByTagName("line") if line.getAttribute("class") == "seam"]) == 2


def test_a_video_that_is_too_short_is_refused(talking: Path) -> None:
    with pytest.raises(VideoError, match=r"lasts 2\.6 s, less than two pieces of 10 s"):
        measure_drift(talking / "calm.mp4")
