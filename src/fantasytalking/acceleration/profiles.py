"""Profiles of speed: named choices about caches, guidance, compilation and steps, from exact to fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fantasytalking.acceleration.few_step_lora import FewStepSchedule, few_step_schedule, without_guidance
from fantasytalking.errors import SettingsError
from fantasytalking.system.records import field, nearest_name, record

__all__ = ["FEW_STEPS", "PROFILES", "Profile", "ResolvedProfile", "profile_settings", "resolve_profile"]

FEW_STEPS = 8
"""Steps up to which nothing is skipped: each of them changes the video too much, and a model of so few is fast already."""


@record
class Profile:
    """Choices of a run about speed.

    Raises:
        SettingsError: A name that is none of those accepted.
    """

    name: Annotated[Literal["exact", "balanced", "fast", "turbo"], field("Name of the profile.")]
    cache: Annotated[str, field("Step cache, a value of the setting of that name.")] = "none"
    cache_interval: Annotated[int | None, field("The cache's interval; nothing means its own.", minimum=2)] = None
    compile: Annotated[bool, field("Whether the transformer's blocks are compiled, on a device of CUDA.")] = False
    needs_lora: Annotated[bool, field("Whether it is meant for a LoRA that was distilled to few steps.")] = False
    steps: Annotated[
        int | None,
        field("Denoising steps, with a LoRA that was distilled to few; nothing means the model's own.", minimum=1),
    ] = None


PROFILES = {
    "exact": Profile("exact"),
    "balanced": Profile("balanced", cache="taylorseer", cache_interval=3),
    "fast": Profile("fast", cache="taylorseer", cache_interval=3, compile=True),
    "turbo": Profile("turbo", compile=True, needs_lora=True, steps=4),
}
"""Name -> choices, from the released arithmetic to the fastest."""


@dataclass(frozen=True)
class ResolvedProfile:
    """A profile for a model and what a user gives.

    Attributes:
        profile: The profile.
        settings: Settings that it changes, by name; what a user gives takes precedence over them.
        scheduler: Scheduler that the LoRA was distilled for; None: the model's own.
        notes: What a user should know.
    """

    profile: Profile
    settings: Mapping[str, Any]
    scheduler: str | None = None
    notes: tuple[str, ...] = ()


def resolve_profile(
    name: str,
    usual: Mapping[str, Any],
    given: Mapping[str, Any] | None = None,
    loras: tuple[Path, ...] = (),
    expects_lora: bool = False,
) -> ResolvedProfile:
    """What a profile means for a model.

    Args:
        name: Name of the profile.
        usual: The model's own settings by name.
        given: Settings that a user gives by name.
        loras: Files of LoRA weights; the first that names a schedule is followed.
        expects_lora: Whether a LoRA that is not named yet will be there.

    Raises:
        SettingsError: There is no such profile, or it needs a distilled LoRA and there is none.
    """
    if name not in PROFILES:
        raise SettingsError(f"There is no profile {name!r}; {nearest_name(name, PROFILES, 'profiles')}")
    profile, given = PROFILES[name], dict(given or {})
    told = next(((file, found) for file in loras if (found := few_step_schedule(file)) is not None), None)
    if profile.needs_lora:
        return _turbo(profile, usual, given, told, loras[0].name if loras else None, expects_lora)
    notes: tuple[str, ...] = ()
    if told is not None and given.get("steps", usual["steps"]) > FEW_STEPS:
        notes = (
            f"The LoRA '{told[0].name}' was distilled to {told[1].describe()}, as {told[1].source} says; --profile turbo follows that.",
        )
    if given.get("steps", usual["steps"]) <= FEW_STEPS:
        if profile.cache != "none":
            notes += (f"So few steps leave nothing to skip, so --profile {name} computes all of them.",)
        return ResolvedProfile(profile, {}, notes=notes)
    changes: dict[str, Any] = {}
    if profile.cache != "none" and "cache" not in given:
        changes = {"cache": profile.cache, "cache_interval": profile.cache_interval}
    return ResolvedProfile(profile, changes, notes=notes)


def profile_settings(name: str, usual: Mapping[str, Any], has_lora: bool) -> tuple[Profile, dict[str, Any]]:
    """A profile and the settings that it changes, where nothing else is given and no LoRA tells its schedule.

    Args:
        name: Name of the profile.
        usual: The model's own settings by name.
        has_lora: Whether there is a LoRA that was distilled for few steps.

    Raises:
        SettingsError: As for `resolve_profile`.
    """
    resolved = resolve_profile(name, usual, expects_lora=has_lora)
    return resolved.profile, dict(resolved.settings)


def _turbo(
    profile: Profile,
    usual: Mapping[str, Any],
    given: Mapping[str, Any],
    told: tuple[Path, FewStepSchedule] | None,
    lora: str | None,
    expects_lora: bool,
) -> ResolvedProfile:
    """The profile that follows a LoRA's schedule, or that of a model that is distilled itself."""
    assert profile.steps is not None
    if told is not None:
        schedule = told[1]
        note = f"The LoRA '{told[0].name}' is sampled in {schedule.describe()}, as {schedule.source} says"
        others = [key for key, value in schedule.settings.items() if given.get(key, value) != value]
        if others:
            note += f", but for {' and '.join(others)}, which you gave"
        return ResolvedProfile(profile, schedule.settings, schedule.scheduler, (f"{note}.",))
    changes = {"steps": profile.steps, "prompt_guidance_scale": 1.0, "audio_guidance_scale": 1.0}
    if lora is not None:
        note = (
            f"Neither the folder nor the name of '{lora}' says how it is sampled: {profile.steps} steps without guidance at the "
            "model's shift are taken; give --steps and --sigma-shift if it was distilled for others."
        )
        return ResolvedProfile(profile, changes, notes=(note,))
    if without_guidance(usual) and usual["steps"] <= FEW_STEPS:
        note = f"This model is distilled itself, so --profile {profile.name} is its default: {usual['steps']} steps without guidance."
        return ResolvedProfile(profile, {}, notes=(note,))
    if expects_lora:
        return ResolvedProfile(profile, changes)
    raise SettingsError(
        f"The profile {profile.name} takes {profile.steps} steps without guidance, which needs a LoRA that was distilled for it; "
        "give one with --lora FILE, or use --profile fast."
    )
