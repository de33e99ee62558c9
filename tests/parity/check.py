"""Largest absolute differences between this library and the released code, on a folder of reference tensors.

    python tests/parity/check.py [FOLDER]

The folder is `released`, beside this file, unless another is named. It holds `meta.json` (sizes),
`wan_i2v_original.safetensors` (the base model in its original layout), `fantasytalking_model.ckpt` and
`fantasytalking_model.safetensors` (the adapter in two layouts; the ComfyUI layout is made from them) and
`reference.safetensors` (inputs and outputs of the released code); its README.md lists them. The adapter is read in
every layout, and every velocity is computed alone and as both halves of a batch of two: the figure is the largest of all.
The last line is one JSON object keyed by the names of the tensors in `reference.safetensors`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from fantasytalking.checkpoints import convert_adapter, load_adapter, load_transformer
from fantasytalking.conditioning.audio_windows import select_tokens, window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, replace
from fantasytalking.geometry import Strides
from fantasytalking.pipeline.guidance_passes import Guidance
from fantasytalking.pipeline.noise_schedule import make_schedule
from fantasytalking.pipeline.sampling import denoise
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

RELEASED = Path(__file__).parent / "released"
TOLERANCES = {
    "audio_tokens": 1e-5,
    "audio_windows": 1e-5,
    "audio_window_ranges": 0.0,
    "audio_window_lengths": 0.0,
    "velocity_audio_off": 1e-4,
    "velocity_clip_level": 1e-4,
    "velocity_frame_level": 1e-4,
    "velocity_frame_level_scale_half": 1e-4,
    "sigmas": 1e-6,
    "final_latents": 1e-3,
}


@dataclass(frozen=True)
class Case:
    """One folder: sizes and tensors."""

    folder: Path
    meta: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @staticmethod
    def read(folder: Path) -> Case:
        meta = json.loads((folder / "meta.json").read_text())
        return Case(folder, meta, load_file(folder / "reference.safetensors"))

    def text(self, name: str) -> torch.Tensor:
        """Text embeddings, zero-padded to the length that Wan was trained with."""
        embeds = self.tensors[name]
        return F.pad(embeds, (0, 0, 0, self.meta["config"]["text_len"] - embeds.shape[1]))

    def ranges(self) -> torch.Tensor:
        """Window ranges [1, f, 2] that this library computes."""
        return window_ranges(self.meta["audio_tokens"], self.meta["num_frames"])[None]

    def audio(self, scale: float = 1.0) -> AudioCondition:
        return AudioCondition(self.tensors["audio_features"], self.ranges(), scale=scale)

    def conditions(self) -> Conditions:
        return Conditions(self.text("prompt_embeds"), self.tensors["image_embeds"], self.audio())


def load_models(case: Case, scratch: Path) -> dict[str, FantasyTalkingTransformer3DModel]:
    """The transformer with the adapter from each layout: read beside the base model, and over another adapter."""
    comfyui = scratch / "comfyui.safetensors"
    convert_adapter(case.folder / "fantasytalking_model.ckpt", comfyui, "comfyui")
    layouts = {
        "released": case.folder / "fantasytalking_model.ckpt",
        "safetensors": case.folder / "fantasytalking_model.safetensors",
        "comfyui": comfyui,
    }
    heads = {"num_attention_heads": case.meta["config"]["num_heads"], "eps": case.meta["config"]["eps"]}
    base = case.folder / "wan_i2v_original.safetensors"
    models = {name: load_transformer(base, torch.float32, adapter=path, config=heads) for name, path in layouts.items()}
    last = models["comfyui"]
    with torch.no_grad():
        for name, parameter in last.named_parameters():
            if "audio_" in name:
                parameter.zero_()
    load_adapter(last, comfyui)
    return models


def audio_errors(case: Case, model: FantasyTalkingTransformer3DModel) -> dict[str, float]:
    """Projected tokens, windows, their ranges and lengths, as the blocks of the model read them."""
    ranges = case.ranges()
    (audio,) = model.audio_tokens(case.audio(), case.meta["latent_frames"], torch.float32)
    assert audio.index is not None and audio.mask is not None
    # The last token is the zero that stands for padding.
    tokens, windows = audio.tokens[:, :-1], select_tokens(audio.tokens, audio.index)
    lengths = audio.mask.view(windows.shape[:3]).sum(-1)
    assert Strides().latent_frames(case.meta["num_frames"]) == case.meta["latent_frames"]
    return {
        "audio_tokens": distance(tokens, case.tensors["audio_tokens"]),
        "audio_windows": distance(windows, case.tensors["audio_windows"]),
        "audio_window_ranges": distance(ranges[0], case.tensors["audio_window_ranges"]),
        "audio_window_lengths": distance(lengths[0], case.tensors["audio_window_lengths"]),
    }


def velocity_errors(case: Case, model: FantasyTalkingTransformer3DModel) -> dict[str, float]:
    """The four velocities, alone and in batches of two clips with different conditions."""
    heard = case.conditions()
    asked = {
        "velocity_audio_off": replace(heard, audio=case.audio(scale=0.0)),
        "velocity_clip_level": replace(heard, audio=AudioCondition(case.tensors["audio_features"])),
        "velocity_frame_level": heard,
        "velocity_frame_level_scale_half": replace(heard, audio=case.audio(scale=0.5)),
    }
    latents = torch.cat([case.tensors["noise"], case.tensors["image_latents_and_mask"]], dim=1)
    timestep = case.tensors["timestep"]
    errors = {}
    silent = replace(heard, audio=None, text=case.text("negative_prompt_embeds"))
    other = model(latents.flip(3), timestep / 2, silent).sample
    for name, conditions in asked.items():
        reference = case.tensors[name]
        alone = model(latents, timestep, conditions).sample
        twice = model(
            latents.repeat(2, 1, 1, 1, 1), timestep.repeat(2), Conditions.cat([conditions, conditions])
        ).sample
        mixed = model(
            torch.cat([latents, latents.flip(3)]),
            torch.cat([timestep, timestep / 2]),
            Conditions.cat([conditions, silent]),
        ).sample
        outputs = (alone, twice[:1], twice[1:], mixed[:1])
        errors[name] = max(distance(mixed[1:], other), *(distance(output, reference) for output in outputs))
    return errors


def sampling_errors(case: Case, model: FantasyTalkingTransformer3DModel) -> dict[str, float]:
    """Guided sampling from noise to the final latents, by the sampler of the pipeline."""
    settings = GenerationSettings(
        steps=case.meta["steps"],
        sigma_shift=case.meta["sigma_shift"],
        prompt_guidance_scale=case.meta["prompt_guidance_scale"],
        audio_guidance_scale=case.meta["audio_guidance_scale"],
    )
    schedule = make_schedule(FlowMatchEulerDiscreteScheduler(), settings, torch.device("cpu"))
    guidance = Guidance.of_settings(settings, case.conditions(), case.text("negative_prompt_embeds"))
    latents = denoise(model, schedule, case.tensors["noise"], case.tensors["image_latents_and_mask"], guidance)
    return {
        "sigmas": distance(schedule.sigmas[:-1], case.tensors["sigmas"]),
        "final_latents": distance(latents, case.tensors["final_latents"]),
    }


def distance(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest absolute difference; infinite where the shapes differ or a number is not finite."""
    if ours.shape != reference.shape or not bool(torch.isfinite(ours.double()).all()):
        return float("inf")
    return float((ours.double() - reference.double()).abs().max())


@torch.no_grad()
def check(folder: Path) -> dict[str, float]:
    """All errors of a folder, each the largest over the layouts of the adapter."""
    case = Case.read(folder)
    worst: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for layout, model in load_models(case, Path(scratch)).items():
            errors = audio_errors(case, model) | velocity_errors(case, model)
            if layout == "released":
                errors |= sampling_errors(case, model)
            print(f"adapter layout {layout}: " + ", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
            worst = {name: max(error, worst.get(name, 0.0)) for name, error in (worst | errors).items()}
    return worst


def main() -> int:
    """Print the errors; 0 if all are within tolerance."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RELEASED
    if len(sys.argv) > 2 or not (folder / "meta.json").is_file():
        print("usage: python tests/parity/check.py [FOLDER] (with meta.json in it)", file=sys.stderr)
        return 2
    errors = check(folder)
    print(json.dumps(errors))
    return int(any(error > TOLERANCES[name] for name, error in errors.items()))


if __name__ == "__main__":
    sys.exit(main())
