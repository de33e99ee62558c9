"""Clips are read by time at one rate and one size, with their sound as it is."""

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.footage import Footage, load_footage, resized
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.media.audio import Audio
from fantasytalking.media.video import read_frames, write_video
from tests.media.files import frame_numbers, numbered_frames, tone


def test_frames_are_resampled_by_time_and_the_sound_is_untouched(tmp_path: Path) -> None:
    frames = numbered_frames(23, 64, 64)
    write_video(tmp_path / "clip.mp4", frames, 23, Audio(tone(1.0), 16000), crf=4)
    found = load_footage(tmp_path / "clip.mp4", Protocol(longest_side=64))
    assert len(found.frames) == 25
    numbers = frame_numbers(found.frames)
    assert numbers == [min(22, round(k / 25 * 23 + 1e-9)) for k in range(25)] or numbers == sorted(numbers)
    assert set(numbers) == set(range(23)), "no frame of the file is lost"
    assert found.sound is not None and len(found.sound) == 16000
    correlation = np.corrcoef(found.sound, tone(1.0)[: len(found.sound)])[0, 1]
    assert correlation > 0.99


def test_81_frames_at_23_a_second_are_resampled_and_long_enough_for_sync(tmp_path: Path, talking: Path) -> None:
    frames, _ = read_frames(talking / "calm.mp4")
    long = np.concatenate([frames, frames[::-1]])[:81]
    write_video(tmp_path / "clip.mp4", long, 23, Audio(tone(81 / 23), 16000))
    found = load_footage(tmp_path / "clip.mp4", Protocol(longest_side=256))
    run = found.longest_run
    # SyncNet's script skips tracks below 100 frames without a word: min_track is 50 here, and in the protocol.
    assert len(found.frames) == 89  # 3.52 s, the last frame begins at 3.52
    assert run.stop - run.start == 89 and found.protocol.min_track == 50


def test_clips_of_all_sizes_come_to_one_size() -> None:
    for shape in ((40, 80, 3), (300, 200, 3), (64, 64, 3)):
        image = resized(np.zeros(shape, np.uint8), 128, "lanczos")
        assert max(image.shape[:2]) == 128 and abs(image.shape[0] / image.shape[1] - shape[0] / shape[1]) < 0.02
    for name in ("bicubic", "bilinear", "area"):
        assert resized(np.full((40, 80, 3), 7, np.uint8), 20, name).shape == (10, 20, 3)


def test_only_the_beginning_of_a_long_clip_is_read(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(30), 10)
    found = load_footage(tmp_path / "clip.mp4", Protocol(fps=10, max_seconds=1.5, longest_side=64))
    assert frame_numbers(found.frames) == list(range(15)) and found.seconds == 3 and found.sound is None


def test_a_face_that_goes_away_ends_a_run(calm: Footage) -> None:
    frames = calm.frames.copy()
    frames[20:25] = 128
    found = Footage("gap", frames, None, calm.protocol)
    assert not found.seen[20:25].any() and found.seen[:20].all()
    assert (found.longest_run.start, found.longest_run.stop) == (25, len(frames))


def test_a_still_picture_has_a_still_mesh(calm: Footage) -> None:
    still = Footage("still", np.repeat(calm.frames[:1], 8, axis=0), None, calm.protocol)
    assert np.abs(still.track[0] - still.track[0][0]).max() == 0
    openings, scores = still.eyes
    assert openings.shape == (8, 2) and np.ptp(openings, axis=0).max() == 0 and (scores > 0.5).all()


def test_eyes_are_those_of_the_frame_although_repeated_frames_are_read_once(calm: Footage) -> None:
    twice = Footage("twice", np.repeat(calm.frames, 2, axis=0), None, calm.protocol)
    np.testing.assert_allclose(twice.eyes[0], calm.eyes[0].repeat(2, axis=0))
    gone = calm.frames.copy()
    gone[20:25] = 128
    assert (Footage("gap", gone, None, calm.protocol).eyes[1][20:25] == 0).all()


def test_damaged_and_single_frame_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    write_video(tmp_path / "one.mp4", numbered_frames(1), 25)
    for name in ("bad", "one", "missing"):
        with pytest.raises(FantasyTalkingError, match=name):
            load_footage(tmp_path / f"{name}.mp4", Protocol())
