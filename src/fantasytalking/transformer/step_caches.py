"""What the step caches of diffusers need to know about this model and its guidance passes.

The caches are diffusers' own hooks on the blocks. Each keeps what it has seen of a pass under the name of the cache context that the
sampler enters. Some need more than that: pyramid attention broadcast has a single state for all passes, MagCache counts calls where steps
are meant, and SeaCache and TaylorSeer find nothing to do in an image-to-video Wan by themselves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import FasterCacheConfig, FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig
from diffusers.hooks import HookRegistry, SeaCacheConfig, TextKVCacheConfig
from diffusers.hooks.first_block_cache import FBCHeadBlockHook
from diffusers.hooks.hooks import ModelHook
from diffusers.hooks.mag_cache import MagCacheHeadHook
from diffusers.hooks.pyramid_attention_broadcast import PyramidAttentionBroadcastHook, PyramidAttentionBroadcastState
from diffusers.models.cache_utils import CacheMixin
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from fantasytalking.errors import SettingsError

__all__ = ["StepCaching", "calibration_ratios", "check_calls", "completed", "decides_by_pass"]

ATTENTION = [r"blocks\.\d+\.attn[12]"]
"""Attention layers of a Wan block, for TaylorSeer, whose own patterns match no name in a Wan model: it then does nothing, silently."""


def completed(config: Any, model: nn.Module) -> Any:
    """A cache's configuration with what diffusers does not know about this model.

    Args:
        config: A configuration that diffusers' `enable_cache` takes.
        model: The transformer.

    Raises:
        SettingsError: The cache cannot work with this model.
    """
    if isinstance(config, FasterCacheConfig):
        raise SettingsError(
            "FasterCache needs the unconditional and the conditional pass as the two halves of one batch, and no Wan model works with it, "
            "diffusers' own included; use FirstBlockCacheConfig, MagCacheConfig, SeaCacheConfig or TaylorSeerCacheConfig."
        )
    if isinstance(config, TextKVCacheConfig):
        raise SettingsError(
            "TextKVCacheConfig is for the Nucleus image model alone; here the keys and values of prompt, portrait and speech are kept "
            "anyway, see the setting reuse_conditions."
        )
    two_blocks = isinstance(config, FirstBlockCacheConfig | MagCacheConfig | SeaCacheConfig)
    if two_blocks and len(model.blocks) < 2:  # type: ignore[arg-type]
        raise SettingsError(f"{type(config).__name__} skips the blocks after the first, but this model has only one.")
    if isinstance(config, SeaCacheConfig) and config.raw_vision_callback is None:
        return dataclasses.replace(config, raw_vision_callback=_noisy_latents)
    if isinstance(config, TaylorSeerCacheConfig) and not config.use_lite_mode and config.cache_identifiers is None:
        return dataclasses.replace(config, cache_identifiers=ATTENTION)
    return config


def decides_by_pass(model: nn.Module) -> bool:
    """Whether a cache looks at the tokens of a pass to decide if it is computed, so that passes in one batch would share a decision."""
    return any(isinstance(hook, FBCHeadBlockHook) for hook in _hooks(model))


class StepCaching(CacheMixin):
    """A transformer whose step caches keep guidance passes apart; the sampler runs each pass in a cache context of its own."""

    current_timestep: float | None = None
    """Timestep of the step that is computed, 1000 (noise) to 0 (data); None where no cache context says it."""

    mag_ratios: Sequence[float] | None = None
    """How the change that all blocks make grows from step to step, by which MagCache judges; the pipeline sets its model's."""

    def enable_cache(self, config: Any) -> None:
        """Enable a step cache of diffusers.

        Args:
            config: Such as `diffusers.FirstBlockCacheConfig()`.

        Raises:
            SettingsError: The cache cannot work with this model.
        """
        super().enable_cache(completed(config, self))

    @contextlib.contextmanager
    def cache_context(self, name: str, **where: Any) -> Iterator[None]:
        """Keep what step caches remember of a pass apart from that of the others.

        Args:
            name: Of the pass.
            where: Where the sampling is: `step_index`, `num_inference_steps`, `timestep` and `sigma`, as far as they are known.

        Raises:
            SettingsError: MagCache was set up for another number of steps.
        """
        with super().cache_context(name, **where):
            for hook in _hooks(self):
                if isinstance(hook, PyramidAttentionBroadcastHook):
                    hook.state = _states(hook).setdefault(name, PyramidAttentionBroadcastState())
                elif isinstance(hook, MagCacheHeadHook) and "step_index" in where:
                    _go_to_step(hook, where["step_index"], where["num_inference_steps"])
                elif isinstance(hook, FBCHeadBlockHook):
                    _decide_together(hook, getattr(self, "token_mesh", None))
            self.current_timestep = where.get("timestep")
            try:
                yield
            finally:
                self.current_timestep = None

    def _reset_stateful_cache(self, recurse: bool = True) -> None:
        registry = HookRegistry.check_if_exists_or_initialize(self)
        # diffusers' `apply_...` functions, unlike `enable_cache`, leave a list of hooks behind that lacks the new ones.
        registry._child_registries_cache = None
        # The list is made anew here: diffusers' own ways to empty and to reset go through all modules once more each.
        for one in (registry, *(registry._get_child_registries() if recurse else ())):
            one.reset_stateful_hooks(recurse=False)
        for hook in _hooks(self):
            if isinstance(hook, PyramidAttentionBroadcastHook):
                _states(hook).clear()
                hook.state = PyramidAttentionBroadcastState()


