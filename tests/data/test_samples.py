"""Collating samples and dropping conditions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fantasytalking.conditioning.audio_windows import window_ranges
from fantasytalking.data.condition_dropout import Dropout
from fantasytalking.data.samples import Batch, Sample, collate
from fantasytalking.training.trainer.random_draws import StepDraws


def sample(seed: int = 0, tokens: int = 18) -> Sample:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Sample(
        latents=normal(4, 3, 2, 2),
        condition=normal(8, 3, 2, 2),
        lip_mask=torch.rand(1, 3, 2, 2, generator=generator),
        text=normal(2, 5),
        audio=normal(tokens, 6),
        image=normal(3, 7),
        identity=normal(9),
        motion=torch.tensor([0.2, 0.8]),
    )


def batch(count: int, dropout: Dropout, mode: str = "frame", seed: int = 0) -> Batch:
    """A batch with the conditions dropped as training draws them."""
    kept = StepDraws.draw(seed, 0, count, 3.0, dropout).kept
    return collate([sample(i) for i in range(count)], mode, 0.5, kept)


NEVER = Dropout(0.0, 0.0, 0.0)


def equal(found: object, expected: object) -> bool:
    """Whether both are tensors, and the same."""
    return isinstance(found, torch.Tensor) and isinstance(expected, torch.Tensor) and torch.equal(found, expected)


def test_without_dropout_everything_arrives() -> None:
    made = batch(2, NEVER)
    one, conditions = sample(1), made.conditions
    assert equal(made.latents[1], one.latents)
    assert equal(made.condition[1], one.condition)
    assert equal(made.lip_mask[1], one.lip_mask)
    assert equal(conditions.text[1], one.text)
    assert conditions.image is not None and equal(conditions.image[1], one.image)
    assert conditions.audio is not None and equal(conditions.audio.scale, torch.ones(2))
    assert conditions.identity is not None and equal(conditions.identity.scale, torch.full((2,), 0.5))
    assert conditions.motion is not None and equal(conditions.motion[1], one.motion)


def test_a_dropped_reference_takes_condition_image_and_identity_with_it_and_nothing_else() -> None:
    made = batch(3, Dropout(reference=1.0, audio=0.0, text=0.0))
    conditions = made.conditions
    assert made.condition.abs().max() == 0
    assert conditions.image is not None and conditions.image.abs().max() == 0
    assert conditions.identity is not None and equal(conditions.identity.scale, torch.zeros(3))
    assert conditions.audio is not None and equal(conditions.audio.scale, torch.ones(3))
    assert conditions.text.abs().min() > 0


def test_dropped_speech_has_scale_0_and_a_dropped_prompt_is_zeros() -> None:
    conditions = batch(3, Dropout(reference=0.0, audio=1.0, text=1.0)).conditions
    assert conditions.audio is not None and equal(conditions.audio.scale, torch.zeros(3))
    assert conditions.text.abs().max() == 0
    assert conditions.identity is not None and equal(conditions.identity.scale, torch.full((3,), 0.5))


def test_the_three_drops_are_drawn_independently_for_every_sample() -> None:
    count = 6000
    made = collate([sample()] * count, "clip", 0.5, StepDraws.draw(3, 0, count, 3.0, Dropout()).kept)
    assert made.conditions.audio is not None and isinstance(made.conditions.audio.scale, torch.Tensor)
    gone = torch.stack(
        [
            made.condition.flatten(1).abs().sum(1) == 0,
            made.conditions.audio.scale == 0,
            made.conditions.text.flatten(1).abs().sum(1) == 0,
        ]
    ).float()
    assert torch.allclose(gone.mean(1), torch.full((3,), 0.1), atol=0.015)  # four standard errors
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (gone[a] * gone[b]).mean() == pytest.approx(0.01, abs=0.006)


def test_clip_mode_listens_to_the_whole_clip_and_frame_mode_to_windows() -> None:
    clip, frame = batch(2, NEVER, "clip").conditions.audio, batch(2, NEVER, "frame").conditions.audio
    assert clip is not None and frame is not None
    assert clip.ranges is None
    assert frame.ranges is not None
    assert equal(frame.ranges, window_ranges(18, 9).expand(2, -1, -1))


@pytest.mark.parametrize("mode", ["clip", "frame"])
def test_speech_of_different_length_is_padded_and_its_length_told(mode: str) -> None:
    made = collate([sample(0, 18), sample(1, 14)], mode, 0.5, torch.ones(2, 3))
    audio = made.conditions.audio
    assert audio is not None and audio.lengths is not None
    assert audio.features.shape == (2, 18, 6)
    assert audio.features[1, 14:].abs().max() == 0
    assert audio.lengths.tolist() == [18, 14]
    if audio.ranges is not None:
        assert equal(audio.ranges[1], window_ranges(14, 9))


def test_the_same_seed_gives_the_same_batch() -> None:
    a, b, c = (batch(64, Dropout(0.5, 0.5, 0.5), seed=seed) for seed in (1, 1, 2))
    assert equal(a.condition, b.condition)
    assert not equal(a.condition, c.condition)


def test_samples_without_speech_or_identity_make_conditions_without_them() -> None:
    bare = replace(sample(), audio=None, identity=None, image=None, motion=None)
    conditions = collate([bare, bare], "frame", 0.5, torch.ones(2, 3)).conditions
    assert conditions.audio is conditions.identity is conditions.image is conditions.motion is None
