"""Several people: each video token hears the speech of the person it shows, and nobody else's."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fantasytalking.conditioning.conditions import AudioCondition, Conditions, replace
from fantasytalking.errors import InputError
from fantasytalking.transformer.attention import CrossContext, with_share
from fantasytalking.transformer.constants import Constants
from fantasytalking.transformer.context_parallel import FrameShare
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.tiny import LATENT_FRAMES, tiny_conditions, tiny_latents, tiny_transformer

ROWS, COLUMNS = 2, 3
"""Tokens of a latent frame: the left column is one person's, the right one another's, the middle one is shared or nobody's."""


def region(*columns: float) -> torch.Tensor:
    return torch.tensor(columns).expand(1, ROWS, COLUMNS)


def heard(
    first: int, second: int, regions: tuple[torch.Tensor, torch.Tensor], clip_mode: bool = False, tokens: int = 37
) -> Conditions:
    """Conditions in which two people speak, with tracks of two seeds; the second track may have another length."""
    conditions = tiny_conditions(clip_mode=clip_mode)
    tracks = [
        tiny_conditions(seed=seed, clip_mode=clip_mode, tokens=count).audio
        for seed, count in ((first, 37), (second, tokens))
    ]
    voices = [dataclasses.replace(track, region=own) for track, own in zip(tracks, regions, strict=True) if track]
    return replace(conditions, audio=AudioCondition.together(voices))


@torch.no_grad()
def velocity(
    model: FantasyTalkingTransformer3DModel, conditions: Conditions, constants: Constants | None = None
) -> torch.Tensor:
    batch = conditions.batch_size
    times = torch.full((batch,), 500.0)
    made: torch.Tensor = model(
        tiny_latents().expand(batch, -1, -1, -1, -1), times, conditions, return_dict=False, constants=constants
    )[0]
    return made


@pytest.mark.parametrize("clip_mode", [False, True])
@pytest.mark.parametrize("positions", [None, 15])
def test_a_token_hears_the_people_whose_region_it_is_in_and_nobody_else(clip_mode: bool, positions: int | None) -> None:
    # One block: in a second one, self-attention would bring what the other tokens heard.
    model = tiny_transformer(num_layers=1, audio_positions=positions)
    regions = region(1, 0, 0), region(0, 0, 1)
    made = velocity(model, heard(1, 2, regions, clip_mode))
    other_b = velocity(model, heard(1, 3, regions, clip_mode, tokens=29 if clip_mode else 37))
    other_a = velocity(model, heard(4, 2, regions, clip_mode))
    left, middle, right = (slice(2 * column, 2 * column + 2) for column in range(3))
    for changed, same in ((other_b, (left, middle)), (other_a, (middle, right))):
        for part in same:
            assert torch.equal(made[..., part], changed[..., part])
    assert (made[..., right] - other_b[..., right]).abs().max() > 1e-3
    assert (made[..., left] - other_a[..., left]).abs().max() > 1e-3
    # where nobody is, it is as without speech
    deaf = velocity(model, replace(heard(1, 2, regions, clip_mode), audio=None))
    assert torch.equal(made[..., middle], deaf[..., middle])
    alone = velocity(model, replace(deaf_but(clip_mode), audio=tiny_conditions(seed=1, clip_mode=clip_mode).audio))
    assert torch.equal(made[..., left], alone[..., left])


def deaf_but(clip_mode: bool) -> Conditions:
    return replace(tiny_conditions(clip_mode=clip_mode), audio=None)


@pytest.mark.parametrize("clip_mode", [False, True])
def test_two_people_with_one_track_between_them_are_one_speaker(clip_mode: bool) -> None:
    model = tiny_transformer()
    regions = region(1, 0.25, 0), region(0, 0.75, 1)
    both = velocity(model, heard(1, 1, regions, clip_mode))
    alone = velocity(model, replace(tiny_conditions(clip_mode=clip_mode), audio=heard_alone(1, clip_mode)))
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-5)
    assert (both - velocity(model, heard(1, 2, regions, clip_mode))).abs().max() > 1e-3


def heard_alone(seed: int, clip_mode: bool) -> AudioCondition | None:
    return tiny_conditions(seed=seed, clip_mode=clip_mode).audio


def test_kept_constants_guidance_branches_and_one_batch_of_them_change_nothing() -> None:
    model, constants = tiny_transformer(), Constants()
    both = heard(1, 2, (region(1, 0.5, 0), region(0, 0.5, 1)))
    branches = [both, replace(both, audio=None), replace(both, audio=heard_alone(3, False))]
    plain = [velocity(model, one) for one in branches]
    joined = Conditions.cat(branches)
    for _ in range(2):
        made = velocity(model, joined, constants)
        for one, alone in zip(made.split(1), plain, strict=True):
            torch.testing.assert_close(one, alone, rtol=0, atol=1e-5)
    assert joined.to(dtype=torch.float64).audio.others[0].features.dtype == torch.float64  # type: ignore[union-attr]


@pytest.mark.parametrize("clip_mode", [False, True])
def test_a_rank_that_has_some_of_the_tokens_attends_as_one_that_has_all(clip_mode: bool) -> None:
    model = tiny_transformer()
    both = heard(1, 2, (region(1, 0.5, 0), region(0, 0.5, 1)), clip_mode)
    attn, states = model.blocks[0].attn2, torch.randn(1, LATENT_FRAMES * ROWS * COLUMNS, 24)
    context = CrossContext(torch.randn(1, 7, 24), audio=model.audio_tokens(both.audio, LATENT_FRAMES, torch.float32))
    with torch.no_grad():
        whole = attn.processor(attn, states, context)
        # tokens 4 to 14: the last two of the first latent frame, the second frame, and three of the third
        part = attn.processor(attn, states[:, 4:15], with_share(context, FrameShare(0, 3, 4, 3)))
    torch.testing.assert_close(part, whole[:, 4:15], rtol=0, atol=1e-5)


def test_regions_that_do_not_fit_are_refused_by_name() -> None:
    model = tiny_transformer()
    with pytest.raises(InputError, match=r"2 x 3 tokens but the regions of the speakers \(4, 3\)"):
        velocity(model, heard(1, 2, (torch.ones(1, 4, 3), torch.ones(1, 4, 3))))
    with pytest.raises(InputError, match=r"All regions must have the size \(2, 3\)"):
        heard(1, 2, (torch.ones(1, 2, 3), torch.ones(1, 4, 3)))
    track = heard_alone(1, False)
    assert track is not None
    with pytest.raises(InputError, match="needs a region for each of them"):
        AudioCondition.together([track, track])
    other = tiny_conditions(2).audio
    assert other is not None
    with pytest.raises(InputError, match="of the same clips"):
        AudioCondition.together([track, other])
    with pytest.raises(InputError, match=r"audio.region \[B, h, w\]"):
        dataclasses.replace(track, region=torch.ones(2, 3))
