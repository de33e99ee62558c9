"""One process of `speed.py`: loads a model as a session says and measures its cells, each written as soon as it is known.

python benchmarks/speed_worker.py JOB.json
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from benchmark_run import Quiet, plain, say
from diffusers.utils import logging as diffusers_logging
from other_loops import ReleasedLoop, SilentRun
from safetensors.torch import load_file, save_file
from speed_cells import PASSES, Cell, Session, Shape, loop_of
from speed_models import LAYOUTS, random_model, write_random_lora
from step_caches import counted
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from fantasytalking.acceleration.apply_plan import SpeedOptions, apply_plan, apply_speed, load_loras
from fantasytalking.acceleration.memory_plan import Clip, MemoryPlan
from fantasytalking.acceleration.part_sizes import ModelSizes, read_sizes, sizes_of_modules
from fantasytalking.acceleration.profiles import profile_settings
from fantasytalking.acceleration.resolve_plan import Machine, resolve_plan
from fantasytalking.errors import OutOfMemory
from fantasytalking.guidance import GuidancePlan
from fantasytalking.pipeline.load_pipeline import load_pipeline, use_threads
from fantasytalking.pipeline.model_names import embedded_folder, resolve_model
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.settings import DECIDING_BY_PASS, GenerationSettings
from fantasytalking.pipeline.talking_video import VideoOutput
from fantasytalking.system.files import atomic_folder
from fantasytalking.system.json import write_json
from fantasytalking.system.machine import choose_device, machine
from fantasytalking.training.trainer.flops import sample_flops
from fantasytalking.training.trainer.throughput import measure_peak_flops

EXAMPLE = embedded_folder() / "example"
PASS_STEPS, PASS_ROUNDS = 4, 5
"""Of the comparison with diffusers' pipeline."""
FRESH = 120.0
"""Seconds after the beginning of an invocation until which a cell that the deadline cuts would be cut the next time, too."""


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
        rounds: How often each cell is run; the fastest counts.
        threads: CPU threads; None: as the command line chooses them.
        begun: When the invocation began, by `time.time`.
        deadline: When it ends.
    """

    cells: tuple[Cell, ...]
    session: Session
    model: str
    student: str | None
    output: Path
    device: str
    rounds: int
    threads: int | None
    begun: float
    deadline: float

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
    """

    pipeline: FantasyTalkingPipeline
    plan: MemoryPlan
    seconds: float
    peak: float


def load(job: Job) -> Loaded:
    """Load the session's model from a folder; a random one for a device of CUDA is made there instead, unless its plan reads from files."""
    begun, place = time.perf_counter(), job.place
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    name = job.student if job.session.distilled and job.student else job.model
    in_memory = name in LAYOUTS and place.type == "cuda" and job.session.plan != "minimal"
    loras = _loras(job, name)
    if in_memory:
        empty = random_model(name, torch.device("meta"), dtype).components
        networks = {part: network for part, network in empty.items() if isinstance(network, nn.Module)}
        plan = _plan(job, sizes_of_modules(networks, dtype), dtype)
        waiting = None if plan.offload == "none" else torch.device("cpu")
        pipeline = random_model(name, place, dtype, waiting)
        load_loras(pipeline, loras)
        apply_plan(pipeline, plan, place)
    else:
        folder = _folder(job, name, dtype) if name in LAYOUTS else Path(resolve_model(name))
        plan = _plan(job, read_sizes(folder), dtype)
        pipeline = load_pipeline(str(folder), job.device, plan=plan, speed=SpeedOptions(loras=loras))
    apply_speed(pipeline, SpeedOptions(compile=job.session.compiled), place)
    use_threads(pipeline, job.threads)
    return Loaded(pipeline, plan, time.perf_counter() - begun, measure_peak_flops(place, dtype))


