from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clips import FPS, LEFT_OUT, Clip, assign_speech, spread_windows, validation_clips

from fantasytalking.errors import InputError
from fantasytalking.media.video import write_video
from tests.media.files import moving_bar

DATA = Path(__file__).parents[3] / "shared" / "data"


def clip(frames: int) -> Clip:
    return Clip(Path("clip.mp4"), "somebody", "real", frames)


def test_windows_do_not_overlap_and_reach_from_start_to_end() -> None:
    windows = spread_windows(clip(250), count=2, frames=100)
    assert [(w.start, w.frames) for w in windows] == [(0, 100), (150, 100)]


def test_a_short_clip_is_one_window() -> None:
    windows = spread_windows(clip(75), count=2, frames=100)
    assert [(w.start, w.frames) for w in windows] == [(0, 75)]


def test_a_window_that_would_overlap_is_left_out() -> None:
    assert len(spread_windows(clip(150), count=2, frames=100)) == 1


def test_foreign_speech_is_of_another_identity_and_long_enough() -> None:
    lengths, names = [100, 75, 100, 82, 75, 100], ["a", "b", "a", "c", "d", "e"]
    for receiver, giver in enumerate(assign_speech(lengths, names)):
        assert names[giver] != names[receiver]
        assert lengths[giver] >= lengths[receiver]


def test_speech_of_equally_long_clips_is_rotated() -> None:
    assert assign_speech([50, 50, 50], ["a", "b", "c"]) == [2, 0, 1]


def test_a_clip_without_donor_is_an_error() -> None:
    with pytest.raises(InputError, match="longest"):
        assign_speech([100, 50], ["longest", "other"])


def test_a_clip_that_is_in_no_figure_is_not_listed(tmp_path: Path) -> None:
    rows = []
    for name in (*LEFT_OUT, "other"):
        write_video(tmp_path / f"{name}.mp4", moving_bar(5), FPS, preset="ultrafast")
        rows.append({"file": f"{name}.mp4", "identity": name, "kind": "real", "split": "val"})
    (tmp_path / "catalogue.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "r0083" in LEFT_OUT and [clip.name for clip in validation_clips(tmp_path)] == ["other"]


@pytest.mark.skipif(not DATA.is_dir(), reason="the talking clips are not beside the project")
def test_sound_and_picture_of_a_window_have_one_length() -> None:
    clips = validation_clips(DATA, "real")
    window = spread_windows(clips[-1], count=2, frames=10)[-1]
    assert len(window.video()) == 10
    assert window.speech().seconds == pytest.approx(10 / FPS)
    assert window.speech(5).seconds == pytest.approx(5 / FPS)


@pytest.mark.skipif(not DATA.is_dir(), reason="the talking clips are not beside the project")
def test_a_face_that_lags_gets_earlier_sound_and_silence_before_the_clip() -> None:
    plain = spread_windows(validation_clips(DATA, "real")[-1], count=1, frames=10)[0]
    late = replace(plain, clip=replace(plain.clip, lag=3))
    shift = round(3 / FPS * 48000)
    samples = late.speech().samples
    assert not samples[:shift].any()
    assert np.allclose(samples[shift:], plain.speech().samples[: len(samples) - shift], atol=1e-3)
