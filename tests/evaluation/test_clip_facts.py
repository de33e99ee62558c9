"""What is read of a file before it is compared: its length, size and rate, and where the picture stands still while somebody speaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import InputError
from fantasytalking.evaluation.clip_facts import ClipFacts, read_facts
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.media.audio import Audio
from fantasytalking.media.video import read_frames, write_video
from tests.media.files import numbered_frames, tone


def test_length_size_and_rate_are_those_of_the_protocol_and_of_the_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", numbered_frames(46, 64, 96), 23)
    found = read_facts(path, Protocol(max_seconds=1.0))
    assert (found.frames, found.seconds, found.width, found.height, found.fps) == (25, 2.0, 96, 64, 23.0)
    assert not found.has_sound and ClipFacts.from_dict(found.to_dict()) == found and ClipFacts.from_dict({}) is None
    with pytest.raises(InputError, match="1 frame at 25 frames a second"):
        read_facts(write_video(tmp_path / "one.mp4", numbered_frames(1), 25), Protocol())


def test_a_picture_that_stands_still_under_speech_is_found_and_one_whose_mouth_moves_is_not(
    talking: Path, tmp_path: Path
) -> None:
    frames, fps = read_frames(talking / "lively.mp4")
    held = np.concatenate([frames[:10], np.repeat(frames[10:11], 40, axis=0), frames[10:20]])
    sound = Audio(tone(len(held) / 25), 16000)
    ended = Audio(np.where(np.arange(len(sound.samples)) < 10 / 25 * 16000, sound.samples, 0).astype(np.float32), 16000)
    frozen = {
        # From a CRF of 28 on, what the encoder does to a held picture can be as much as what it leaves of this one's slow motion.
        name: read_facts(write_video(tmp_path / f"{name}.mp4", clip, fps, heard, crf=23), Protocol()).frozen
        for name, clip, heard in (
            ("talking", frames, Audio(tone(len(frames) / 25), 16000)),
            ("held", held, sound),
            ("silent", held, ended),
            ("slow", frames[np.arange(len(frames)) // 4 * 4], sound),
        )
    }
    assert frozen["talking"] == frozen["silent"] == frozen["slow"] == 0
    assert 1.0 <= frozen["held"] <= 1.8, "an encoder changes a held picture a little, here and there"