def _decide_together(hook: FBCHeadBlockHook, mesh: DeviceMesh | None) -> None:
    """Let first-block decide by the tokens of all ranks that share them: if one rank skipped the blocks, the others would wait for it."""
    hook.__dict__.pop("_should_compute_remaining_blocks", None)
    if mesh is not None:
        hook._should_compute_remaining_blocks = functools.partial(_changed_much, hook, mesh)


@torch.compiler.disable
def _changed_much(hook: FBCHeadBlockHook, mesh: DeviceMesh, residual: Tensor) -> bool:
    before = hook.state_manager.get_state().head_block_residual
    if before is None:
        return True
    change, size = (residual - before).float().abs().sum(), before.float().abs().sum()
    sums = torch.stack([change, size])
    torch.distributed.all_reduce(sums, group=mesh.get_group())
    return bool(sums[0] / sums[1] > hook.threshold)


def _go_to_step(hook: MagCacheHeadHook, step: int, count: int) -> None:
    """Set MagCache's place in its ratios, which are those of steps: a pass that begins late has fewer calls than there are steps."""
    planned = hook.config.num_inference_steps
    if count != planned and not hook.config.calibrate:
        raise SettingsError(
            f"MagCache was set up for {planned} steps, but there are {count}; "
            f"enable it with MagCacheConfig(num_inference_steps={count}, ...)."
        )
    hook.state_manager.get_state().step_index = step


def check_calls(model: nn.Module, calls: int) -> None:
    """Refuse as many calls of the model on a step as the package cache-dit, where it is at work, would take for steps of one pass.

    Raises:
        SettingsError: cache-dit was told of another number of calls, or works on tokens that several ranks share.
    """
    separate = getattr(model, "_has_separate_cfg", None)
    if separate is not None and getattr(model, "token_mesh", None) is not None:
        raise SettingsError(
            "cache-dit decides by the tokens of one process, and here several share them; use the setting cache instead."
        )
    if separate is None or calls == (2 if separate else 1):
        return
    raise SettingsError(
        f"cache-dit is enabled for {'two calls' if separate else 'one call'} of the transformer on each step, but there "
        f"{'is one' if calls == 1 else f'are {calls}'}, and it would mix them; use batch_passes='on' with has_separate_cfg=False."
    )


def calibration_ratios(model: nn.Module) -> list[float]:
    """What MagCache, enabled with `calibrate`, has measured on the last step: a ratio for each pass."""
    managers = [hook.state_manager for hook in _hooks(model) if isinstance(hook, MagCacheHeadHook)]
    states = [state for manager in managers for state in manager._state_cache.values()]
    return [state.calibration_ratios[-1] for state in states if state.calibration_ratios]


def _states(hook: PyramidAttentionBroadcastHook) -> dict[str, PyramidAttentionBroadcastState]:
    states: dict[str, PyramidAttentionBroadcastState] = hook.__dict__.setdefault("states_of_passes", {})
    return states


def _hooks(model: nn.Module) -> Iterator[ModelHook]:
    registry = HookRegistry.check_if_exists_or_initialize(model)
    for one in (registry, *registry._get_child_registries()):
        yield from one.hooks.values()


def _noisy_latents(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The latents [C, f, h, w] of each row, without mask and portrait, by which SeaCache judges how much has changed.

    All passes of a step have the same, so that the decision is the same for all of them.
    """
    hidden_states: Tensor = args[0] if args else kwargs["hidden_states"]
    return list(hidden_states[:, : model.config.out_channels])  # type: ignore[union-attr]
