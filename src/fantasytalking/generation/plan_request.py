"""What a command follows: its profile, and the memory plan for its clip on its machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fantasytalking.generation.run_options import ProfileOptions, RunOptions, left_out, lora_files, overrides_of
from fantasytalking.pipeline.settings import GenerationSettings

if TYPE_CHECKING:
    from fantasytalking.acceleration.profiles import ResolvedProfile
    from fantasytalking.acceleration.resolve_plan import Machine, PlannedRun
    from fantasytalking.generation.request import Request

__all__ = ["PlanOfRequest", "plan_label", "plan_of_request", "profile_of"]


def profile_of(model: str, run: RunOptions, speed: ProfileOptions, given: Mapping[str, Any]) -> ResolvedProfile:
    """The profile of a command, for its model and its LoRA files.

    Args:
        model: Name of the model.
        run: Says where its weights lie.
        speed: Names the profile and the LoRA files.
        given: Settings that were given, by name.

    Raises:
        SettingsError: The profile needs a LoRA that was distilled, and there is none.
    """
    from fantasytalking.acceleration.profiles import resolve_profile
    from fantasytalking.pipeline.early_inputs import read_demands
    from fantasytalking.pipeline.load_pipeline import local_folder

    demands = read_demands(Path(local_folder(model, run.transformer)), {})
    usual = demands.settings if demands else GenerationSettings()
    return resolve_profile(speed.profile, usual.to_dict(), given, lora_files(speed.lora))


@dataclass(frozen=True)
class PlanOfRequest:
    """The plan of a request.

    Attributes:
        run: The plan.
        lower: The plan after it, where memory runs out; None where there is none.
        notes: What a user should know before it begins.
    """

    run: PlannedRun
    lower: PlannedRun | None
    notes: tuple[str, ...]


def plan_of_request(request: Request, settings: dict[str, Any], machine: Machine) -> PlanOfRequest | None:
    """The plan of a request; None where the model's sizes are not known.

    Args:
        request: What is generated.
        settings: Its settings by name, those of its profile included.
        machine: The machine.
    """
    from fantasytalking.acceleration.parallel_plan import ParallelPlan
    from fantasytalking.acceleration.part_sizes import read_sizes
    from fantasytalking.acceleration.resolve_plan import next_plan, resolve_plan, too_little
    from fantasytalking.errors import CheckpointError
    from fantasytalking.pipeline.load_pipeline import local_folder
    from fantasytalking.pipeline.plan_run import clip_of, settings_of

    folder = Path(local_folder(request.model, request.run.transformer))
    try:
        loras = lora_files(request.profile.lora)
        sizes = read_sizes(folder, request.run.transformer, request.run.adapter, loras)
    except CheckpointError:
        # Its loader says what is wrong with the folder or the weights.
        return None
    given = overrides_of(request.memory, request.run.dtype, settings_of(folder, settings))
    clip = clip_of(folder, settings, request.portrait, request.speech)
    if request.ranks is not None:
        shared = request.ranks.plan or ParallelPlan()
        clip, machine = shared.share_of(clip, machine, request.ranks.on_this_machine)
    planned = resolve_plan(sizes, clip, machine, request.memory.memory, given)
    notes = [] if planned.plan.name == "high" else [f"Memory plan {plan_label(planned)}."]
    if not planned.fits:
        notes.append(too_little(planned, sizes, clip, machine, given))
    notes += left_out(planned.plan, given)
    # One of several processes cannot begin again alone.
    lower = None if request.ranks is not None else next_plan(sizes, clip, machine, planned.plan, given)
    return PlanOfRequest(planned, lower, tuple(notes))


def plan_label(planned: PlannedRun) -> str:
    """A plan in a few words."""
    choices = planned.plan.describe()
    return f"{planned.plan.name} ({choices['offload']}; passes {choices['guidance passes']}; VAE {choices['VAE']})"
