"""Precomputed latents and conditions are what the pipeline itself makes of the same window at inference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fantasytalking.autoencoder import Reference, WanAutoencoder, from_uint8
from fantasytalking.data.lip_mask import lip_mask_to_latents
from fantasytalking.data.preparation.clip_latents import LatentEncoder, window_starts
from fantasytalking.data.preparation.measure_motion import raw_motion
from fantasytalking.errors import CheckpointError, SettingsError, VideoError
from fantasytalking.media.audio import Audio
from fantasytalking.pipeline.encoders import encode_conditions
from fantasytalking.pipeline.inputs import load_portrait, load_speech
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from tests.pipeline.tiny_pipeline import embedded_pipeline, wan_pipeline
from tests.training.latent_set import FPS, Clip, made_up


@pytest.fixture(scope="module")
def pipeline() -> FantasyTalkingPipeline:
    return wan_pipeline(defaults={"prompt": "a woman speaks"})


@pytest.fixture(scope="module")
def clip() -> Clip:
    # 70 x 48 pixels are no whole tokens, so the pipeline resizes them
    return made_up(27, 70, 48)


@pytest.fixture(scope="module")
def made(pipeline: FantasyTalkingPipeline, clip: Clip) -> dict[str, torch.Tensor]:
    return clip.encode(LatentEncoder(pipeline, 17, 2))


def test_windows_are_spread_over_the_clip_and_overlap_by_half_at_most() -> None:
    assert window_starts(81, 81, 4) == [0]
    assert window_starts(120, 81, 4) == [0]
    assert window_starts(121, 81, 4) == [0, 40]
    assert window_starts(460, 81, 3) == [0, 190, 379]
    assert window_starts(1, 1, 1) == [0]


def test_the_arrays_are_those_of_the_schema(made: dict[str, torch.Tensor]) -> None:
    assert made["window_starts"].tolist() == [0, 10]
    assert made["window_frames"].tolist() == [17, 17]
    shapes = {name: (tuple(made[name].shape), made[name].dtype) for name in made if name.endswith(".1")}
    # 17 frames are 739.1 ms; wav2vec2 gives one feature for 20 ms and leaves the last one out
    assert shapes == {
        "latents.1": ((16, 5, 8, 6), torch.bfloat16),
        "condition.1": ((20, 5, 8, 6), torch.bfloat16),
        "lip_mask.1": ((1, 5, 8, 6), torch.float16),
        "speech.1": ((36, 16), torch.float16),
        "image.1": ((5, 16), torch.float16),
        "motion.1": ((2,), torch.float32),
    }
    assert made["text"].shape == (3, 16)  # two words known to the tokenizer's pre-tokenizer, and the end


def test_a_window_is_what_the_pipeline_makes_of_it_at_inference(
    pipeline: FantasyTalkingPipeline, clip: Clip, made: dict[str, torch.Tensor]
) -> None:
    start, count = int(made["window_starts"][1]), 17
    first = round(start / FPS * 16000)
    # a little shorter than the frames, so that the pipeline makes exactly as many
    sound = Audio(clip.samples[first : first + round(count / FPS * 16000)], 16000)
    settings = pipeline.settings(max_seconds=15.9 / FPS)
    portrait = load_portrait(clip.frames[start], settings, pipeline.rules, find_face=False)
    speech = load_speech(Audio(sound.samples[: round(15.9 / FPS * 16000)], 16000), settings, pipeline.rules)
    assert speech.num_frames == count
    # the recording goes on where the window does: the same wave in full
    conditions = encode_conditions(
        pipeline.encoders, pipeline.rules, portrait, replace(speech, samples=sound.samples), settings
    )
    assert conditions.audio is not None and conditions.image is not None
    assert torch.equal(made["speech.1"], conditions.audio.features[0].half())
    assert torch.equal(made["image.1"], conditions.image[0].half())
    padded = torch.nn.functional.pad(made["text"], (0, 0, 0, 512 - len(made["text"])))
    assert torch.equal(padded, conditions.text[0].bfloat16())
    assert bool(conditions.text[0, len(made["text"]) - 1].any())
    reference = Reference(from_uint8(portrait.pixels)[None])
    with torch.no_grad():
        assert torch.equal(made["condition.1"], pipeline.autoencoder.condition(reference, count)[0].bfloat16())


def test_latents_are_the_mode_in_the_normalised_space_that_the_decoder_reads(
    pipeline: FantasyTalkingPipeline, made: dict[str, torch.Tensor]
) -> None:
    clip = made_up(17, 64, 64, seed=3)
    latents = clip.encode(LatentEncoder(pipeline, 17, 1))["latents.0"]
    video = from_uint8(clip.frames).movedim(0, 1)[None]
    with torch.no_grad():
        mode = pipeline.vae.encode(video).latent_dist.mode()
    mean, std = (
        torch.tensor(x).view(1, -1, 1, 1, 1)
        for x in (pipeline.vae.config.latents_mean, pipeline.vae.config.latents_std)
    )
    assert torch.equal(latents, ((mode - mean) / std)[0].bfloat16())


def test_the_first_latent_frames_of_a_window_are_those_of_the_shorter_window(pipeline: FantasyTalkingPipeline) -> None:
    long = made_up(17, seed=3)
    first: dict[str, Any] = {n: getattr(long, n)[:9] for n in ("frames", "samples", "lip_masks", "points", "scores")}
    short = replace(long, **first, joints=replace(long.joints, joints=long.joints.joints[:9]), caption="")
    a, b = long.encode(LatentEncoder(pipeline, 17, 1)), short.encode(LatentEncoder(pipeline, 17, 1))
    assert b["window_frames"].tolist() == [9]
    for name in ("latents.0", "condition.0", "lip_mask.0"):
        torch.testing.assert_close(a[name][:, :3], b[name], rtol=1e-2, atol=1e-3)


def test_lip_mask_and_motion_are_of_the_window(clip: Clip, made: dict[str, torch.Tensor]) -> None:
    mask = lip_mask_to_latents(torch.from_numpy(clip.lip_masks[10:27].astype(np.float32))[None], 5, 8, 6)[0]
    assert torch.equal(made["lip_mask.1"], mask.half())
    joints = replace(clip.joints, joints=clip.joints.joints[10:27])
    motion, _ = raw_motion(clip.points[10:27], clip.scores[10:27], joints, 70, 48)
    assert torch.equal(made["motion.1"], torch.from_numpy(motion))
    assert not torch.equal(made["motion.0"], made["motion.1"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"frames": np.zeros((0, 64, 64, 3), np.uint8)}, VideoError, "as many frames as lip masks.*0"),
        ({"scores": np.ones(3, np.float32)}, VideoError, "has \\[9, 9, 9, 3, 9\\]"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    pipeline: FantasyTalkingPipeline, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        replace(made_up(9), **change).encode(LatentEncoder(pipeline, 9, 1))


def test_models_whose_autoencoder_is_fitted_have_no_latents_to_precompute(pipeline: FantasyTalkingPipeline) -> None:
    with pytest.raises(CheckpointError, match=r"MeshAutoencoder.*--latents off"):
        LatentEncoder(embedded_pipeline())
    with pytest.raises(SettingsError, match="multiple of 4 plus 1"):
        LatentEncoder(pipeline, 80)
    assert isinstance(pipeline.autoencoder, WanAutoencoder)
