"""Settings of a call as the model at hand can follow them, and the sentences that say where it cannot."""

from __future__ import annotations

from typing import Any

from fantasytalking.acceleration.caches import StepCache
from fantasytalking.perception.face_confidence import FaceCheck
from fantasytalking.pipeline.call_arguments import Case
from fantasytalking.pipeline.noise_schedule import own_shift
from fantasytalking.pipeline.portrait_face import held_back
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.system.records import plain

__all__ = ["effective_settings", "settings_to_store"]


def effective_settings(
    pipeline: Any, case: Case, check: FaceCheck | None, shift_given: bool
) -> tuple[GenerationSettings, list[str]]:
    """The settings that a call is made with.

    Args:
        pipeline: The pipeline that is called.
        case: The settings asked for, and the embeddings in place of the prompts.
        check: The closer look at the face, or None.
        shift_given: Whether the call names `sigma_shift`, and not only the defaults.

    Returns:
        The settings, and a sentence about each thing that differs from what was asked for.

    Raises:
        SettingsError: The model cannot follow the step cache asked for.
    """
    StepCache(case.settings.cache).check(pipeline.transformer)
    settings, usual = case.settings, pipeline.settings()
    scheduler = None if pipeline.scheduler is pipeline._stored_scheduler else pipeline.scheduler
    no_effect = _without_effect(pipeline, settings)
    if pipeline.text_encoder is None and case.text.prompt is not None and case.text.negative is None:
        no_effect.append(
            "There is no text encoder and no negative_prompt_embeds, so prompt_guidance_scale has no effect."
        )
    settings, shifted = _with_scheduler_shift(scheduler, settings, usual, shift_given)
    settings, doubts = held_back(settings, usual, check, pipeline.transformer.config.motion)
    return settings, [*doubts, *no_effect, *shifted]


def _with_scheduler_shift(
    scheduler: Any, settings: GenerationSettings, usual: GenerationSettings, given: bool
) -> tuple[GenerationSettings, list[str]]:
    """The settings with the shift of a scheduler that the caller chose, unless the call names a shift.

    Args:
        scheduler: The caller's scheduler; None where the model's own is in use.
        settings: The settings of the call.
        usual: The model's defaults.
        given: Whether the call names `sigma_shift`.

    Returns:
        The settings, and a sentence if the shift is not the one that a reader of the scheduler or of the settings would expect.
    """
    shift = None if scheduler is None else own_shift(scheduler)
    if shift is None or shift == (settings if given else usual).sigma_shift:
        return settings, []
    if given:
        told = (
            f"sigma_shift {plain(settings.sigma_shift)} is used in place of the scheduler's own shift {plain(shift)}."
        )
        return settings, [] if shift == usual.sigma_shift else [told]
    told = (
        f"The scheduler's own shift {plain(shift)} is used in place of sigma_shift {plain(usual.sigma_shift)}; "
        "give sigma_shift to set it."
    )
    return settings.replace(sigma_shift=shift), [told]


def settings_to_store(pipeline: Any) -> dict[str, Any]:
    """Defaults for the folder of a pipeline: with the shift that its calls use now, whoever chose the scheduler."""
    defaults = dict(pipeline.config.defaults)
    if pipeline.scheduler is pipeline._stored_scheduler:
        return defaults
    usual = pipeline.settings()
    settings, _ = _with_scheduler_shift(pipeline.scheduler, usual, usual, given=False)
    return {**defaults, "sigma_shift": settings.sigma_shift}


def _without_effect(pipeline: Any, settings: GenerationSettings) -> list[str]:
    """A sentence for each setting that was changed although a pipeline's model has no part that uses it."""
    usual, config = pipeline.settings(), pipeline.transformer.config
    parts = {
        "prompt": ("text encoder", pipeline.text_encoder is not None),
        "w_face": ("motion network", config.motion),
        "w_body": ("motion network", config.motion),
        "identity_scale": ("identity module", config.identity_dim is not None),
    }
    return [
        f"This model has no {part}, so {name} has no effect."
        for name, (part, there) in parts.items()
        if not there and getattr(settings, name) != getattr(usual, name)
    ]