def _plan(job: Job, sizes: ModelSizes, dtype: torch.dtype) -> MemoryPlan:
    shape = max((cell.shape for cell in job.cells), key=lambda one: one.frames * one.side**2)
    clip = Clip(shape.frames, shape.side, shape.side, 2)
    overrides = {"dtype": str(dtype).removeprefix("torch.")}
    return resolve_plan(sizes, clip, Machine.of(job.place), job.session.plan, overrides).plan


def _folder(job: Job, name: str, dtype: torch.dtype) -> Path:
    """A folder with a random model's weights, written once."""
    folder = job.output / "work" / f"model-{name}"
    if not (folder / "model_index.json").is_file():
        say(f"writing the model {name} to {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        with atomic_folder(folder) as unfinished:
            random_model(name, job.place, dtype, torch.device("cpu")).save_pretrained(unfinished)
    return folder


def _loras(job: Job, name: str) -> tuple[tuple[Path, float], ...]:
    """A LoRA of random weights for a profile that takes one; none for a student, which is a model of its own."""
    if not job.session.distilled or name not in LAYOUTS:
        return ()
    path = job.output / "work" / f"lora-{name}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_random_lora(path, random_model(name, torch.device("meta"), torch.bfloat16).transformer)
    return ((path, 1.0),)


class SamplingClock(Quiet):
    """Progress that notes the time of the process in sampling, which no load on the machine changes much.

    Attributes:
        cpu: CPU seconds of all threads in sampling.
    """

    cpu: float = 0.0

    @contextlib.contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Any]:
        """Time a stage."""
        begun = time.process_time()
        yield lambda steps=1: None
        if name == "sampling":
            self.cpu += time.process_time() - begun


class HostPeak:
    """Largest private memory of this process within a `with` block: pages of mapped files, which the system can drop, are left out.

    Attributes:
        bytes: The largest seen; None where the system does not tell.
    """

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._over = threading.Event()

    def __enter__(self) -> HostPeak:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        status = Path("/proc/self/status")
        while status.exists():
            line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
            self.bytes = max(self.bytes or 0, 1024 * int(line.split()[1]))
            if self._over.wait(0.02):
                return


@contextlib.contextmanager
def released(pipeline: FantasyTalkingPipeline) -> Iterator[None]:
    """Sample by the released loop within the block; the object stays the same, and with it hooks that bring weights."""
    usual = type(pipeline)
    pipeline.__class__ = ReleasedLoop
    try:
        yield
    finally:
        pipeline.__class__ = usual


def settings_of(cell: Cell, loaded: Loaded, place: torch.device) -> dict[str, Any]:
    """Settings of a generation, by name."""
    settings: dict[str, Any] = {"steps": cell.shape.steps}
    if cell.kind == "profile":
        _, changes = profile_settings(cell.name, GenerationSettings().to_dict(), has_lora=True)
        settings |= changes
    # As the command line does: on a CPU the sampler looks at free memory itself.
    if place.type != "cpu" and settings.get("cache") not in DECIDING_BY_PASS:
        settings["batch_passes"] = loaded.plan.batch_passes
    rules, frames = loaded.pipeline.rules, cell.shape.frames
    settings["max_seconds"] = (frames - 3) / rules.native_fps if rules.max_frames < 100 else frames / rules.native_fps
    if not rules.own_size:
        settings |= {"longest_side": cell.shape.side, "prompt": "a person speaks", "face_check": "off"}
    return settings


@dataclass
class Generated:
    """One generation.

    Attributes:
        latents: [1, C, f, h, w] after the last step.
        seconds: Stage -> seconds, and `total`, from the call to the written file.
        cpu: CPU seconds of sampling.
        done: Steps that were done.
        rows: Rows that went through the blocks' feed-forward networks; None where they are not counted.
        frames: Frames of the video.
    """

    latents: Tensor
    seconds: dict[str, float]
    cpu: float
    done: int
    rows: int | None
    frames: int


