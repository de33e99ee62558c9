"""Several people in one picture: each moves by their own speech, and as if they were alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import SettingsError
from fantasytalking.media.audio import load_audio
from fantasytalking.media.video import read_frames
from fantasytalking.pipeline.inputs import load_portrait
from fantasytalking.pipeline.several_speakers import place_weights
from tests.pipeline.test_dubbing import Quiet, psnr, side_by_side
from tests.pipeline.tiny_pipeline import embedded_pipeline, speech, wan_pipeline


def test_each_of_two_people_moves_as_if_they_were_alone(tmp_path: Path) -> None:
    pipeline = embedded_pipeline(defaults={"steps": 1, "audio_guidance_scale": 1.0, "face_check": "off"})
    (picture,) = side_by_side(1)
    tracks = {0: speech(0.4), 1: speech(0.4)}
    tracks[1].samples[4800:] = 0
    made = pipeline.speak_together(picture, tracks, tmp_path / "both.mp4", progress=Quiet(), watermark="off")
    frames = read_frames(made.path)[0]
    assert (made.frames, made.width, made.height) == (10, 360, 192) == (len(frames), *frames.shape[2:0:-1])
    assert load_audio(made.path).seconds == pytest.approx(0.4, abs=0.05)
    portraits = [load_portrait(picture, pipeline.settings(face=face), pipeline.rules, True) for face in tracks]
    weights = place_weights(portraits)
    np.testing.assert_allclose(weights.sum(0), 1, atol=1e-6)
    for face, half in enumerate((slice(40, 150), slice(210, 340))):
        assert weights[face][40:150, half].min() > 0.95
        # each has a seed of their own
        own = pipeline.speak_together(
            picture, {face: tracks[face]}, tmp_path / f"{face}.mp4", seed=face, progress=Quiet(), watermark="off"
        )
        alone = read_frames(own.path)[0]
        place = np.zeros(picture.shape[:2], bool)
        place[40:150, half] = True
        assert psnr(frames, alone, place) > 34


def test_a_model_that_paints_whole_frames_takes_one_speaker_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="one person at a time speaks in a picture"):
        wan_pipeline().speak_together(side_by_side(1)[0], {0: speech(), 1: speech()}, tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())
