"""How far the transformer is from the released code's numbers on a device, in a type. Shared by tests/devices and tests/gpu."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from fantasytalking.checkpoints import load_transformer
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, replace
from fantasytalking.guidance import GuidancePlan, branch
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.parity.check import Case
from tests.parity.test_parity import FOLDER

__all__ = ["FOLDER", "TOLERANCES", "distances"]

TOLERANCES: dict[torch.dtype, float] = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Largest accepted root mean square of the difference, relative to that of the reference.

float32: sums in another order; 5e-7 on a CPU. bfloat16: it keeps 8 binary digits, so that a rounding errs by up to 2^-9 = 0.2 %, and
weights, activations and sums of every layer are rounded independently: 0.6 % for a velocity and 0.8 % after sampling on a CPU, whose
kernels round at other places than a GPU's. A wrong window, scale or branch is off by tens of per cent."""


@torch.no_grad()
def distances(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Relative distance of each velocity, alone and in a batch, and of the latents after guided sampling."""
    case = Case.read(FOLDER)
    heads = {"num_attention_heads": case.meta["config"]["num_heads"], "eps": case.meta["config"]["eps"]}
    base, adapter = FOLDER / "wan_i2v_original.safetensors", FOLDER / "fantasytalking_model.safetensors"
    model = load_transformer(base, dtype, adapter=adapter, config=heads).to(device)
    case = Case(FOLDER, case.meta, {name: tensor.to(device) for name, tensor in case.tensors.items()})
    return _velocities(case, model, dtype) | {"final_latents": _sampled(case, model, dtype)}


def _conditions(case: Case, dtype: torch.dtype) -> Conditions:
    ranges = case.ranges().to(case.tensors["noise"].device)
    told = Conditions(
        case.text("prompt_embeds"), case.tensors["image_embeds"], AudioCondition(case.tensors["audio_features"], ranges)
    )
    return told.to(dtype=dtype)


def _velocities(case: Case, model: FantasyTalkingTransformer3DModel, dtype: torch.dtype) -> dict[str, float]:
    heard = _conditions(case, dtype)
    audio = heard.audio
    assert audio is not None
    asked = {
        "velocity_audio_off": replace(heard, audio=AudioCondition(audio.features, audio.ranges, scale=0.0)),
        "velocity_clip_level": replace(heard, audio=AudioCondition(audio.features)),
        "velocity_frame_level": heard,
        "velocity_frame_level_scale_half": replace(
            heard, audio=AudioCondition(audio.features, audio.ranges, scale=0.5)
        ),
    }
    latents = torch.cat([case.tensors["noise"], case.tensors["image_latents_and_mask"]], 1).to(dtype)
    timestep = case.tensors["timestep"]
    found = {}
    for name, conditions in asked.items():
        alone = model(latents, timestep, conditions).sample
        both = model(latents.repeat(2, 1, 1, 1, 1), timestep.repeat(2), Conditions.cat([conditions, conditions])).sample
        found[name] = max(_relative(output, case.tensors[name]) for output in (alone, both[:1], both[1:]))
    return found


def _sampled(case: Case, model: FantasyTalkingTransformer3DModel, dtype: torch.dtype) -> float:
    """Guided sampling as the pipeline does it: latents in float32, passes in the model's type."""
    meta, device = case.meta, case.tensors["noise"].device
    scheduler = FlowMatchEulerDiscreteScheduler(shift=meta["sigma_shift"])
    scheduler.set_timesteps(sigmas=torch.linspace(1, 0, meta["steps"] + 1)[:-1].tolist(), device=device)
    plan = GuidancePlan(meta["prompt_guidance_scale"], meta["audio_guidance_scale"])
    conditions, negative = _conditions(case, dtype), case.text("negative_prompt_embeds").to(dtype)
    latents = case.tensors["noise"].float()
    for step, timestep in enumerate(scheduler.timesteps):
        inputs = torch.cat([latents, case.tensors["image_latents_and_mask"]], 1).to(dtype)
        velocities = {
            which: model(inputs, timestep[None], branch(conditions, which, negative)).sample
            for which in plan.passes(step, meta["steps"])
        }
        velocity = plan.combine(velocities, step, meta["steps"])
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0].float()
    return _relative(latents, case.tensors["final_latents"])


def _relative(found: Tensor, wanted: Tensor) -> float:
    """Root mean square of the difference over that of the reference; infinite where shapes differ or a number is not finite."""
    if found.shape != wanted.shape or not bool(torch.isfinite(found).all()):
        return float("inf")
    difference = found.double() - wanted.double()
    return float((difference.square().mean() / wanted.double().square().mean()).sqrt())
