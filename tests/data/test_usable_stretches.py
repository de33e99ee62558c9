"""What of a video can be learned from, for preparation and for training alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.data.usable_stretches import divide, longest_usable
from fantasytalking.errors import InputError, VideoError
from fantasytalking.media.coverage import SoundStretches, Stretch
from fantasytalking.media.video import write_video
from tests.media.files import join, moving_bar, tone, write_sound


def test_what_lacks_sound_or_stands_still_is_cut_away_with_its_reason() -> None:
    sound = SoundStretches([Stretch(1, 5), Stretch(6, 9.97)], [Stretch(2, 4.6)])
    usable, cut = divide(Stretch(0, 10), sound, [Stretch(4, 4.8), Stretch(7, 8)])
    assert [(s.start, s.end) for s in usable] == [(1, 2), (4.8, 5), (6, 7), (8, 10)]
    told = [(part.reason, part.stretch.start, part.stretch.end) for part in cut]
    assert told == [
        ("no-sound", 0, 1),
        ("silent", 2, 4.6),
        ("frozen", 4.6, 4.8),
        ("no-sound", 5, 6),
        ("frozen", 7, 8),
    ]
    assert cut[0].detail == "The picture goes on without sound from 0.00 to 1.00 s."


def test_without_knowledge_of_the_sound_only_the_picture_counts() -> None:
    usable, cut = divide(Stretch(0, 3), None, [Stretch(1, 2)])
    assert [(s.start, s.end) for s in usable] == [(0, 1), (2, 3)] and len(cut) == 1


def test_the_longest_usable_stretch_is_taken(tmp_path: Path) -> None:
    frames = moving_bar(200)
    frames[150:] = frames[150]
    picture = write_video(tmp_path / "p.mp4", frames, 25, preset="ultrafast")
    sound = write_sound(tmp_path / "s.mka", tone(7.0, 48000)[None], 48000, "aac", offset=1.0)
    path = join(tmp_path / "v.mp4", picture, sound)
    found = longest_usable(path, 80)
    assert (found.start, found.end) == pytest.approx((1.0, 6.0), abs=0.1)
    assert longest_usable(path, 4.0).end == 4.0


@pytest.mark.parametrize(
    ("rate", "message"), [(0.01, "can be learned from: The picture stands still"), (5, "changes 5 times a second")]
)
def test_a_video_without_a_usable_stretch_is_one_sentence(tmp_path: Path, rate: float, message: str) -> None:
    shown = moving_bar(100)[np.floor(np.arange(100) * rate / 25).astype(int)]
    picture = write_video(tmp_path / "p.mp4", shown, 25, preset="ultrafast")
    path = join(tmp_path / "v.mp4", picture, write_sound(tmp_path / "s.mka", tone(4.0, 48000)[None], 48000, "aac"))
    with pytest.raises(VideoError, match=message):
        longest_usable(path, 80)
    with pytest.raises(InputError, match="no sound"):
        longest_usable(picture, 80)