def generate(job: Job, loaded: Loaded, cell: Cell, settings: Mapping[str, Any]) -> Generated:
    """Generate the clip of a cell and write it; after the job's deadline it ends with the step it is at."""
    seen: list[Tensor] = []

    def after_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> None:
        seen.append(tensors["latents"])
        del seen[:-1]
        nonlocal done
        done = step + 1
        pipeline._interrupt = time.time() > job.deadline

    pipeline, clock, done = loaded.pipeline, SamplingClock(), 0
    target = job.output / "work" / "videos" / cell.key / "example.mp4"
    target.parent.mkdir(parents=True, exist_ok=True)
    way = released(pipeline) if cell.kind == "loop" else contextlib.nullcontext()
    count = contextlib.nullcontext(None) if job.session.compiled else counted(pipeline.transformer, "ffn")
    begun = time.perf_counter()
    with way, count as rows:
        video = pipeline(
            EXAMPLE / "portrait.png",
            EXAMPLE / "speech.wav",
            progress=clock,
            callback_on_step_end=after_step,
            output=VideoOutput(target, overwrite=True),
            **settings,
        )
    seconds = {**clock.seconds, "total": time.perf_counter() - begun}
    return Generated(seen[-1].float().cpu(), seconds, clock.cpu, done, rows and rows[0], len(video.frames))


def measure_generation(job: Job, loaded: Loaded, cell: Cell) -> dict[str, Any]:
    """Figures of a cell that generates a clip."""
    place, settings = job.place, settings_of(cell, loaded, job.place)
    runs: list[Generated] = []
    for _ in range(job.rounds):
        if place.type == "cuda":
            torch.cuda.reset_peak_memory_stats(place)
        with HostPeak() as host:
            runs.append(generate(job, loaded, cell, settings))
        if time.time() > job.deadline:
            break
    best = min(runs, key=lambda run: run.seconds["sampling"])
    if best.done < settings["steps"]:
        return {"cut_after": best.done, "step_seconds": best.seconds["sampling"] / best.done, "settings": settings}
    figures: dict[str, Any] = {
        "settings": settings,
        "frames": best.frames,
        "latent_size": list(best.latents.shape[2:]),
        "seconds": best.seconds,
        "sampling_seconds": [run.seconds["sampling"] for run in runs],
        "cpu_seconds": min(run.cpu for run in runs),
        "step_seconds": best.seconds["sampling"] / settings["steps"],
        "rows": best.rows,
        "host_peak": host.bytes,
        **_on_device(place),
        **_operations(loaded, cell, settings, best),
    }
    file = job.output / "work" / f"latents-{cell.key}.safetensors"
    save_file({"latents": best.latents.contiguous()}, file)
    other = job.output / "work" / f"latents-{loop_of(cell).key}.safetensors"
    return {**figures, **(apart(best.latents, load_file(other)["latents"]) if other.is_file() else {})}


def _on_device(place: torch.device) -> dict[str, int]:
    if place.type != "cuda":
        return {}
    return {
        "device_peak": torch.cuda.max_memory_allocated(place),
        "device_reserved": torch.cuda.max_memory_reserved(place),
    }


def apart(latents: Tensor, others: Tensor) -> dict[str, float]:
    """Difference from the plain loop's latents, in shares of their RMS and of their largest."""
    difference = latents - others
    return {
        "rms_error": float(difference.square().mean().sqrt() / others.square().mean().sqrt()),
        "max_error": float(difference.abs().max() / others.abs().max()),
    }


