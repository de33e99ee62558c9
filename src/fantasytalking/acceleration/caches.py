"""Step caches by name: which of diffusers' caches a sampling uses, and how much it may overlook.

A step cache skips blocks, or attention, on steps on which little changes, and uses what it computed before. Each guidance pass has its own
(`transformer.step_caches`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)
from diffusers.hooks import SeaCacheConfig

from fantasytalking.errors import SettingsError
from fantasytalking.transformer.step_caches import calibration_ratios

__all__ = ["NO_CACHE", "StepCache", "measure_ratios"]


@dataclass(frozen=True)
class StepCache:
    """A step cache of a sampling.

    Attributes:
        name: `none`, or one of the values of the setting `cache`.
        threshold: Change that is overlooked, for the caches that go by one; None: the cache's own.
        interval: Steps of which at least one is computed; None: the cache's own.
    """

    name: str = "none"
    threshold: float | None = None
    interval: int | None = None

    def check(self, model: Any) -> None:
        """Raise if the cache cannot be enabled.

        Args:
            model: The transformer.

        Raises:
            SettingsError: The model has no ratios for MagCache, or a cache of its own.
        """
        if self.name == "none":
            return
        if model.is_cache_enabled:
            raise SettingsError(
                f"The setting cache is {self.name}, but {type(model._cache_config).__name__} is enabled on the transformer already; "
                "use one of them: transformer.disable_cache(), or cache='none'."
            )
        if self.name == "magcache" and not model.mag_ratios:
            raise SettingsError(
                "The cache magcache needs the magnitude ratios of the model, and this one has none; measure them with "
                "fantasytalking.acceleration.caches.measure_ratios and enter them as mag_ratios in model_index.json, or use another cache."
            )

    def config(self, model: Any, steps: int) -> Any:
        """The configuration for diffusers' `enable_cache`, or None.

        Args:
            model: The transformer.
            steps: Calls of the model for each pass.
        """
        return None if self.name == "none" else _CONFIGS[self.name](self, model, steps)

    @contextlib.contextmanager
    def enabled(self, model: Any, steps: int) -> Iterator[None]:
        """Enable the cache for the block of a `with` statement.

        Args:
            model: The transformer, or a function in its place, which has no cache.
            steps: Calls of the model for each pass.

        Raises:
            SettingsError: As for `check`.
        """
        if self.name == "none" or not hasattr(model, "enable_cache"):
            yield
            return
        self.check(model)
        model.enable_cache(self.config(model, steps))
        try:
            yield
        finally:
            model.disable_cache()


NO_CACHE = StepCache()


def measure_ratios(pipeline: Any, image: Any, audio: Any, **settings: Any) -> list[float]:
    """Measure MagCache's magnitude ratios of a model: how the change that all blocks make together grows from step to step.

    One generation is enough, as they hardly depend on portrait and speech; they do depend on steps and shift of the noise schedule.

    Args:
        pipeline: A `FantasyTalkingPipeline` without a cache.
        image: As for its call.
        audio: As for its call.
        settings: As for its call.

    Returns:
        A ratio for each step, the mean over the guidance passes; for the entry `mag_ratios` of `model_index.json`.
    """
    ratios: list[float] = []

    def collect(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> None:
        found = calibration_ratios(pipeline.transformer)
        ratios.append(sum(found) / len(found))

    # One more than any schedule has: after the last one diffusers prints what it has found, and forgets it.
    pipeline.transformer.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=_ENDLESS))
    try:
        pipeline(image, audio, callback_on_step_end=collect, **{**settings, "cache": "none"})
    finally:
        pipeline.transformer.disable_cache()
    return ratios


_ENDLESS = 10**6


def _first_block(cache: StepCache, model: Any, steps: int) -> Any:
    return FirstBlockCacheConfig(**_given(threshold=cache.threshold))


def _magcache(cache: StepCache, model: Any, steps: int) -> Any:
    skipped = None if cache.interval is None else cache.interval - 1
    given = _given(threshold=cache.threshold, max_skip_steps=skipped)
    return MagCacheConfig(num_inference_steps=steps, mag_ratios=torch.tensor(model.mag_ratios), **given)


def _taylorseer(cache: StepCache, model: Any, steps: int) -> Any:
    # Lite: what the last layer gives is extrapolated, and all blocks are skipped. The full mode keeps the outputs of all attention layers,
    # 35 GB for a pass of 81 frames of 512 x 512 through the released model.
    interval = 3 if cache.interval is None else cache.interval
    return TaylorSeerCacheConfig(cache_interval=interval, taylor_factors_dtype=torch.float32, use_lite_mode=True)


def _sea(cache: StepCache, model: Any, steps: int) -> Any:
    reused = None if cache.interval is None else cache.interval - 1
    return SeaCacheConfig(**_given(threshold=cache.threshold, max_consecutive_cached=reused))


def _pab(cache: StepCache, model: Any, steps: int) -> Any:
    interval = 2 if cache.interval is None else cache.interval
    return PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=interval,
        cross_attention_block_skip_range=interval,
        current_timestep_callback=lambda: model.current_timestep,
    )


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


_CONFIGS: dict[str, Callable[[StepCache, Any, int], Any]] = {
    "first-block": _first_block,
    "magcache": _magcache,
    "taylorseer": _taylorseer,
    "sea": _sea,
    "pab": _pab,
}
