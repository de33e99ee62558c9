"""The schedule that LoRA weights were distilled for: steps, shift and scheduler, as their folder or their file's name tells them."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fantasytalking.errors import MissingDependencyError, SettingsError
from fantasytalking.system.json import read_json_object
from fantasytalking.system.records import plain

__all__ = ["DEFAULTS_FILE", "FewStepSchedule", "few_step_schedule", "require_peft", "without_guidance"]

DEFAULTS_FILE = "defaults.json"
"""Settings to use LoRA weights with, in their folder; the recipe of distillation writes it."""
_SCHEDULE = ("steps", "sigma_shift", "prompt_guidance_scale", "audio_guidance_scale")
_STEPS = re.compile(r"(?<![0-9])([1-9][0-9]?)[-_ ]?steps?(?![a-z])", re.IGNORECASE)
_DISTILLED = re.compile(r"step[-_ ]?distill", re.IGNORECASE)
# LightX2V's own configuration of its LoRA for Wan 2.1: shift 5, and timesteps 1000, 750, 500 and 250 with fresh noise in between, which
# are the levels and the steps of an LCM scheduler.
_LIGHTX2V_STEPS, _LIGHTX2V_SHIFT, _LIGHTX2V_SCHEDULER = 4, 5.0, "lcm"


@dataclass(frozen=True)
class FewStepSchedule:
    """How LoRA weights are meant to be sampled.

    Attributes:
        source: What tells it, as the end of a sentence.
        settings: Settings by name: steps, guidance scales and, where it is told, the shift.
        scheduler: Name of a scheduler; None: the model's own.
    """

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    scheduler: str | None = None

    def describe(self) -> str:
        """Steps, guidance, shift and scheduler, as a part of a sentence."""
        steps, shift = self.settings["steps"], self.settings.get("sigma_shift")
        parts = [f"{steps} step" + ("" if steps == 1 else "s")]
        if without_guidance(self.settings):
            parts[0] += " without guidance"
        if shift is not None:
            parts.append(f"shift {plain(shift)}")
        if self.scheduler is not None:
            parts.append(f"scheduler {self.scheduler}")
        return ", ".join(parts)


def without_guidance(settings: Mapping[str, Any]) -> bool:
    """Whether no scale of some settings, by name, takes a second network pass."""
    return all(settings.get(name, 5.0) <= 1 for name in ("prompt_guidance_scale", "audio_guidance_scale"))


def require_peft() -> None:
    """Check that the package is there that puts LoRA weights on a model, without importing it.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        importlib.metadata.version("peft")
    except importlib.metadata.PackageNotFoundError:
        raise MissingDependencyError(
            "LoRA needs the package peft; install it with pip install 'fantasytalking[train]'."
        ) from None


def few_step_schedule(file: Path) -> FewStepSchedule | None:
    """The schedule of a file with LoRA weights; None where neither its folder nor its name tells one.

    Args:
        file: The file.

    Raises:
        SettingsError: The file of settings in its folder names no steps.
    """
    beside = file.parent / DEFAULTS_FILE
    if beside.is_file():
        told = {name: value for name, value in read_json_object(beside).items() if name in _SCHEDULE}
        if type(told.get("steps")) is not int or told["steps"] < 1:
            raise SettingsError(
                f"'{beside}' should say how the LoRA beside it is sampled, but names no whole number of steps; correct it, or remove it."
            )
        return FewStepSchedule(f"{DEFAULTS_FILE} in its folder", {**_single_passes(told["steps"]), **told})
    return _of_name(file.stem)


def _of_name(name: str) -> FewStepSchedule | None:
    steps = _STEPS.search(name)
    lightx2v = "lightx2v" in name.lower()
    if steps is None and not _DISTILLED.search(name):
        return None
    settings = _single_passes(_LIGHTX2V_STEPS if steps is None else int(steps[1]))
    if lightx2v:
        return FewStepSchedule("its name", {**settings, "sigma_shift": _LIGHTX2V_SHIFT}, _LIGHTX2V_SCHEDULER)
    return FewStepSchedule("its name", settings)


def _single_passes(steps: int) -> dict[str, Any]:
    return {"steps": steps, "prompt_guidance_scale": 1.0, "audio_guidance_scale": 1.0}
