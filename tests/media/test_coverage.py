"""What a file holds by its timestamps: sound, silence that is none, pictures that stand still."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import AudioError
from fantasytalking.media.coverage import picture_changes, sound_stretches
from fantasytalking.media.video import write_video
from tests.media.files import join, moving_bar, tone, write_at_times, write_sound

FRAMES = 200
SECONDS = FRAMES / 25


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("p") / "p.mp4", moving_bar(FRAMES), 25, preset="ultrafast")


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("seconds", "offset", "lost", "expected"),
    [
        (SECONDS, 0.0, (0.0, 0.0), [(0, 8)]),
        (3.0, 0.0, (0.0, 0.0), [(0, 3)]),
        (5.0, 3.0, (0.0, 0.0), [(3, 8)]),
        (SECONDS, 0.0, (2.5, 4.0), [(0, 2.5), (4, 8)]),
    ],
    ids=["whole", "ends-early", "begins-late", "gap"],
)
def test_sound_is_where_its_timestamps_say(
    tmp_path: Path,
    picture: Path,
    ending: str,
    seconds: float,
    offset: float,
    lost: tuple[float, float],
    expected: list[tuple[float, float]],
) -> None:
    sound = write_sound(tmp_path / "s.mka", tone(seconds, 48000)[None], 48000, "aac", offset=offset)
    found = sound_stretches(join(tmp_path / f"v.{ending}", picture, sound, lost))
    assert [(s.start, s.end) for s in found.present] == [pytest.approx(pair, abs=0.06) for pair in expected]
    assert found.mute == []


def test_digital_silence_is_not_taken_for_a_pause(tmp_path: Path) -> None:
    sound = tone(9.0)
    sound[16000:32000] = 0
    sound[64000:112000] = 0
    found = sound_stretches(write_sound(tmp_path / "s.wav", sound[None]))
    assert [(s.start, s.end) for s in found.present] == [pytest.approx((0, 9))]
    # one second of it may be a pause, three are not
    assert [(s.start, s.end) for s in found.mute] == [pytest.approx((4, 7), abs=0.15)]


def test_a_file_without_sound_is_one_sentence(picture: Path) -> None:
    with pytest.raises(AudioError, match="a picture but no sound"):
        sound_stretches(picture)


def test_a_picture_that_stands_still_is_found_and_repeated_frames_are_not(tmp_path: Path) -> None:
    frames = moving_bar(FRAMES)
    frames[50:130] = frames[50]
    path = write_video(tmp_path / "v.mp4", frames, 25)
    changes = picture_changes(path)
    assert [(s.start, s.end) for s in changes.frozen(0.5, SECONDS)] == [pytest.approx((2.0, 5.2), abs=0.05)]
    assert changes.rate(5.2, SECONDS) == 25
    # a film of 24 frames a second in a file of 25
    held = moving_bar(FRAMES)[np.floor(np.arange(FRAMES) * 24 / 25).astype(int)]
    changes = picture_changes(write_video(tmp_path / "film.mp4", held, 25))
    assert changes.frozen(0.5, SECONDS) == []
    assert changes.rate(0, SECONDS) == 24


def test_frames_that_are_missing_leave_a_picture_that_stands_still(tmp_path: Path) -> None:
    times = [40 * k for k in range(100) if not 40 <= k < 70]
    changes = picture_changes(write_at_times(tmp_path / "v.mkv", moving_bar(len(times)), times))
    assert [(s.start, s.end) for s in changes.frozen(0.5, 4.0)] == [pytest.approx((1.56, 2.8), abs=0.05)]


@pytest.mark.parametrize("rate", [5, 8, 12.5, 25])
def test_the_frame_rate_is_that_of_different_frames(tmp_path: Path, rate: float) -> None:
    shown = moving_bar(FRAMES)[np.floor(np.arange(FRAMES) * rate / 25).astype(int)]
    changes = picture_changes(write_video(tmp_path / "v.mp4", shown, 25, preset="ultrafast"))
    assert changes.rate(0, SECONDS) == pytest.approx(rate, abs=0.6)
    assert changes.rate(0, 0.8) is None


def test_a_pause_does_not_lower_the_frame_rate(tmp_path: Path) -> None:
    frames = moving_bar(FRAMES)
    for start in (30, 90, 150):
        frames[start : start + 10] = frames[start]
    changes = picture_changes(write_video(tmp_path / "v.mp4", frames, 25, preset="ultrafast"))
    assert changes.frozen(0.5, SECONDS) == []
    rate = changes.rate(0, SECONDS)
    assert rate is not None and rate > 15
