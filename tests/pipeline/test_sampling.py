"""The released formula and schedule, the passes that run, batching, and other schedulers."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from fantasytalking.conditioning.audio_windows import window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, replace
from fantasytalking.errors import SettingsError
from fantasytalking.flow import shifted
from fantasytalking.pipeline.guidance_passes import Guidance, GuidancePasses
from fantasytalking.pipeline.noise_schedule import Schedule, make_schedule
from fantasytalking.pipeline.sampling import Hooks, continuation, denoise
from fantasytalking.pipeline.settings import GenerationSettings
from tests.pipeline.tiny_pipeline import WIDTH, scheduler, transformer

CPU = torch.device("cpu")
FRAMES = 9
SHAPE = (1, 16, 3, 4, 4)


@pytest.fixture(scope="module")
def model() -> Any:
    return transformer(image_dim=None, added_kv_proj_dim=None)


def conditions() -> Conditions:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(1, 20, WIDTH, generator=generator)
    audio = AudioCondition(features, window_ranges(20, FRAMES)[None])
    return Conditions(text=torch.randn(1, 5, WIDTH, generator=generator), audio=audio)


def negative() -> torch.Tensor:
    return torch.randn(1, 5, WIDTH, generator=torch.Generator().manual_seed(8))


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise and the latents of a portrait."""
    generator = torch.Generator().manual_seed(9)
    return torch.randn(SHAPE, generator=generator), torch.randn(1, 20, *SHAPE[2:], generator=generator)


def draw(
    model: Any, told: Conditions, words: torch.Tensor | None, sampler: Any = None, **settings: Any
) -> tuple[torch.Tensor, list[int]]:
    """Clean latents, and the batch size of each call of the network."""
    how = GenerationSettings(**settings)
    noise, image_latents = drawn()
    guidance = Guidance.of_settings(how, told, words)
    schedule = make_schedule(sampler or scheduler(), how, CPU)
    seen: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    try:
        with torch.no_grad():
            latents = denoise(model, schedule, noise, image_latents, guidance)
    finally:
        hook.remove()
    return latents, seen


def test_the_sigmas_are_the_released_ones() -> None:
    settings = GenerationSettings(steps=6, sigma_shift=5.0)
    line = np.linspace(1, 0, 7)[:-1]
    schedule = make_schedule(scheduler(), settings, CPU)
    np.testing.assert_allclose(schedule.sigmas, [*(5 * line / (1 + 4 * line)), 0], atol=1e-6)
    np.testing.assert_allclose(schedule.timesteps, 1000 * schedule.sigmas[:-1], atol=1e-3)


def test_the_latents_follow_the_released_formula_step_by_step(model: Any) -> None:
    told, words = conditions(), negative()
    result, _ = draw(model, told, words, steps=3, prompt_guidance_scale=4.0, audio_guidance_scale=2.5)

    latents, image_latents = drawn()
    sigmas = make_schedule(scheduler(), GenerationSettings(steps=3), CPU).sigmas
    with torch.no_grad():
        for now, after in itertools.pairwise(sigmas):
            hidden, time = torch.cat([latents, image_latents], 1), 1000 * now[None]
            silent = model(hidden, time, replace(told, audio=None)).sample
            against = model(hidden, time, replace(told, audio=None, text=words)).sample
            heard = model(hidden, time, told).sample
            velocity = against + 4.0 * (silent - against) + 2.5 * (heard - silent)
            latents = latents + (after - now) * velocity
    torch.testing.assert_close(result, latents, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("prompt", "audio", "has_negative", "passes"),
    [
        (4.0, 2.5, True, 3),
        (5.0, 5.0, True, 2),
        (1.0, 2.5, True, 2),
        (4.0, 0.0, True, 2),
        (1.0, 1.0, True, 1),
        (1.0, 0.0, True, 1),
        (0.0, 0.0, True, 1),
        (4.0, 2.5, False, 2),
        (4.0, 1.0, False, 1),
        (4.0, 0.0, False, 1),
    ],
)
def test_passes_that_are_not_needed_are_not_run(
    model: Any, prompt: float, audio: float, has_negative: bool, passes: int
) -> None:
    words = negative() if has_negative else None
    _, seen = draw(
        model,
        conditions(),
        words,
        steps=2,
        prompt_guidance_scale=prompt,
        audio_guidance_scale=audio,
        batch_passes="off",
    )
    assert seen == [1] * (2 * passes)


