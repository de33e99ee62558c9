"""Scene cuts and pieces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.data.preparation.clip_records import ClipSpan, Dropped, StageClock
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.data.preparation.scene_cuts import SAMPLE_FPS, cut_evenly, find_spans
from fantasytalking.errors import InputError
from fantasytalking.media.video import write_video
from tests.data.preparation.footage import source
from tests.media.files import tone, write_sound

SETTINGS = PreparationSettings()


def scene(colour: tuple[int, int, int], frames: int) -> np.ndarray:
    """A plain picture with a bar that moves slowly."""
    pictures = np.empty((frames, 96, 128, 3), np.uint8)
    pictures[:] = colour
    for index, picture in enumerate(pictures):
        picture[40:50, index % 100 : index % 100 + 20] = 255 - np.array(colour)
    return pictures


def film(path: Path, *lengths: int, fps: float = 25) -> Path:
    """Scenes of so many frames, each of another colour."""
    colours = [(200, 40, 40), (40, 60, 210), (60, 190, 60)]
    frames = np.concatenate([scene(colours[i % 3], length) for i, length in enumerate(lengths)])
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
    first, second = spans(film(tmp_path / "a.mp4", 60, 60, fps=fps))
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
