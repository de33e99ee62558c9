"""Three-way guidance: one scale for the prompt, one for the speech.

    v = v_neg + g_prompt * (v_text - v_neg) + g_audio * (v_audio - v_text)

v_neg is the velocity under the negative prompt without speech, v_text under the prompt without speech, and v_audio
under the prompt with speech. Sorted by pass it is a weighted sum,

    v = (1 - g_prompt) * v_neg + (g_prompt - g_audio) * v_text + g_audio * v_audio,

so a pass of weight 0 need not run: with equal scales, as in the released defaults, two passes are enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch

from fantasytalking.conditioning.conditions import Conditions, replace
from fantasytalking.errors import SettingsError


class Pass(StrEnum):
    """A network pass of one denoising step, named after its conditions."""

    NEGATIVE = "negative"
    TEXT = "text"
    AUDIO = "audio"


def pass_weights(
    g_prompt: float, g_audio: float, has_audio: bool = True, has_negative: bool = True
) -> dict[Pass, float]:
    """Weight of each pass that has to run, in the order of the formula; the weights sum to 1.

    Args:
        g_prompt: Prompt guidance scale; 1 leaves the prompt as it is.
        g_audio: Audio guidance scale; 1 leaves the speech as it is, 0 disables it.
        has_audio: Whether there is speech; without it, v_audio is v_text.
        has_negative: Whether the negative prompt differs from the prompt; otherwise v_neg is v_text.
    """
    audio = g_audio if has_audio else 0.0
    negative = 1.0 - g_prompt if has_negative else 0.0
    weights = {Pass.NEGATIVE: negative, Pass.TEXT: 1.0 - negative - audio, Pass.AUDIO: audio}
    if has_negative:
        # This is exactly 0 where the scales are equal; 1 - (1 - g) - g need not be.
        weights[Pass.TEXT] = g_prompt - audio
    return {which: weight for which, weight in weights.items() if weight != 0.0}


def branch(conditions: Conditions, which: Pass, negative_text: torch.Tensor | None = None) -> Conditions:
    """Conditions of one pass.

    Args:
        conditions: Conditions with prompt and speech.
        which: The pass.
        negative_text: [B, l, d] embeddings of the negative prompt; needed by `Pass.NEGATIVE` only.

    Raises:
        SettingsError: The negative pass is asked for without a negative prompt.
    """
    if which is Pass.AUDIO:
        return conditions
    if which is Pass.TEXT:
        return replace(conditions, audio=None)
    if negative_text is None:
        raise SettingsError("The negative guidance pass needs a negative prompt, but there is none; give one.")
    return replace(conditions, audio=None, text=negative_text)


@dataclass(frozen=True)
class GuidancePlan:
    """Guidance over all steps of one sampling.

    Audio guidance acts from `audio_start_percent` up to `audio_end_percent` of the steps; on the other steps its scale
    is 0 and the prompt alone guides the video. The authors advise at least 70 % of the steps; if it acts on all of
    them, the first frame may shift in colour.

    All guidance acts from `guidance_start_percent` up to `guidance_end_percent`; on the other steps scales above 1 count as 1, so that
    a single pass is left, with prompt and speech. This is the interval of diffusers' guiders (`start` and `stop`).

    Attributes:
        prompt_scale: g_prompt, 0 or more.
        audio_scale: g_audio, 0 or more.
        audio_start_percent: First step with audio guidance, in percent of the steps, 0 to 100.
        audio_end_percent: End of audio guidance, in percent of the steps, 0 to 100, not before its start.
        has_audio: Whether there is speech.
        has_negative: Whether the negative prompt differs from the prompt.
        guidance_start_percent: First step with scales above 1, in percent of the steps, 0 to 100.
        guidance_end_percent: End of those steps, in percent of the steps, 0 to 100, not before their start.

    Raises:
        SettingsError: A number is out of range.
    """

    prompt_scale: float = 5.0
    audio_scale: float = 5.0
    audio_start_percent: float = 0.0
    audio_end_percent: float = 100.0
    has_audio: bool = True
    has_negative: bool = True
    guidance_start_percent: float = 0.0
    guidance_end_percent: float = 100.0

    def __post_init__(self) -> None:
        if min(self.prompt_scale, self.audio_scale) < 0:
            raise SettingsError(
                f"Guidance scales must be 0 or more, but are {self.prompt_scale} for the prompt "
                f"and {self.audio_scale} for the audio."
            )
        for whose, start, end in (
            ("Audio guidance", self.audio_start_percent, self.audio_end_percent),
            ("Guidance", self.guidance_start_percent, self.guidance_end_percent),
        ):
            if not 0 <= start <= end <= 100:
                raise SettingsError(
                    f"{whose} must start and end between 0 and 100 percent of the steps and end after its start, "
                    f"but goes from {start} to {end}."
                )

    def audio_acts(self, step: int, num_steps: int) -> bool:
        """Whether audio guidance acts on a step, counted from 0."""
        return self.audio_start_percent <= 100 * step / num_steps < self.audio_end_percent

    def scales(self, step: int, num_steps: int) -> tuple[float, float]:
        """Scales of prompt and speech on a step, counted from 0."""
        if self.guidance_start_percent <= 100 * step / num_steps < self.guidance_end_percent:
            return self.prompt_scale, self.audio_scale
        return min(self.prompt_scale, 1.0), min(self.audio_scale, 1.0)

    def weights(self, step: int, num_steps: int) -> dict[Pass, float]:
        """Weight of each pass that has to run on a step, counted from 0."""
        audible = self.has_audio and self.audio_acts(step, num_steps)
        return pass_weights(*self.scales(step, num_steps), audible, self.has_negative)

    def passes(self, step: int, num_steps: int) -> tuple[Pass, ...]:
        """The passes that have to run on a step, counted from 0."""
        return tuple(self.weights(step, num_steps))

    def combine(
        self,
        velocities: Mapping[Pass, torch.Tensor],
        step: int,
        num_steps: int,
        audio_channels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The guided velocity of a step, float32, from the velocities [B, C, f, h, w] of its `passes`.

        Args:
            velocities: Velocity of each of the step's passes.
            step: Step, counted from 0.
            num_steps: Steps of the sampling.
            audio_channels: [C], 1 where an audio scale above 1 acts, 0 where it counts as 1; None: it acts everywhere. It has an
                effect only on steps that run the pass with speech and the same pass without.
        """
        weighted = [weight * velocities[which].float() for which, weight in self.weights(step, num_steps).items()]
        velocity = torch.stack(weighted).sum(0)
        _, audio_scale = self.scales(step, num_steps)
        if audio_channels is None or audio_scale <= 1 or not {Pass.TEXT, Pass.AUDIO} <= velocities.keys():
            return velocity
        beyond = (audio_scale - 1) * (1 - audio_channels.to(velocity)).view(1, -1, 1, 1, 1)
        return velocity - beyond * (velocities[Pass.AUDIO].float() - velocities[Pass.TEXT].float())