def test_the_audio_schedule_switches_the_speech_off_and_spares_its_pass(model: Any) -> None:
    _, seen = draw(
        model,
        conditions(),
        negative(),
        steps=4,
        prompt_guidance_scale=4.0,
        audio_guidance_scale=2.5,
        audio_start_percent=25,
        audio_end_percent=75,
        batch_passes="on",
    )
    assert seen == [2, 3, 3, 2]


@pytest.mark.parametrize("has_negative", [True, False])
def test_passes_run_together_give_what_they_give_one_by_one(model: Any, has_negative: bool) -> None:
    told, words = conditions(), negative() if has_negative else None
    scales = {"prompt_guidance_scale": 4.0, "audio_guidance_scale": 2.5}
    together, one_call = draw(model, told, words, steps=2, batch_passes="on", **scales)
    apart, many_calls = draw(model, told, words, steps=2, batch_passes="off", **scales)
    assert len(one_call) == 2 and len(many_calls) == 2 * one_call[0]
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_small_clips_run_their_passes_together_by_default(model: Any) -> None:
    _, seen = draw(model, conditions(), negative(), steps=1, prompt_guidance_scale=4.0)
    assert seen == [3]


def test_a_batch_that_does_not_fit_into_memory_is_taken_apart_for_good(model: Any) -> None:
    sizes: list[int] = []

    def too_small(module: Any, inputs: Any) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 1:
            raise torch.OutOfMemoryError("no room for a batch")

    hook = model.register_forward_pre_hook(too_small)
    try:
        draw(model, conditions(), negative(), steps=2, prompt_guidance_scale=4.0)
    finally:
        hook.remove()
    assert sizes == [3, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "sampler",
    [
        FlowMatchHeunDiscreteScheduler(shift=3.0),
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_other_flow_schedulers_work_and_are_repeatable(model: Any, sampler: Any) -> None:
    told, words = conditions(), negative()
    first, _ = draw(model, told, words, sampler, steps=4)
    second, _ = draw(model, told, words, sampler, steps=4)
    other, _ = draw(model, told, words, sampler, steps=4, sigma_shift=1.0)
    assert first.isfinite().all() and torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_scheduler_that_is_not_of_flow_matching_is_refused() -> None:
    with pytest.raises(SettingsError, match="DDIMScheduler is not set up for flow matching"):
        make_schedule(DDIMScheduler(), GenerationSettings(), CPU)


def two_clips() -> tuple[Conditions, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Conditions, negative text, noise and image latents of two different clips."""
    generator = torch.Generator().manual_seed(11)
    audio = AudioCondition(torch.randn(2, 20, WIDTH, generator=generator), window_ranges(20, FRAMES).expand(2, -1, -1))
    told = Conditions(text=torch.randn(2, 5, WIDTH, generator=generator), audio=audio)
    words = torch.randn(2, 5, WIDTH, generator=generator)
    noise = torch.randn(2, *SHAPE[1:], generator=generator)
    return told, words, noise, torch.randn(2, 20, *SHAPE[2:], generator=generator)


def one_of(told: Conditions, row: int) -> Conditions:
    assert told.audio is not None and told.audio.ranges is not None
    part = slice(row, row + 1)
    return Conditions(told.text[part], audio=AudioCondition(told.audio.features[part], told.audio.ranges[part]))


@pytest.mark.parametrize("batching", ["on", "off"])
def test_a_batch_gives_each_clip_what_it_gets_alone(model: Any, batching: Any) -> None:
    told, words, noise, image_latents = two_clips()
    settings = GenerationSettings(
        steps=2, prompt_guidance_scale=4.0, audio_guidance_scale=2.5, batch_passes=batching, audio_end_percent=60
    )
    schedule = make_schedule(scheduler(), settings, CPU)
    with torch.no_grad():
        together = denoise(model, schedule, noise, image_latents, Guidance.of_settings(settings, told, words))
        for row in range(2):
            part = slice(row, row + 1)
            guidance = Guidance.of_settings(settings, one_of(told, row), words[part])
            alone = denoise(model, schedule, noise[part], image_latents[part], guidance)
            torch.testing.assert_close(together[part], alone, atol=1e-5, rtol=1e-5)


def test_a_negative_prompt_of_one_serves_a_batch(model: Any) -> None:
    told, words, noise, image_latents = two_clips()
    settings = GenerationSettings(steps=1, prompt_guidance_scale=4.0)
    schedule = make_schedule(scheduler(), settings, CPU)
    with torch.no_grad():
        one, each = (
            denoise(model, schedule, noise, image_latents, Guidance.of_settings(settings, told, text))
            for text in (words[:1], words[:1].expand(2, -1, -1))
        )
    assert torch.equal(one, each)


def test_the_solver_over_given_noise_levels_stops_at_the_last_of_them(model: Any) -> None:
    told, words, noise, image_latents = two_clips()
    settings = GenerationSettings(steps=4, prompt_guidance_scale=4.0, audio_guidance_scale=2.5)
    guidance = Guidance.of_settings(settings, told, words)
    sigmas = shifted(torch.linspace(1, 0, 5, dtype=torch.float64), settings.sigma_shift)
    usual = make_schedule(scheduler(), settings, CPU)
    torch.testing.assert_close(Schedule.of_sigmas(sigmas).timesteps, usual.timesteps)
    with torch.no_grad():
        whole = denoise(model, usual, noise, image_latents, guidance)
        half = denoise(model, Schedule.of_sigmas(sigmas[:3]), noise, image_latents, guidance)
        rest = denoise(model, Schedule.of_sigmas(sigmas[2:]), half, image_latents, guidance)
    torch.testing.assert_close(rest, whole, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(half, whole, atol=1e-2)


def test_a_function_serves_as_the_model(model: Any) -> None:
    told, words, noise, image_latents = two_clips()
    settings = GenerationSettings(steps=2, prompt_guidance_scale=4.0, batch_passes="off")
    schedule, guidance = make_schedule(scheduler(), settings, CPU), Guidance.of_settings(settings, told, words)

    def velocity(hidden: torch.Tensor, timestep: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        return model(hidden, timestep, conditions).sample  # type: ignore[no-any-return]

    with torch.no_grad():
        one, other = (denoise(of, schedule, noise, image_latents, guidance) for of in (model, velocity))
    assert torch.equal(one, other)


def test_known_latents_stand_at_their_noise_level_after_each_step(model: Any) -> None:
    told, words, noise, image_latents = two_clips()
    settings = GenerationSettings(steps=3, prompt_guidance_scale=4.0)
    schedule, guidance = make_schedule(scheduler(), settings, CPU), Guidance.of_settings(settings, told, words)
    known = torch.randn(2, 16, 1, *SHAPE[3:], generator=torch.Generator().manual_seed(12))
    seen: list[torch.Tensor] = []
    hooks = Hooks(
        after_step=(continuation(known, noise, schedule), lambda step, timestep, latents: seen.append(latents))
    )
    with torch.no_grad():
        made = denoise(model, schedule, noise, image_latents, guidance, hooks)
    for latents, sigma in zip(seen, schedule.sigmas[1:], strict=True):
        torch.testing.assert_close(latents[:, :, :1], (1 - sigma) * known + sigma * noise[:, :, :1])
    assert torch.equal(made[:, :, :1], known)
    with torch.no_grad():
        free = denoise(model, schedule, noise, image_latents, guidance)
    assert not torch.equal(made[:, :, 1:], free[:, :, 1:])


@pytest.mark.parametrize("batching", ["on", "off"])
def test_guidance_that_changes_between_steps_is_followed(model: Any, batching: Any) -> None:
    told, words, noise, image_latents = two_clips()
    settings = GenerationSettings(batch_passes=batching, prompt_guidance_scale=4.0, reuse_conditions="on")
    first = Guidance.of_settings(settings, told, words)
    other = dataclasses.replace(first, conditions=replace(told, text=told.text.flip(0)))
    passes, time = GuidancePasses(model, first, image_latents), torch.tensor(600.0)
    which = first.plan.passes(0, 1)
    with torch.no_grad():
        passes.run(which, noise, time)
        passes.guidance = other
        followed = passes.run(which, noise, time)
        fresh = GuidancePasses(model, other, image_latents).run(which, noise, time)
    assert all(torch.equal(followed[one], fresh[one]) for one in which)
