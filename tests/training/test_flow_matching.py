"""The training objective against its formulas."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from fantasytalking.training.flow_matching import FlowTarget, flow_loss, target_of
from fantasytalking.training.trainer.random_draws import sample_sigmas
from fantasytalking.training.trainer.stages import CLIP_LEVEL, ETA, FRAME_LEVEL, STAGES, Stage


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(batch: int = 3, frames: int = 3) -> torch.Tensor:
    return torch.randn(batch, 4, frames, 2, 2, generator=generator(9))


def make_target(latents: torch.Tensor, shift: float, chance: torch.Generator) -> FlowTarget:
    """The target at drawn noise levels."""
    sigma = sample_sigmas(len(latents), shift, chance)
    return target_of(latents, torch.randn(latents.shape, generator=chance), sigma)


def lips_drawn(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, generator=generator(seed))


def case(batch: int = 3, frames: int = 3) -> tuple[torch.Tensor, FlowTarget, torch.Tensor]:
    """Prediction, target and lip mask."""
    target = make_target(latents(batch, frames), 3.0, generator(1))
    prediction = torch.randn(target.velocity.shape, generator=generator(2))
    return prediction, target, torch.rand(batch, 1, frames, 2, 2, generator=generator(3))


def test_the_velocity_leads_from_data_to_noise() -> None:
    """x_s = (1 - s) x_0 + s e and v = e - x_0, so x_s - s v = x_0."""
    clean = latents()
    target = make_target(clean, 3.0, generator())
    s = target.sigma.view(-1, 1, 1, 1, 1)
    assert torch.allclose(target.noisy - s * target.velocity, clean, atol=1e-5)
    noise = target.velocity + clean
    assert torch.allclose(target.noisy, (1 - s) * clean + s * noise, atol=1e-5)
    assert abs(float(noise.mean())) < 0.3
    assert 0.8 < float(noise.std()) < 1.2


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_noise_levels_are_shifted_as_the_scheduler_shifts_them(shift: float) -> None:
    batch = 16
    draws = generator(4)
    u = (torch.randperm(batch, generator=draws) + torch.rand(batch, generator=draws)) / batch
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    order = u.argsort(descending=True)
    scheduler.set_timesteps(sigmas=u[order].tolist())
    ours = sample_sigmas(batch, shift, generator(4))
    assert torch.allclose(ours[order], scheduler.sigmas[:-1], atol=1e-5)


def test_noise_levels_come_one_from_each_stratum() -> None:
    sigma = sample_sigmas(50, 1.0, generator())
    assert sorted((sigma * 50).long().tolist()) == list(range(50))
    assert 0 <= sigma.min() <= sigma.max() < 1


def test_stage_1_is_the_plain_squared_error() -> None:
    prediction, target, mask = case()
    losses = flow_loss(prediction, target, mask, CLIP_LEVEL, lips_drawn(3))
    expected = (prediction - target.velocity).square().mean((1, 2, 3, 4))
    assert torch.allclose(losses.total, expected)


def test_stage_2_looks_at_the_lips_alone_when_p_is_above_eta() -> None:
    prediction, target, mask = case()
    losses = flow_loss(prediction, target, mask, Stage("lips", "frame", eta=0.0), lips_drawn(3))
    error = (prediction - target.velocity).square()
    expected = (mask * error).sum((1, 2, 3, 4)) / (4 * mask.sum((1, 2, 3, 4)))
    assert torch.allclose(losses.total, expected, rtol=1e-4)
    assert torch.allclose(losses.parts["lips"], losses.total)


def test_stage_2_is_plain_for_a_share_eta_of_the_samples() -> None:
    batch = 8000
    clean = torch.zeros(1, 1, 1, 1, 2).expand(batch, -1, -1, -1, -1)
    target = FlowTarget(clean, clean, torch.zeros(batch))
    prediction = torch.tensor([1.0, 2.0]).expand_as(clean)
    mask = torch.tensor([1.0, 0.0]).expand_as(clean)
    total = flow_loss(prediction, target, mask, FRAME_LEVEL, lips_drawn(batch)).total
    plain, lips = total == 2.5, total == 1.0
    assert (plain | lips).all()
    assert plain.float().mean() == pytest.approx(ETA, abs=0.02)
    assert ETA == 0.2


def test_the_same_p_gives_the_same_loss_and_another_one_another() -> None:
    prediction, target, mask = case(64)
    a, b, c = (flow_loss(prediction, target, mask, FRAME_LEVEL, lips_drawn(64, seed)).total for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_the_given_first_frame_is_trained_on_too() -> None:
    prediction, target, mask = case()
    worse = prediction.clone()
    worse[:, :, 0] += 100
    for stage in STAGES.values():
        a, b = (flow_loss(p, target, mask, stage, lips_drawn(3)).total for p in (prediction, worse))
        assert (b > a).all()


def test_what_the_masked_loss_leaves_out_is_reported_as_rest() -> None:
    prediction, target, mask = case()
    losses = flow_loss(prediction, target, mask, CLIP_LEVEL, lips_drawn(3))
    share = mask.mean((1, 2, 3, 4))
    assert torch.allclose(share * losses.parts["lips"] + (1 - share) * losses.parts["rest"], losses.total, rtol=1e-4)


def test_an_empty_lip_mask_is_no_error() -> None:
    prediction, target, mask = case()
    losses = flow_loss(prediction, target, torch.zeros_like(mask), FRAME_LEVEL, lips_drawn(3))
    assert torch.isfinite(losses.total).all()


def test_the_gradient_of_the_masked_loss_stays_in_the_mask() -> None:
    prediction, target, mask = case()
    mask = (mask > 0.5).float()
    prediction.requires_grad_()
    flow_loss(prediction, target, mask, Stage("lips", "frame", eta=0.0), lips_drawn(3)).total.sum().backward()
    assert prediction.grad is not None
    assert (prediction.grad != 0).eq(mask.bool()).all()


def test_the_stages_are_the_papers_and_one_without_lip_mask_for_the_ablation() -> None:
    assert list(STAGES) == ["clip", "frame", "frame-unmasked"]
    assert (STAGES["frame-unmasked"].audio, STAGES["frame-unmasked"].eta) == ("frame", 1.0)
    assert (CLIP_LEVEL.audio, CLIP_LEVEL.eta) == ("clip", 1.0)
    assert (FRAME_LEVEL.audio, FRAME_LEVEL.eta, FRAME_LEVEL.rest_weight) == ("frame", 0.2, 0.0)