def _operations(loaded: Loaded, cell: Cell, settings: Mapping[str, Any], run: Generated) -> dict[str, Any]:
    """Operations of all passes, computed or skipped, and the device's peak: what the share of the peak is made of."""
    config = loaded.pipeline.transformer.config
    has_text = loaded.pipeline.text_encoder is not None
    chosen = loaded.pipeline.settings(**settings)
    plan = GuidancePlan(
        chosen.prompt_guidance_scale,
        chosen.audio_guidance_scale,
        chosen.audio_start_percent,
        chosen.audio_end_percent,
        has_negative=has_text,
    )
    passes = sum(len(plan.passes(step, chosen.steps)) for step in range(chosen.steps))
    size, speech = tuple(run.latents.shape[2:]), round(50 * run.frames / loaded.pipeline.rules.native_fps)
    image = 257 if config.image_dim is not None else 0
    one = sample_flops(config, size, 512 if has_text else 1, speech, image).forward  # type: ignore[arg-type]
    passes = 3 * chosen.steps if cell.kind == "loop" else passes
    return {"passes": passes, "operations_of_a_pass": one, "peak_operations": loaded.peak}


def measure_pass(job: Job, loaded: Loaded, cell: Cell) -> dict[str, Any]:
    """Seconds of a step of two passes without speech, in diffusers' pipeline and in ours, which take turns."""
    pipeline, side = loaded.pipeline, (cell.shape.side, cell.shape.side)
    # Of a square picture; the portrait of the other cells is as wide or narrower.
    _, *size = pipeline.autoencoder.latent_shape(cell.shape.frames // 4 * 4 + 1, *side)
    run = SilentRun(pipeline, (size[0], size[1], size[2]), PASS_STEPS)
    ways = {PASSES[0]: run.theirs, PASSES[1]: lambda: run.ours(kept=False), PASSES[2]: lambda: run.ours(kept=True)}
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    for name, way in [*ways.items()] * (1 + PASS_ROUNDS):
        rounds[name].append(statistics.median(way()))
    # The first round warms up.
    ratios = {
        name: [mine / theirs for mine, theirs in zip(rounds[name][1:], rounds[PASSES[0]][1:], strict=True)]
        for name in ways
    }
    return {
        "latent_size": size,
        "step_seconds": statistics.median(rounds[PASSES[0]][1:]),
        "ways": {name: statistics.median(rounds[name][1:]) for name in ways},
        "of_diffusers": {name: statistics.median(values) for name, values in ratios.items()},
        "ratios": ratios,
    }


def warm_up(job: Job, loaded: Loaded) -> float:
    """Seconds of one step of each kind, which fills caches and compiles what the session compiles."""
    begun = time.perf_counter()
    cell = job.cells[0]
    settings = {**settings_of(cell, loaded, job.place), "steps": 2}
    loaded.pipeline(
        EXAMPLE / "portrait.png", EXAMPLE / "speech.wav", progress=Quiet(), output_type="latent", **settings
    )
    return time.perf_counter() - begun


def work(job: Job) -> None:
    """Measure all cells of the job until its deadline."""
    computer = machine()
    loaded = load(job)
    about = {
        "machine": computer,
        "device": str(job.place),
        "plan": loaded.plan.describe() | {"name": loaded.plan.name},
        "loading_seconds": loaded.seconds,
        "warm_up_seconds": warm_up(job, loaded),
        "threads": torch.get_num_threads(),
        "compiled": job.session.compiled,
    }
    for cell in job.cells:
        if time.time() > job.deadline:
            return
        begun = time.time()
        try:
            figures = (measure_pass if cell.kind == "pass" else measure_generation)(job, loaded, cell)
        except (OutOfMemory, torch.OutOfMemoryError) as error:
            figures = {"failed": " ".join(str(error).split())}
        if "cut_after" in figures and begun > job.begun + FRESH:
            return  # The next invocation begins with it, and has more time.
        figures |= {"cell": asdict(cell), **about, "minutes": (time.time() - begun) / 60}
        write_json(job.output / "cells" / f"{cell.key}.json", plain(figures), indent=1)
        say(f"{cell.key}: {figures.get('step_seconds', figures.get('failed'))}")


if __name__ == "__main__":
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    work(Job.read(Path(sys.argv[1])))
