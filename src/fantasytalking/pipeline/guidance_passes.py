"""The guidance passes of a denoising step, one at a time or as one batch.

Letters: B samples, C channels, f latent frames, h and w latent rows and columns, l text tokens, d width of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from fantasytalking.acceleration.caches import NO_CACHE, StepCache
from fantasytalking.acceleration.ranks import Ranks, together
from fantasytalking.conditioning.conditions import Conditions, with_tensor_scales
from fantasytalking.flow import TIMESTEPS
from fantasytalking.guidance import GuidancePlan, Pass, branch
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.system.machine import free_memory
from fantasytalking.transformer.constants import Constants, constant_bytes
from fantasytalking.transformer.context_parallel import agreed
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from fantasytalking.transformer.step_caches import check_calls, decides_by_pass

__all__ = ["Denoiser", "Guidance", "GuidancePasses", "Place", "plan_of"]

Denoiser: TypeAlias = FantasyTalkingTransformer3DModel | Callable[[Tensor, Tensor, Conditions], Tensor]
"""The transformer, or a function of (hidden states [B, C_in, f, h, w], timesteps [B], conditions) that returns the velocity
[B, C, f, h, w]."""


def plan_of(settings: GenerationSettings, has_audio: bool, has_negative: bool) -> GuidancePlan:
    """Guidance over the steps, by the settings.

    Args:
        settings: Uses the scales and the percentages.
        has_audio: Whether there is speech.
        has_negative: Whether the negative prompt differs from the prompt.
    """
    return GuidancePlan(
        prompt_scale=settings.prompt_guidance_scale,
        audio_scale=settings.audio_guidance_scale,
        audio_start_percent=settings.audio_start_percent,
        audio_end_percent=settings.audio_end_percent,
        has_audio=has_audio and settings.audio_scale > 0,
        has_negative=has_negative,
        guidance_start_percent=settings.guidance_start_percent,
        guidance_end_percent=settings.guidance_end_percent,
    )


@dataclass(frozen=True)
class Guidance:
    """Everything that steers a sampling run.

    Attributes:
        conditions: Conditions of B samples with prompt and speech, in the model's type and on its device.
        plan: Scale of the prompt and of the speech on each step.
        negative_text: [B or 1, l, d] embeddings of the negative prompt; None where it does not differ from the prompt.
        audio_channels: [C], 1 where an audio scale above 1 acts, 0 where it counts as 1; None: it acts on all channels.
        batching: Whether the passes of a step run as one batch: "on", "off", or "auto", where memory seems to allow it.
        reuse: Whether what follows from the conditions alone is kept over the steps: "on", "off", or "auto", where it is small beside the
            free memory.
        cache: Step cache of the sampling.
        ranks: Processes that share the passes; None: this one runs all of them.
    """

    conditions: Conditions
    plan: GuidancePlan
    negative_text: Tensor | None = None
    audio_channels: Tensor | None = None
    batching: Literal["auto", "on", "off"] = "auto"
    reuse: Literal["auto", "on", "off"] = "auto"
    cache: StepCache = NO_CACHE
    ranks: Ranks | None = None

    @classmethod
    def of_settings(
        cls,
        settings: GenerationSettings,
        conditions: Conditions,
        negative_text: Tensor | None = None,
        audio_channels: Tensor | None = None,
        ranks: Ranks | None = None,
    ) -> Guidance:
        """Guidance by the settings; the other arguments are attributes."""
        cache = StepCache(settings.cache, settings.cache_threshold, settings.cache_interval)
        plan = plan_of(settings, conditions.audio is not None, negative_text is not None)
        choices = settings.batch_passes, settings.reuse_conditions, cache, ranks
        return cls(conditions, plan, negative_text, audio_channels, *choices)

    def branch(self, which: Pass, conditions: Conditions | None = None) -> Conditions:
        """Conditions of one pass, out of these or given ones with prompt and speech."""
        negative = self.negative_text
        if negative is not None:
            negative = negative.expand(self.conditions.batch_size, -1, -1)
        return branch(conditions or self.conditions, which, negative)


@dataclass(frozen=True)
class Place:
    """Where a sampling is, for caches that go by it.

    Attributes:
        step: Counted from 0.
        count: Number of steps.
        timestep: 0 (data) to 1000 (noise), on the CPU, as reading one from a device waits for it.
    """

    step: int
    count: int
    timestep: float


@dataclass(frozen=True)
class _Call:
    """Passes that are one call of the model, and what it keeps between the steps."""

    conditions: Conditions
    constants: Constants | None


class GuidancePasses:
    """Runs the passes of a step; falls back to one at a time for good where a batch does not fit into memory.

    Each call of the model has a cache context of its own, named after its passes. When other passes follow, all that step caches know is
    forgotten, so that no pass continues from what another has left, or from its own of many steps ago.

    Args:
        model: Predicts the velocity.
        guidance: Conditions of the passes, and whether they run as a batch; a function as model is called pass by pass unless
            batching is "on", as its memory cannot be estimated. Under a cache that decides for each pass, such as first-block, they
            never run as a batch.
        image_latents: [B, 4 + C, f, h, w], mask and latents of the portrait.
        name: Distinguishes several that are run in turn on one model, such as those of the windows of a long video.
    """

    def __init__(self, model: Denoiser, guidance: Guidance, image_latents: Tensor, name: str = "") -> None:
        self.model, self.batching, self._name = model, guidance.batching, name
        self.image_latents = image_latents
        self._state: tuple[object, ...] = ()
        self._calls: dict[tuple[Pass, ...], _Call] = {}
        if _is_network(model):
            self.image_latents = image_latents.to(model.dtype)
            if decides_by_pass(model):
                self.batching = "off"
        self.guidance = guidance

    @property
    def guidance(self) -> Guidance:
        """Conditions of the passes; other ones may be set between two steps."""
        return self._guidance

    @guidance.setter
    def guidance(self, guidance: Guidance) -> None:
        if getattr(self, "_guidance", None) is guidance:
            return
        self._guidance, self._state, self._calls = guidance, (), {}
        # A compiled model has one graph for all scales if they are tensors.
        self._conditions = with_tensor_scales(guidance.conditions) if _is_network(self.model) else guidance.conditions

    def run(
        self, which: Sequence[Pass], latents: Tensor, timestep: Tensor, place: Place | None = None
    ) -> dict[Pass, Tensor]:
        """Predict the velocities of some passes; of those of other processes, too, where several share them.

        Args:
            which: The passes.
            latents: [B, C, f, h, w].
            timestep: Scalar, 0 (data) to 1000 (noise).
            place: Where the sampling is; None: caches that go by it count calls.

        Returns:
            Pass -> velocity [B, C, f, h, w].
        """
        ranks = self.guidance.ranks
        if ranks is None:
            return self._run(tuple(which), tuple(which), latents, timestep, place)
        with together(ranks if ranks.fails_together else None):
            own = self._run(tuple(which), ranks.own(which), latents, timestep, place)
        return ranks.exchanged(which, own, latents)

    def _run(
        self, which: tuple[Pass, ...], own: tuple[Pass, ...], latents: Tensor, timestep: Tensor, place: Place | None
    ) -> dict[Pass, Tensor]:
        """Velocities of this process's passes, out of all passes of the step."""
        hidden = torch.cat([latents.to(self.image_latents.dtype), self.image_latents], 1)
        self._prepare(which, own, hidden)
        try:
            velocities: dict[Pass, Tensor] = {}
            for passes, call in self._calls.items():
                velocity = self._call(self._name + "+".join(passes), call, hidden, timestep, place)
                velocities.update(zip(passes, velocity.split(len(hidden)), strict=True))
            return velocities
        except torch.OutOfMemoryError:
            # Where processes share the tokens, the others wait in the middle of this pass.
            if self.batching != "auto" or len(self._calls) == len(own) or _token_mesh(self.model) is not None:
                raise
        self.batching = "off"
        torch.cuda.empty_cache()
        return self._run(which, own, latents, timestep, place)

    def _prepare(self, which: tuple[Pass, ...], own: tuple[Pass, ...], hidden: Tensor) -> None:
        """Set up the calls of a step, which are those of the last step as long as passes, batching and LoRA are the same."""
        state = (which, self.batching, adapters_of(self.model))
        if state == self._state:
            return
        if self._state[2:] != state[2:]:
            self._calls = {}
        self._state = state
        if _is_network(self.model):
            self.model._reset_stateful_cache()
        batched = len(own) > 1 and self._agreed(self._batch(len(own), hidden), hidden.device)
        groups = ([own] if batched else [(one,) for one in own]) if own else []
        if _is_network(self.model) and groups:
            check_calls(self.model, len(groups))
        conditions = {group: self._join(group) for group in groups}
        kept = bool(groups) and self._agreed(self._keeps(list(conditions.values()), hidden), hidden.device)
        # What is not needed any more is let go before anything new is computed.
        self._calls = {
            group: self._calls.get(group) or _Call(told, Constants() if kept else None)
            for group, told in conditions.items()
        }

    def _agreed(self, choice: bool, device: torch.device) -> bool:
        """A choice as all processes make it that share the tokens of a call; each would make it by its own free memory."""
        mesh = _token_mesh(self.model)
        return choice if mesh is None else agreed(choice, mesh, device)

    def _join(self, passes: tuple[Pass, ...]) -> Conditions:
        parts = [self.guidance.branch(one, self._conditions) for one in passes]
        return Conditions.cat(parts) if len(parts) > 1 else parts[0]

    def _call(self, name: str, call: _Call, hidden: Tensor, timestep: Tensor, place: Place | None) -> Tensor:
        """Velocity of one pass, or of several one below the other where the conditions are of as many."""
        batch = call.conditions.batch_size
        repeated = hidden[None].expand(batch // len(hidden), *hidden.shape).flatten(0, 1)
        times = timestep.to(hidden.device).expand(batch)
        if not _is_network(self.model):
            return self.model(repeated, times, call.conditions)
        compiled = _is_compiled(self.model)
        if compiled:
            self.model.check_compilable(hidden)
        if compiled and call.constants is not None and not call.constants.contexts:
            self._fill(call, repeated, times, place)
        with self.model.cache_context(name, **_context(place)):
            velocity: Tensor = self.model(
                repeated, times, call.conditions, return_dict=False, constants=call.constants
            )[0]
        # A graph that CUDA replays writes each result to the same place, where the next pass would find that of this one.
        return velocity.clone() if compiled else velocity

    def _fill(self, call: _Call, hidden: Tensor, timestep: Tensor, place: Place | None) -> None:
        """Compute the constants by a call without compilation, on one patch of each frame, so that no graph is made for filling them."""
        assert _is_network(self.model)
        _, height, width = self.model.config.patch_size
        told = call.conditions
        # Processes that share the tokens need some for each of them, and regions of speakers are as large as the frames.
        is_whole = _token_mesh(self.model) is not None or (told.audio is not None and told.audio.region is not None)
        patch = hidden if is_whole else hidden[..., :height, :width]
        with torch.compiler.set_stance("force_eager"), self.model.cache_context("constants", **_context(place)):
            self.model(patch, timestep, told, return_dict=False, constants=call.constants)

    def _batch(self, passes: int, hidden: Tensor) -> bool:
        if self.batching != "auto":
            return self.batching == "on"
        if not _is_network(self.model):
            return False
        return passes * _activation_bytes(self.model, hidden) < 0.5 * free_memory(hidden.device)

    def _keeps(self, calls: Sequence[Conditions], hidden: Tensor) -> bool:
        if not _is_network(self.model) or torch.is_grad_enabled() or self.guidance.reuse == "off":
            return False
        if self.guidance.reuse == "on":
            return True
        needed = sum(constant_bytes(self.model.config, call, hidden.element_size()) for call in calls)
        return needed < _SMALL * free_memory(hidden.device)


_SMALL = 0.05
"""Share of the free memory that constants may take unless they are asked for."""


def adapters_of(model: Denoiser) -> tuple[object, ...]:
    """Which LoRA layers act, and how strongly: what kept keys and values depend on besides the conditions."""
    if not getattr(model, "_hf_peft_config_loaded", False):
        return ()
    assert isinstance(model, nn.Module)
    layers: Iterator[Any] = (
        module for module in model.modules() if hasattr(module, "active_adapters") and hasattr(module, "scaling")
    )
    return tuple(
        (layer.disable_adapters, *layer.active_adapters, *layer.merged_adapters, *sorted(layer.scaling.items()))
        for layer in layers
    )


def _context(place: Place | None) -> dict[str, object]:
    if place is None:
        return {}
    sigma = place.timestep / TIMESTEPS
    return {
        "step_index": place.step,
        "num_inference_steps": place.count,
        "timestep": place.timestep,
        "sigma": sigma,
    }


def _is_compiled(model: nn.Module) -> bool:
    """Whether `torch.compile` is at work on a model or its blocks, in either of its two spellings."""
    parts = (model, *model.get_submodule("blocks").children())
    return any(hasattr(part, "_orig_mod") or part._compiled_call_impl is not None for part in parts)


def _is_network(model: Denoiser) -> TypeGuard[FantasyTalkingTransformer3DModel]:
    """Whether a model is a transformer, which may be wrapped (compiled, sharded), and no plain function."""
    return isinstance(model, nn.Module)


def _token_mesh(model: Denoiser) -> DeviceMesh | None:
    """The processes that share the tokens of each call, or None."""
    return getattr(model, "token_mesh", None)


def _activation_bytes(transformer: FantasyTalkingTransformer3DModel, hidden: Tensor) -> float:
    """A generous estimate of what one forward pass holds besides the weights.

    The widest moment of a block is its feed-forward network, in the model's type, beside float32 copies of the tokens.
    """
    config = transformer.config
    tokens = hidden[:, 0].numel() / float(np.prod(config.patch_size))
    width = config.num_attention_heads * config.attention_head_dim
    result: float = tokens * (8 * width + 2 * config.ffn_dim) * hidden.element_size() + tokens * 6 * width * 4
    return result
