"""Profiles of speed: named choices about caches, compilation and steps, from exact to fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fantasytalking.errors import SettingsError
from fantasytalking.system.records import field, nearest_name, record

__all__ = ["PROFILES", "Profile", "profile_settings"]


@record
class Profile:
    """Choices of a run about speed.

    Raises:
        SettingsError: A name that is none of those accepted.
    """

    name: Annotated[Literal["exact", "balanced", "fast", "turbo"], field("Name of the profile.")]
    cache: Annotated[str, field("Step cache, a value of the setting of that name.")] = "none"
    compile: Annotated[bool, field("Whether the transformer's blocks are compiled, on a device of CUDA.")] = False
    needs_lora: Annotated[bool, field("Whether it is meant for a LoRA that was distilled to few steps.")] = False
    steps: Annotated[int | None, field("Denoising steps; nothing means the model's own.", minimum=1)] = None
    guidance: Annotated[float | None, field("Scale of both guidances; nothing means the model's own.", minimum=0)] = (
        None
    )


PROFILES = {
    "exact": Profile("exact"),
    "balanced": Profile("balanced", cache="first-block"),
    "fast": Profile("fast", cache="first-block", compile=True),
    "turbo": Profile("turbo", compile=True, needs_lora=True, steps=4, guidance=1.0),
}
"""Name -> choices, from the released arithmetic to the fastest."""


def profile_settings(name: str, known: Mapping[str, Any], has_lora: bool) -> tuple[Profile, dict[str, Any]]:
    """A profile and the settings that it changes; what a user gives takes precedence over them.

    Args:
        name: Name of the profile.
        known: Settings by name, of which only these can be changed.
        has_lora: Whether a LoRA is given.

    Raises:
        SettingsError: There is no such profile, or it is meant for a distilled LoRA and none is given.
    """
    if name not in PROFILES:
        raise SettingsError(f"There is no profile {name!r}; {nearest_name(name, PROFILES, 'profiles')}")
    profile = PROFILES[name]
    if profile.needs_lora and not has_lora:
        raise SettingsError(
            f"The profile {name} takes {profile.steps} steps without guidance, which needs a LoRA that was distilled for it; "
            "give one with --lora FILE, or use --profile fast."
        )
    changes = {
        "cache": None if profile.cache == "none" else profile.cache,
        "steps": profile.steps,
        "prompt_guidance_scale": profile.guidance,
        "audio_guidance_scale": profile.guidance,
    }
    return profile, {key: value for key, value in changes.items() if value is not None and key in known}
