"""`fantasytalking info --plan`: how a model would run here, or on another machine, before anything of it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.generation.run_options import (
    MemoryOptions,
    check_weights_options,
    left_out,
    lora_files,
    overrides_of,
)
from fantasytalking.pipeline.model_names import resolve_model

if TYPE_CHECKING:
    from fantasytalking.acceleration.parallel_plan import ParallelPlan
    from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["PlanQuestion", "collect_plan", "plan_text"]


@dataclass(frozen=True)
class PlanQuestion:
    """What the plan is for."""

    model: str = "embedded"
    """embedded, or a model folder."""
    transformer: Path | None = None
    """File or folder of Wan's weights to use in place of the model's, as for generate."""
    adapter: Path | None = None
    """With --transformer: the adapter to lay on it in place of the model's."""
    lora: tuple[str, ...] = ()
    """LoRA weights, FILE or FILE=WEIGHT, as for generate."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the transformer and the text encoder: auto is bfloat16 on an accelerator, float32 on a CPU."""
    device_memory: float | None = None
    """Plan for a CUDA device with so many GiB instead of this machine's."""
    host_memory: float | None = None
    """Plan for so many GiB of free main memory instead of this machine's."""
    longest_side: int | None = None
    """Longest side of the video in pixels; by default the model's own."""
    max_seconds: float | None = None
    """Length of the video in seconds; by default the model's longest clip."""
    profile: Literal["exact", "balanced", "fast", "turbo"] = "exact"
    """Profile of speed, of which steps and guidance count."""
    parallel: str | None = None
    """Plan for one of several processes, each with such a device, on one machine: auto, guidance=2, ulysses=N or both, as for generate."""


def collect_plan(question: PlanQuestion, options: MemoryOptions) -> dict[str, Any]:
    """Collect everything that `info --plan` prints, as plain values for JSON.

    Raises:
        CheckpointError: There is no such model folder.
        SettingsError: An option cannot be used.
        OutOfMemory: No plan fits.
    """
    import torch

    from fantasytalking.acceleration.part_sizes import read_sizes
    from fantasytalking.acceleration.profiles import resolve_profile
    from fantasytalking.acceleration.resolve_plan import Machine, as_record, describe_run, resolve_plan, too_little
    from fantasytalking.pipeline.early_inputs import read_demands
    from fantasytalking.pipeline.plan_run import count_passes, longest_clip
    from fantasytalking.pipeline.settings import GenerationSettings
    from fantasytalking.system.machine import choose_device

    folder = _checked_folder(question)
    place = torch.device("cuda") if question.device_memory is not None else choose_device(question.device)
    demands = read_demands(folder, {})
    usual = demands.settings if demands else GenerationSettings()
    loras = lora_files(question.lora)
    resolved = resolve_profile(question.profile, usual.to_dict(), loras=loras, expects_lora=True)
    settings = dict(resolved.settings) | {
        name: value for name in ("longest_side", "max_seconds") if (value := getattr(question, name)) is not None
    }
    chosen = usual.replace(**settings)
    sizes = read_sizes(folder, question.transformer, question.adapter, loras)
    clip = longest_clip(folder, settings)
    machine = Machine.of(place, question.device_memory, question.host_memory)
    given = overrides_of(options, question.dtype, chosen)
    has_text = "text_encoder" in sizes.parts
    shared = _shared(question, folder, chosen, has_text)
    if shared is not None:
        clip, machine = shared.share_of(clip, machine, shared.processes)
    run = resolve_plan(sizes, clip, machine, options.memory, given)
    passes = count_passes(chosen, has_text)
    own = [-(-count // (1 if shared is None else shared.guidance)) for count in passes]
    batched = run.plan.batch_passes == "on"
    notes = [] if run.fits else [too_little(run, sizes, clip, machine, given)]
    return {
        "model": question.model,
        "profile": question.profile,
        "clip": {"frames": clip.frames, "height": clip.height, "width": clip.width},
        "steps": len(passes),
        "passes": sum(passes),
        "calls": sum(min(1, count) if batched else count for count in own),
        "parallel": None if shared is None else str(shared),
        "processes": 1 if shared is None else shared.processes,
        "plan": as_record(run),
        "cache": run.plan.cache,
        "notes": [*notes, *left_out(run.plan, given)],
        "compile": resolved.profile.compile and machine.kind == "cuda",
        "lines": describe_run(run, machine, sizes),
    }


def _checked_folder(question: PlanQuestion) -> Path:
    """The model's folder, after a look at the options that need no model."""
    for name in ("device_memory", "host_memory"):
        given = getattr(question, name)
        if given is not None and not 0 < given <= 1e5:
            raise SettingsError(f"--{name.replace('_', '-')} must be a number of GiB above 0, but {given:g} was given.")
    check_weights_options(question.transformer, question.adapter)
    folder = resolve_model(question.model)
    if not isinstance(folder, Path):
        raise CheckpointError(
            f"A plan needs the files of '{question.model}' on this machine; download it, or give a model folder."
        )
    return folder


def _shared(question: PlanQuestion, folder: Path, settings: GenerationSettings, has_text: bool) -> ParallelPlan | None:
    """How several processes share the work; None where there is one.

    Raises:
        SettingsError: There is no such division, or the model cannot be shared so.
    """
    import torch

    from fantasytalking.acceleration.parallel_plan import parse_parallel
    from fantasytalking.checkpoints.component_files import read_config
    from fantasytalking.pipeline.parallel_calls import plan_for
    from fantasytalking.transformer.context_parallel import check_heads

    if question.parallel is None:
        return None
    wanted, count = parse_parallel(question.parallel), torch.cuda.device_count()
    if wanted is None and (question.device_memory is not None or count < 2):
        raise SettingsError(
            "--parallel auto takes all GPUs of this machine, of which there are not several; give a division, such as --parallel "
            "guidance=2,ulysses=2."
        )
    heads = read_config(folder / "transformer").get("num_attention_heads", 1)
    if wanted is None:
        return plan_for(count, settings, heads, has_text)
    check_heads(heads, wanted.ulysses)
    return wanted


def plan_text(facts: dict[str, Any]) -> str:
    """The plan as text."""
    from fantasytalking.acceleration.resolve_plan import COLUMN

    clip, plan = facts["clip"], facts["plan"]
    head = (
        f"{facts['model']}: {clip['frames']} frames of {clip['width']} x {clip['height']}, memory plan {plan['name']}"
    )
    lines = [head + ("" if plan["fits"] else ", which is expected not to fit"), *facts["lines"]]
    compiled = "blocks are compiled" if facts["compile"] else "nothing is compiled"
    rows = {
        f"profile {facts['profile']}": f"step cache: {facts['cache']}; {compiled}",
        "network passes": f"{facts['passes']} in {facts['steps']} steps, {facts['calls']} calls of the network",
    }
    if facts["parallel"] is not None:
        shared = (
            f"{facts['processes']} ({facts['parallel']}); memory is that of each, calls are those of the one with most"
        )
        rows["processes"] = shared
    lines += [f"  {name:<{COLUMN}}{text}" for name, text in rows.items()]
    lines += [f"note: {note}" for note in facts["notes"]]
    return "\n".join(lines)
