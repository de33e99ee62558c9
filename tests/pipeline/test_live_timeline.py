"""Sound and what is heard of it lie on one time line, in blocks that do not depend on chunks."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from fantasytalking.pipeline.live_timeline import LiveTimeline


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 44100, 48000])
def test_what_is_heard_is_the_sound_at_16_khz(rate: int) -> None:
    time = np.arange(rate) / rate
    sound = (0.5 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 1900 * time)).astype(np.float32)
    timelines = [LiveTimeline(rate, ()) for _ in range(2)]
    timelines[0].append(sound)
    for start in range(0, rate, 777):
        timelines[1].append(sound[start : start + 777])
        timelines[1].forget(timelines[1].sound.end - 100, 0)
    for timeline in timelines:
        assert 0 <= 16000 - timeline.heard.end <= 80 * 16
        timeline.finish()
    whole = soxr.resample(sound, rate, 16000)
    heard = timelines[0].heard.samples
    assert np.array_equal(heard, timelines[1].heard.samples) and len(heard) - len(whole) in range(641)
    assert np.abs(heard[:15500] - whole[:15500]).max() < 2e-3


def test_rests_lie_where_nothing_came_and_neighbours_are_one() -> None:
    timeline = LiveTimeline(24000, ())
    timeline.append(np.full(12000, 0.5, np.float32))
    for heard in (12000, 16000):
        timeline.rest_until(heard)
        assert timeline.heard.end >= heard
    ((first, end),) = timeline.rests
    assert first == 12000 and end == timeline.sound.end
    # it falls silent without a click
    assert np.abs(np.diff(timeline.sound.between(11990, 12200))).max() < 0.01
    assert timeline.sound_of(13000, 13960)[1] and not timeline.sound_of(11500, 12460)[1]
