"""Which frames and samples belong together after a shift, other frame rates, and how sure a short clip must be."""

from __future__ import annotations

import numpy as np
import pytest

from fantasytalking.data.preparation.check_sync import Trim, at_track_rate, least_confidence, trim_for
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.perception.mouth_view import CROP_HEIGHT, CROP_WIDTH, SHAPE_DIM, MouthView


def test_without_a_shift_nothing_is_cut() -> None:
    assert trim_for(0, 65, 25.0) == Trim(0, 65, 0, 65 * 640)


@pytest.mark.parametrize("fps", [25.0, 23.0])
@pytest.mark.parametrize("shift", [-7, -1, 1, 4, 10])
def test_picture_and_sound_stay_together(shift: int, fps: float) -> None:
    trim = trim_for(shift, 80, fps)
    # what a face shows at first / fps was heard shift / 25 s before
    assert trim.sample / 16000 == pytest.approx(trim.first / fps - shift / 25, abs=1e-4)
    assert trim.samples == pytest.approx(trim.count / fps * 16000, abs=1)
    assert trim.sample >= 0 and trim.sample + trim.samples <= round(80 / fps * 16000) + 1
    assert trim.first + trim.count <= 80
    assert 80 - trim.count in (int(abs(shift) / 25 * fps), int(abs(shift) / 25 * fps) + 1)


def test_a_mouth_at_another_rate_is_seen_at_the_same_times() -> None:
    # a value that grows with time: 1 per second
    times = (np.arange(69) + 0.5) / 23
    shape = np.repeat(times[:, None], SHAPE_DIM, 1).astype(np.float32)
    crops = np.broadcast_to((60 * times)[:, None, None], (69, CROP_HEIGHT, CROP_WIDTH)).round().astype(np.uint8)
    view = at_track_rate(MouthView(shape, crops), 23.0)
    assert len(view.shape) == len(view.crops) == 75
    wanted = (np.arange(75) + 0.5) / 25
    assert view.shape[1:-1, 0] == pytest.approx(wanted[1:-1], abs=1e-4)
    assert view.crops[1:-1, 0, 0].astype(float) == pytest.approx(60 * wanted[1:-1], abs=1.1)
    same = MouthView(shape, crops)
    assert at_track_rate(same, 25.0) is same


def test_a_short_clip_must_be_surer() -> None:
    settings = PreparationSettings(sync_confidence=0.3)
    assert least_confidence(10, settings) == least_confidence(3, settings) == 0.3
    assert least_confidence(0.75, settings) == pytest.approx(0.6)
