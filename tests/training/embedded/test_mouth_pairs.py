"""Pairs of frames for the mouth painter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.data.motion_dataset import PreparedTrack, prepare
from fantasytalking.training.embedded.mouth_pairs import clip_pairs
from tests.training import synthetic


@pytest.mark.parametrize("first", [0, 450])
def test_a_track_that_begins_late_in_its_video_gives_pairs_of_its_own_frames(first: int) -> None:
    track = replace(synthetic.make_track("late", "someone", frames=60), first=first)
    asked = []

    def read(track: PreparedTrack, count: int) -> NDArray[np.uint8]:
        asked.append(count)
        # frames before the track are black
        frames = np.zeros((count, 128, 128, 3), np.uint8)
        frames[first:] = 200
        return frames

    rows = list(clip_pairs(read, prepare(track), 4, np.random.default_rng(0)))
    assert asked == [first + 60] and len(rows) == 4
    assert all(row.portrait.max() == 200 for row in rows)
