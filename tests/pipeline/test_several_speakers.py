"""Several people in one picture: each moves by their own speech, and as if they were alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fantasytalking.errors import FaceError, SettingsError
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import read_frames
from fantasytalking.perception.faces import detect_faces
from fantasytalking.pipeline import inputs, portrait_face, speaker_regions
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.speaker_regions import place_shares, token_regions
from tests.pipeline.test_dubbing import Quiet, psnr, side_by_side
from tests.pipeline.tiny_pipeline import embedded_pipeline, speech, transformer, wan_pipeline


def test_each_of_two_people_moves_as_if_they_were_alone(tmp_path: Path) -> None:
    pipeline = embedded_pipeline(defaults={"steps": 1, "audio_guidance_scale": 1.0, "face_check": "off"})
    (picture,) = side_by_side(1)
    tracks = {0: speech(0.4), 1: speech(0.4)}
    tracks[1].samples[4800:] = 0
    made = pipeline.speak_together(picture, tracks, tmp_path / "both.mp4", progress=Quiet(), watermark="off")
    frames = read_frames(made.path)[0]
    assert (made.frames, made.width, made.height) == (10, 360, 192) == (len(frames), *frames.shape[2:0:-1])
    assert load_audio(made.path).seconds == pytest.approx(0.4, abs=0.05)
    weights = place_shares(detect_faces(picture), 192, 360)
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


@pytest.fixture(scope="module")
def wan() -> FantasyTalkingPipeline:
    """One block, as in a second one self-attention brings what other tokens heard; pictures of 7 x 12 tokens."""
    return wan_pipeline(transformer=transformer(num_layers=1), longest_side=192, defaults={"steps": 1})


PLAIN: dict[str, Any] = {"prompt_guidance_scale": 1.0, "audio_guidance_scale": 1.0, "face_check": "off"}
LEFT, RIGHT = np.s_[..., 6:10, 4:10], np.s_[..., 6:10, 17:22]
"""Latents of the two faces."""


@contextmanager
def velocities(pipeline: FantasyTalkingPipeline) -> Iterator[list[torch.Tensor]]:
    """What the transformer predicts, call by call."""
    made: list[torch.Tensor] = []
    hook = pipeline.transformer.register_forward_hook(lambda module, inputs, output: made.append(output[0].clone()))
    try:
        yield made
    finally:
        hook.remove()


def rows(pipeline: FantasyTalkingPipeline, tracks: dict[int, Audio], path: Path, **settings: Any) -> list[torch.Tensor]:
    """Velocities [C, f, h, w] of every pass of a video in which several speak."""
    with velocities(pipeline) as made:
        pipeline.speak_together(side_by_side(1)[0], tracks, path, progress=Quiet(), **{**PLAIN, **settings})
    return [row for call in made for row in call]


def together(*arguments: Any, **settings: Any) -> torch.Tensor:
    """The only velocity of a video of one pass."""
    (made,) = rows(*arguments, **settings)
    return made


@pytest.mark.parametrize("level", ["frame", "clip"])
def test_each_face_of_a_painted_video_follows_its_own_track_alone(
    level: str, wan: FantasyTalkingPipeline, tmp_path: Path
) -> None:
    one, other, third = speech(0.4), speech(0.4), speech(0.4)
    other.samples[3200:] = 0
    third.samples[:3200] *= 0.2
    made = together(wan, {0: one, 1: other}, tmp_path / "a.mp4", audio_level=level)
    frames, sound = read_frames(tmp_path / "a.mp4")[0], load_audio(tmp_path / "a.mp4")
    assert frames.shape == (9, 112, 192, 3) and sound.seconds == pytest.approx(0.4, abs=0.06)
    b_differs = together(wan, {0: one, 1: third}, tmp_path / "b.mp4", audio_level=level)
    a_differs = together(wan, {0: third, 1: other}, tmp_path / "c.mp4", audio_level=level)
    for changed, own, another in ((b_differs, RIGHT, LEFT), (a_differs, LEFT, RIGHT)):
        assert torch.equal(made[another], changed[another])
        assert (made[own] - changed[own]).abs().max() > 1e-3
    if level == "clip":
        return
    # who has no track hears silence, whatever the other one says
    alone = [
        together(wan, {0: track}, tmp_path / f"{name}.mp4", audio_level=level)
        for name, track in (("d", one), ("e", third))
    ]
    assert torch.equal(alone[0][RIGHT], alone[1][RIGHT]) and torch.equal(alone[0][LEFT], made[LEFT])
    assert (alone[0][RIGHT] - made[RIGHT]).abs().max() > 1e-3


@pytest.mark.parametrize("level", ["frame", "clip"])
def test_two_people_with_one_track_in_all_of_the_picture_are_the_plain_video(
    level: str, wan: FantasyTalkingPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker_regions, "REACH", (98, 99))
    guided = {"steps": 2, "prompt_guidance_scale": 4.0, "audio_guidance_scale": 5.0, "audio_level": level}
    both = rows(wan, {0: speech(0.4), 1: speech(0.4)}, tmp_path / "both.mp4", **guided)
    with velocities(wan) as made:
        wan(side_by_side(1)[0], speech(0.4), progress=Quiet(), **{**PLAIN, **guided})
    torch.testing.assert_close(both, [row for call in made for row in call], rtol=0, atol=1e-5)
    assert len(both) == 6


@pytest.mark.parametrize("mode", ["continue", "windows"])
def test_long_videos_of_several_people_are_the_same_however_the_passes_run(
    mode: str, wan: FantasyTalkingPipeline, tmp_path: Path
) -> None:
    tracks = {0: speech(1.9), 1: speech(1.5)}
    guided = {"steps": 2, "prompt_guidance_scale": 2.0, "audio_guidance_scale": 3.0, "long_video": mode}
    made = []
    for batching, reuse in (("off", "off"), ("on", "on")):
        made.append(
            rows(
                wan,
                tracks,
                tmp_path / f"{reuse}.mp4",
                segment_seconds=1,
                batch_passes=batching,
                reuse_conditions=reuse,
                longest_side=96,
                **guided,
            )
        )
    assert len(made[0]) > 6  # more than a segment of two steps of three passes
    assert len(read_frames(tmp_path / "on.mp4")[0]) == 44
    # Passes in one batch are rounded otherwise, and each segment begins with what the one before has made of that: 1.3e-5 on an AMD EPYC.
    torch.testing.assert_close(*made, rtol=0, atol=5e-5)


def test_a_step_cache_that_skips_nothing_changes_nothing(tmp_path: Path) -> None:
    pipeline, tracks = wan_pipeline(longest_side=64), {0: speech(0.2), 1: speech(0.2)}
    settings = {"steps": 3, "audio_guidance_scale": 3.0}
    cached = rows(pipeline, tracks, tmp_path / "cached.mp4", cache="first-block", cache_threshold=1e-9, **settings)
    plain = rows(pipeline, tracks, tmp_path / "plain.mp4", **settings)
    torch.testing.assert_close(cached, plain, rtol=0, atol=1e-5)


def test_tokens_of_nobody_hear_nothing_and_those_of_a_face_hear_all_of_its_speech() -> None:
    picture = side_by_side(1)[0]
    faces = detect_faces(picture)
    regions = token_regions(faces, 192, 352)
    assert regions.shape == (2, 12, 22) and regions.sum(0).max() <= 1 + 1e-6
    assert regions[0, 6, 6] == 1 and regions[1, 6, 16] == 1
    wide = token_regions(faces[:1], 192, 1024)
    assert wide[0, 6, 6] == 1 and wide[0, :, 40:].max() == 0


def test_a_picture_is_read_and_searched_once_however_many_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def counted(name: str, read: Any) -> Any:
        def count(*given: Any) -> Any:
            seen.append(name)
            return read(*given)

        return count

    for name in ("load_image", "detect_faces"):
        monkeypatch.setattr(inputs, name, counted(name, getattr(inputs, name)))
    monkeypatch.setattr(portrait_face, "detect_faces", lambda *_: pytest.fail("the faces are known"))
    rules = embedded_pipeline().rules
    settings = GenerationSettings.create({"longest_side": 300, "face_check": "off"})
    portraits = inputs.load_portraits(side_by_side(1)[0], (1, 0), settings, rules)
    assert seen == ["load_image", "detect_faces"]
    assert [len(portrait.notes) for portrait in portraits.values()] == [1, 0]
    for number, portrait in portraits.items():
        assert portrait.face is not None and len(portrait.all_faces) == 2
        assert portrait.face.box == portrait.all_faces[number].box


def test_what_cannot_be_spoken_by_several_is_one_sentence(wan: FantasyTalkingPipeline, tmp_path: Path) -> None:
    picture = side_by_side(1)[0]
    with pytest.raises(FaceError, match="no face 2"):
        wan.speak_together(picture, {0: speech(), 2: speech()}, tmp_path / "out.mp4", progress=Quiet())
    with pytest.raises(SettingsError, match="Nobody speaks"):
        wan.speak_together(picture, {}, tmp_path / "out.mp4", progress=Quiet())
    with pytest.raises(SettingsError, match="face 1 was chosen besides"):
        wan.speak_together(picture, {0: speech()}, tmp_path / "out.mp4", progress=Quiet(), face=1)
    assert not list(tmp_path.iterdir())
