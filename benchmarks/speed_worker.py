"""One process of `speed.py`: loads a model as a session says and measures its cells, each written as soon as it is known.

python benchmarks/speed_worker.py JOB.json
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fantasytalking.system.startup import importing_frameworks

with importing_frameworks():
    import torch
    from benchmark_run import Quiet, plain, say
    from diffusers.utils import logging as diffusers_logging
    from other_loops import ReleasedLoop, SilentRun
    from safetensors.torch import load_file, save_file
    from speed_cells import PASSES, Cell, loop_of
    from speed_loading import Job, Loaded, load
    from step_caches import counted
    from torch import Tensor
    from transformers.utils import logging as transformers_logging

    from fantasytalking.acceleration.profiles import PROFILES, resolve_profile
    from fantasytalking.errors import FantasyTalkingError, OutOfMemory
    from fantasytalking.pipeline.model_names import embedded_folder
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.plan_run import count_passes
    from fantasytalking.pipeline.settings import DECIDING_BY_PASS
    from fantasytalking.pipeline.talking_video import VideoOutput
    from fantasytalking.system.json import write_json
    from fantasytalking.system.machine import machine
    from fantasytalking.training.trainer.flops import sample_flops

EXAMPLE = embedded_folder() / "example"
PASS_STEPS, PASS_ROUNDS = 4, 5
"""Of the comparison with diffusers' pipeline."""


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
    rules, frames = loaded.pipeline.rules, cell.shape.frames
    settings: dict[str, Any] = {"steps": cell.shape.steps}
    if cell.kind == "profile":
        usual = loaded.pipeline.settings().to_dict()
        few = PROFILES[cell.name].needs_lora
        settings = dict(
            resolve_profile(cell.name, usual, {} if few else settings, loaded.loras, expects_lora=True).settings
        )
        settings = settings if few else {"steps": cell.shape.steps, **settings}
    # As the command line does: on a CPU the sampler looks at free memory itself.
    if place.type != "cpu" and settings.get("cache") not in DECIDING_BY_PASS:
        settings["batch_passes"] = loaded.plan.batch_passes
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
        steps: Steps that were asked for.
        rows: Rows that went through the blocks' feed-forward networks; None where they are not counted.
        frames: Frames of the video.
    """

    latents: Tensor
    seconds: dict[str, float]
    cpu: float
    done: int
    steps: int
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
    return Generated(
        seen[-1].float().cpu(), seconds, clock.cpu, done, video.settings.steps, rows and rows[0], len(video.frames)
    )


def measure_generation(job: Job, loaded: Loaded, cell: Cell) -> dict[str, Any]:
    """Figures of a cell that generates a clip."""
    place, settings = job.place, settings_of(cell, loaded, job.place)
    runs: list[Generated] = []
    for _ in range(job.rounds if cell.shape == job.cells[0].shape else 1):
        if place.type == "cuda":
            torch.cuda.reset_peak_memory_stats(place)
        with HostPeak() as host:
            runs.append(generate(job, loaded, cell, settings))
        if time.time() > job.deadline:
            break
    best = min(runs, key=lambda run: run.seconds["sampling"])
    if best.done < best.steps:
        return {"cut_after": best.done, "step_seconds": best.seconds["sampling"] / best.done, "settings": settings}
    figures: dict[str, Any] = {
        "settings": settings,
        "frames": best.frames,
        "latent_size": list(best.latents.shape[2:]),
        "seconds": best.seconds,
        "sampling_seconds": [run.seconds["sampling"] for run in runs],
        "cpu_seconds": min(run.cpu for run in runs),
        "steps": best.steps,
        "step_seconds": best.seconds["sampling"] / best.steps,
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
    passes = 3 * chosen.steps if cell.kind == "loop" else sum(count_passes(chosen, has_text))
    size, speech = tuple(run.latents.shape[2:]), round(50 * run.frames / loaded.pipeline.rules.native_fps)
    image = 257 if config.image_dim is not None else 0
    one = sample_flops(config, size, 512 if has_text else 1, speech, image).forward  # type: ignore[arg-type]
    return {"passes": passes, "operations_of_a_pass": one, "peak_operations": loaded.peak}


def measure_pass(job: Job, loaded: Loaded, cell: Cell) -> dict[str, Any]:
    """Seconds of a step of two passes without speech, in diffusers' pipeline and in ours, which take turns."""
    pipeline, side = loaded.pipeline, (cell.shape.side, cell.shape.side)
    if loaded.plan.offload != "none":
        raise OutOfMemory("This comparison needs the whole model on the device, which does not hold it.")
    # Of a square picture; the portrait of the other cells is as wide or narrower.
    _, *size = pipeline.autoencoder.latent_shape(cell.shape.frames // 4 * 4 + 1, *side)
    run = SilentRun(pipeline, (size[0], size[1], size[2]), PASS_STEPS)
    ways = {PASSES[0]: run.theirs, PASSES[1]: lambda: run.ours(kept=False), PASSES[2]: lambda: run.ours(kept=True)}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for name, way in [*ways.items()] * (1 + PASS_ROUNDS):
        rounds[name].append(way().step)
    # The first round warms up. Ratios are of neighbouring runs.
    wall, cpu = ({name: [step[clock] for step in rounds[name][1:]] for name in ways} for clock in (0, 1))
    return {
        "latent_size": size,
        "step_seconds": statistics.median(wall[PASSES[0]]),
        "ways": {name: statistics.median(wall[name]) for name in ways},
        "of_diffusers": {name: _ratio(wall[name], wall[PASSES[0]]) for name in ways},
        "of_diffusers_by_cpu_time": {name: _ratio(cpu[name], cpu[PASSES[0]]) for name in ways},
        "rounds": wall,
    }


def _ratio(mine: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(mine, theirs, strict=True))


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
    try:
        loaded = load(job)
        warm_up_seconds = warm_up(job, loaded)
    except (FantasyTalkingError, torch.OutOfMemoryError) as error:
        for cell in job.cells:
            _write(job, cell, {"failed": " ".join(str(error).split())})
        return
    about = {
        "machine": computer,
        "device": job.place.type,
        "plan": loaded.plan.describe() | {"name": loaded.plan.name},
        "loading_seconds": loaded.seconds,
        "warm_up_seconds": warm_up_seconds,
        "threads": torch.get_num_threads(),
        "compiled": job.session.compiled,
    }
    for number, cell in enumerate(job.cells):
        if time.time() > job.deadline:
            return
        begun = time.time()
        try:
            figures = (measure_pass if cell.kind == "pass" else measure_generation)(job, loaded, cell)
        except (FantasyTalkingError, torch.OutOfMemoryError) as error:
            figures = {"failed": " ".join(str(error).split())}
        if "cut_after" in figures and not (job.is_first and number == 0):
            return  # The next run begins with it, and has more time.
        _write(job, cell, figures | about | {"minutes": (time.time() - begun) / 60})
        say(f"{cell.key}: {figures.get('step_seconds', figures.get('failed'))}")


def _write(job: Job, cell: Cell, figures: dict[str, Any]) -> None:
    write_json(job.output / "cells" / f"{cell.key}.json", plain({"cell": asdict(cell), **figures}), indent=1)


if __name__ == "__main__":
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    work(Job.read(Path(sys.argv[1])))
