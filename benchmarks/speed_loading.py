"""Loading the model of a session of `speed.py`: from a folder, or with random weights that are made on the device."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from benchmark_run import say
from speed_cells import Cell, Session, Shape
from speed_models import LAYOUTS, random_model, write_random_lora
from torch import nn

from fantasytalking.acceleration.apply_plan import SpeedOptions, apply_plan, apply_speed, load_loras
from fantasytalking.acceleration.memory_plan import Clip, MemoryPlan
from fantasytalking.acceleration.part_sizes import ModelSizes, read_sizes, sizes_of_modules
from fantasytalking.acceleration.resolve_plan import Machine, resolve_plan
from fantasytalking.errors import OutputError
from fantasytalking.pipeline.load_pipeline import load_pipeline, use_threads
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.system.files import atomic_folder
from fantasytalking.system.json import write_json
from fantasytalking.system.machine import choose_device
from fantasytalking.training.trainer.throughput import measure_peak_flops


@dataclass(frozen=True)
class Job:
    """What a worker does.

    Attributes:
        cells: Cells of one session.
        session: How the model is loaded.
        model: Folder of the model, `embedded`, or a name in `speed_models.LAYOUTS`.
        student: Few-step model in place of a LoRA, or None.
        output: Folder of the results.
        device: Name of the device.
        rounds: How often cells of the first cell's shape are run; the fastest counts.
        threads: CPU threads; None: as the command line chooses them.
        deadline: When the run ends, by `time.time`.
        is_first: Whether the run begins with this job: a cell that has too little time in it has too little in any.
    """

    cells: tuple[Cell, ...]
    session: Session
    model: str
    student: str | None
    output: Path
    device: str
    rounds: int
    threads: int | None
    deadline: float
    is_first: bool = False

    @classmethod
    def read(cls, path: Path) -> Job:
        """A job from its file."""
        told = json.loads(path.read_text("utf-8"))
        cells = tuple(Cell(**{**cell, "shape": Shape(**cell["shape"])}) for cell in told["cells"])
        return cls(**{**told, "cells": cells, "session": Session(**told["session"]), "output": Path(told["output"])})

    def write(self, path: Path) -> None:
        """Write it to a file."""
        write_json(path, {**asdict(self), "output": str(self.output)})

    @property
    def place(self) -> torch.device:
        """The device."""
        return choose_device(self.device)


@dataclass
class Loaded:
    """A model that waits where its plan says.

    Attributes:
        pipeline: The pipeline.
        plan: The plan.
        seconds: What loading took.
        peak: Operations per second of the device.
        loras: Files of its LoRA weights.
    """

    pipeline: FantasyTalkingPipeline
    plan: MemoryPlan
    seconds: float
    peak: float
    loras: tuple[Path, ...] = ()


def load(job: Job) -> Loaded:
    """Load the session's model from a folder; a random one for a device of CUDA is made there instead, unless its plan reads from files."""
    begun, place = time.perf_counter(), job.place
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    name = job.student if job.session.distilled and job.student else job.model
    loras = _loras(job, name)
    if name in LAYOUTS and place.type == "cuda" and job.session.plan != "minimal":
        pipeline, plan = made_here(job, name, dtype, loras)
    else:
        folder = _folder(job, name, dtype) if name in LAYOUTS else Path(resolve_model(name))
        plan = _plan(job, read_sizes(folder), dtype)
        pipeline = load_pipeline(str(folder), job.device, plan=plan, speed=SpeedOptions(loras=loras))
    apply_speed(pipeline, SpeedOptions(compile=job.session.compiled), place)
    use_threads(pipeline, job.threads)
    seconds, peak = time.perf_counter() - begun, measure_peak_flops(place, dtype)
    return Loaded(pipeline, plan, seconds, peak, tuple(path for path, _ in loras))


def made_here(
    job: Job, name: str, dtype: torch.dtype, loras: tuple[tuple[Path, float], ...] = ()
) -> tuple[FantasyTalkingPipeline, MemoryPlan]:
    """A random model, made on the device, where its plan says.

    Args:
        job: Device and session.
        name: Key of `speed_models.LAYOUTS`.
        dtype: Type of transformer and text encoder.
        loras: LoRA files and their weights.
    """
    plan = _plan(job, sizes_of_modules(_networks(random_model(name, torch.device("meta"), dtype)), dtype), dtype)
    waiting = None if plan.offload == "none" else torch.device("cpu")
    pipeline = random_model(name, job.place, dtype, waiting)
    load_loras(pipeline, loras)
    apply_plan(pipeline, plan, job.place)
    return pipeline, plan


def _plan(job: Job, sizes: ModelSizes, dtype: torch.dtype) -> MemoryPlan:
    shape = max((cell.shape for cell in job.cells), key=lambda one: one.frames * one.side**2)
    clip = Clip(shape.frames, shape.side, shape.side, 2)
    overrides = {"dtype": str(dtype).removeprefix("torch.")}
    return resolve_plan(sizes, clip, Machine.of(job.place), job.session.plan, overrides).plan


def _folder(job: Job, name: str, dtype: torch.dtype) -> Path:
    """A folder with a random model's weights, written once."""
    folder = job.output / "work" / f"model-{name}"
    if not (folder / "model_index.json").is_file():
        needed, free = _stored_bytes(name, dtype), shutil.disk_usage(job.output).free
        if needed > 0.95 * free:
            raise OutputError(
                f"The model's files take {needed / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free at '{job.output}'; give another --output."
            )
        say(f"writing the model {name} to {folder}")
        with atomic_folder(folder) as unfinished:
            random_model(name, job.place, dtype, torch.device("cpu")).save_pretrained(unfinished)
    return folder


def _stored_bytes(name: str, dtype: torch.dtype) -> int:
    networks = _networks(random_model(name, torch.device("meta"), dtype))
    return sum(weight.numel() * weight.element_size() for one in networks.values() for weight in one.parameters())


def _networks(pipeline: FantasyTalkingPipeline) -> dict[str, nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def _loras(job: Job, name: str) -> tuple[tuple[Path, float], ...]:
    """A LoRA of random weights for a profile that takes one; none for a student, which is a model of its own."""
    if not job.session.distilled or name not in LAYOUTS:
        return ()
    path = job.output / "work" / f"lora-{name}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_random_lora(path, random_model(name, torch.device("meta"), torch.bfloat16).transformer)
    return ((path, 1.0),)
