"""The guidance passes of a denoising step, one at a time or as one batch.

Letters: B samples, C channels, f latent frames, h and w latent rows and columns, l text tokens, d width of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.guidance import GuidancePlan, Pass, branch
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.system.machine import free_memory
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["Denoiser", "Guidance", "GuidancePasses"]

Denoiser: TypeAlias = FantasyTalkingTransformer3DModel | Callable[[Tensor, Tensor, Conditions], Tensor]
"""The transformer, or a function of (hidden states [B, C_in, f, h, w], timesteps [B], conditions) that returns the velocity
[B, C, f, h, w]."""


@dataclass(frozen=True)
class Guidance:
    """Everything that steers a sampling run.

    Attributes:
        conditions: Conditions of B samples with prompt and speech, in the model's type and on its device.
        plan: Scale of the prompt and of the speech on each step.
        negative_text: [B or 1, l, d] embeddings of the negative prompt; None where it does not differ from the prompt.
        audio_channels: [C], 1 where an audio scale above 1 acts, 0 where it counts as 1; None: it acts on all channels.
        batching: Whether the passes of a step run as one batch: "on", "off", or "auto", where memory seems to allow it.
    """

    conditions: Conditions
    plan: GuidancePlan
    negative_text: Tensor | None = None
    audio_channels: Tensor | None = None
    batching: Literal["auto", "on", "off"] = "auto"

    @classmethod
    def of_settings(
        cls,
        settings: GenerationSettings,
        conditions: Conditions,
        negative_text: Tensor | None = None,
        audio_channels: Tensor | None = None,
    ) -> Guidance:
        """Guidance by the scales, the audio percentages and the batching of the settings; the others as in the attributes."""
        plan = GuidancePlan(
            prompt_scale=settings.prompt_guidance_scale,
            audio_scale=settings.audio_guidance_scale,
            audio_start_percent=settings.audio_start_percent,
            audio_end_percent=settings.audio_end_percent,
            has_audio=conditions.audio is not None and settings.audio_scale > 0,
            has_negative=negative_text is not None,
        )
        return cls(conditions, plan, negative_text, audio_channels, settings.batch_passes)

    def branch(self, which: Pass) -> Conditions:
        """Conditions of one pass."""
        negative = self.negative_text
        if negative is not None:
            negative = negative.expand(self.conditions.batch_size, -1, -1)
        return branch(self.conditions, which, negative)


class GuidancePasses:
    """Runs the passes of a step; falls back to one at a time for good where a batch does not fit into memory.

    Args:
        model: Predicts the velocity.
        guidance: Conditions of the passes, and whether they run as a batch; a function as model is called pass by pass unless
            batching is "on", as its memory cannot be estimated.
        image_latents: [B, 4 + C, f, h, w], mask and latents of the portrait.
    """

    def __init__(self, model: Denoiser, guidance: Guidance, image_latents: Tensor) -> None:
        self.model, self.guidance, self.batching = model, guidance, guidance.batching
        self.image_latents = image_latents.to(model.dtype) if _is_network(model) else image_latents

    def run(self, which: Sequence[Pass], latents: Tensor, timestep: Tensor) -> dict[Pass, Tensor]:
        """Predict the velocities of some passes.

        Args:
            which: The passes.
            latents: [B, C, f, h, w].
            timestep: Scalar, 0 (data) to 1000 (noise).

        Returns:
            Pass -> velocity [B, C, f, h, w].
        """
        hidden = torch.cat([latents.to(self.image_latents.dtype), self.image_latents], 1)
        branches = [self.guidance.branch(one) for one in which]
        if len(which) > 1 and self._batch(len(which), hidden):
            try:
                velocities = self._call(hidden, timestep, Conditions.cat(branches))
                return dict(zip(which, velocities.split(len(hidden)), strict=True))
            except torch.OutOfMemoryError:
                if self.batching == "on":
                    raise
                self.batching = "off"
                torch.cuda.empty_cache()
        return {one: self._call(hidden, timestep, conditions) for one, conditions in zip(which, branches, strict=True)}

    def _call(self, hidden: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """Velocity of one pass, or of several one below the other where the conditions are of as many."""
        batch = conditions.batch_size
        passes = batch // len(hidden)
        repeated = hidden[None].expand(passes, *hidden.shape).flatten(0, 1)
        times = timestep.to(hidden.device).expand(batch)
        if not _is_network(self.model):
            return self.model(repeated, times, conditions)
        velocity: Tensor = self.model(repeated, times, conditions, return_dict=False)[0]
        return velocity

    def _batch(self, passes: int, hidden: Tensor) -> bool:
        if self.batching != "auto":
            return self.batching == "on"
        if not _is_network(self.model):
            return False
        return passes * _activation_bytes(self.model, hidden) < 0.5 * free_memory(hidden.device)


def _is_network(model: Denoiser) -> TypeGuard[FantasyTalkingTransformer3DModel]:
    """Whether a model is a transformer, which may be wrapped (compiled, sharded), and no plain function."""
    return isinstance(model, nn.Module)


def _activation_bytes(transformer: FantasyTalkingTransformer3DModel, hidden: Tensor) -> float:
    """A generous estimate of what one forward pass holds besides the weights.

    The widest moment of a block is its feed-forward network, in the model's type, beside float32 copies of the tokens.
    """
    config = transformer.config
    tokens = hidden[:, 0].numel() / float(np.prod(config.patch_size))
    width = config.num_attention_heads * config.attention_head_dim
    result: float = tokens * (8 * width + 2 * config.ffn_dim) * hidden.element_size() + tokens * 6 * width * 4
    return result
