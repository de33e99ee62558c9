"""Scene cuts and pieces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fantasytalking.data.preparation.clip_records import ClipSpan, Dropped, StageClock
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.data.preparation.scene_cuts import SAMPLE_FPS, cut_evenly, find_spans
from fantasytalking.errors import InputError
from fantasytalking.media.audio import Audio
from fantasytalking.media.video import write_video
from tests.data.preparation.footage import source
from tests.media.files import join, moving_bar, tone, write_sound

SETTINGS = PreparationSettings()


def film(path: Path, *lengths: int, fps: float = 25) -> Path:
    """Scenes of so many frames, each of another colour."""
    colours = [(200, 40, 40), (40, 60, 210), (60, 190, 60)]
    frames = np.concatenate([moving_bar(length, colours[i % 3]) for i, length in enumerate(lengths)])
    return write_video(path, frames, fps, preset="ultrafast")


def spans(path: Path, settings: PreparationSettings = SETTINGS) -> list[ClipSpan | Dropped]:
    return find_spans(source(path), settings, StageClock())


def test_one_scene_is_one_span(tmp_path: Path) -> None:
    (span,) = spans(film(tmp_path / "a.mp4", 75))
    assert isinstance(span, ClipSpan)
    assert (span.start, span.end, span.key) == (0, 3, "a-0000")


def test_a_cut_lies_between_two_spans(tmp_path: Path) -> None:
    clock = StageClock()
    found = find_spans(source(film(tmp_path / "a.mp4", 71, 60)), SETTINGS, clock)
    first, second = found
    assert isinstance(first, ClipSpan) and isinstance(second, ClipSpan)
    # the picture changes at 2.84 s
    assert 2.84 - 1 / SAMPLE_FPS - 1e-3 <= first.end <= 2.84 <= second.start <= 2.84 + 1 / SAMPLE_FPS
    assert second.end == pytest.approx(131 / 25)
    assert clock.as_dict()["scenes"]["clips"] == 2


@pytest.mark.parametrize("fps", [10, 23.976])
def test_other_frame_rates_have_their_cuts_too(tmp_path: Path, fps: float) -> None:
    first, second = spans(film(tmp_path / "a.mp4", 60, 60, fps=fps), replace(SETTINGS, min_frame_rate=0.0))
    cut = 60 / fps
    assert isinstance(first, ClipSpan) and isinstance(second, ClipSpan)
    assert cut - 0.11 <= first.end <= cut + 1e-3 and cut - 1e-3 <= second.start <= cut + 0.11


def test_what_is_too_short_is_named(tmp_path: Path) -> None:
    found = spans(film(tmp_path / "a.mp4", 60, 20, 60))
    assert [isinstance(item, Dropped) for item in found] == [False, True, False]
    short = found[1]
    assert isinstance(short, Dropped)
    assert short.reason == "too-short" and "at least 2 s" in short.detail
    assert [(i.span if isinstance(i, Dropped) else i).index for i in found] == [0, 1, 2]


def test_long_scenes_are_cut_evenly() -> None:
    assert cut_evenly(1, 46, SETTINGS) == [(1, 16), (16, 31), (31, 46)]
    assert cut_evenly(0, 20, SETTINGS) == [(0, 20)]
    # two even pieces of 1.6 s would both be too short
    assert cut_evenly(0, 3.2, replace(SETTINGS, max_seconds=3)) == [(0, 3), (3, 3.2)]


@pytest.mark.parametrize("content", [b"", b"not a video", None])
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken.mp4.*\.$"):
        spans(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only sound"):
        spans(write_sound(tmp_path / "a.wav", tone(3)[None]))


def told(found: list[ClipSpan | Dropped]) -> list[tuple[Any, ...]]:
    """Reason ("" for none), start and end of each span."""
    parts = [(item.reason, item.span) if isinstance(item, Dropped) else ("", item) for item in found]
    return [(reason, pytest.approx(span.start, abs=0.06), pytest.approx(span.end, abs=0.06)) for reason, span in parts]


@pytest.mark.parametrize(
    ("seconds", "offset", "lost", "expected"),
    [
        (3.0, 0.0, (0, 0), [("", 0, 3), ("no-sound", 3, 8)]),
        (5.0, 3.0, (0, 0), [("no-sound", 0, 3), ("", 3, 8)]),
        (8.0, 0.0, (3, 4.5), [("", 0, 3), ("no-sound", 3, 4.5), ("", 4.5, 8)]),
        (7.8, 0.2, (1, 5), [("too-short", 0.2, 1), ("no-sound", 1, 5), ("", 5, 8)]),
        (9.5, 0.0, (0, 0), [("", 0, 8)]),
    ],
    ids=["sound-ends-early", "sound-begins-late", "gap", "too-short", "picture-ends-early"],
)
def test_a_clip_is_what_picture_and_sound_both_have(
    tmp_path: Path, seconds: float, offset: float, lost: tuple[float, float], expected: list[tuple[str, float, float]]
) -> None:
    sound = write_sound(tmp_path / "s.mka", tone(seconds, 48000)[None], 48000, "aac", offset=offset)
    found = spans(join(tmp_path / "v.mp4", film(tmp_path / "p.mp4", 200), sound, lost))
    assert told(found) == expected
    assert [item.index if isinstance(item, ClipSpan) else item.span.index for item in found] == list(range(len(found)))


def test_a_picture_that_stands_still_is_cut_out(tmp_path: Path) -> None:
    frames = moving_bar(250)
    frames[100:180] = frames[100]
    path = write_video(tmp_path / "v.mp4", frames, 25, Audio(tone(10.0), 16000))
    assert told(spans(path)) == [("", 0, 4), ("frozen", 4, 7.2), ("", 7.2, 10)]
    assert told(spans(path, replace(SETTINGS, max_frozen=5.0))) == [("", 0, 10)]


@pytest.mark.parametrize("rate", [5, 8])
def test_a_picture_of_too_few_frames_is_left_out(tmp_path: Path, rate: int) -> None:
    frames = moving_bar(4 * rate)
    sound = Audio(tone(4.0), 16000)
    # as a file of that rate, and as one of 25 whose frames are repeated
    few = write_video(tmp_path / "few.mp4", frames, rate, sound)
    held = write_video(tmp_path / "held.mp4", frames[np.arange(100) * rate // 25], 25, sound)
    for path in (few, held):
        (item,) = spans(path)
        assert isinstance(item, Dropped) and item.reason == "frame-rate"
        assert item.row["frame_rate"] == pytest.approx(rate, abs=1) and "at least 12" in item.detail
        assert told(spans(path, replace(SETTINGS, min_frame_rate=4.0))) == [("", 0, 4)]


def test_digital_silence_for_long_is_left_out(tmp_path: Path) -> None:
    sound = tone(8.0)
    sound[3 * 16000 :] = 0
    path = write_video(tmp_path / "v.mp4", moving_bar(200), 25, Audio(sound, 16000), preset="ultrafast")
    assert told(spans(path)) == [("", 0, 3), ("silent", 3, 8)]
