"""Processes that make videos together, each a real process with gloo: what each of them gets, case by case.

All cases of a number of processes run in one start of them, as a start takes seconds.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import socket
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fantasytalking.system.startup import importing_frameworks

# for the process that others are forked from
with importing_frameworks():
    from diffusers import ContextParallelConfig

    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from tests.acceleration.cached_runs import SCALES
    from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, transformer, wan_pipeline

BY_DIFFUSERS = "enable_parallelism"
"""A plan that stands for diffusers' own call."""


@dataclass(frozen=True)
class Case:
    """A generation.

    Attributes:
        plan: How the processes share it, see `enable_parallel`, or `BY_DIFFUSERS`.
        settings: Settings of the call.
        parts: Changes to the transformer.
        embedded: Whether the model is like the embedded one, with identity and motion.
        size: Height and width of the portrait.
        prepare: Called with the pipeline before it is shared.
        arguments: Further arguments of the call of a process, by its rank.
    """

    plan: str
    settings: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    embedded: bool = False
    size: tuple[int, int] = (64, 64)
    prepare: Callable[[FantasyTalkingPipeline], None] | None = None
    arguments: Callable[[int], dict[str, Any]] | None = None


@functools.cache
def _usual_parts() -> FantasyTalkingPipeline:
    return wan_pipeline()


Result = dict[str, Any]
"""Case -> latents, or what a `LongCase` gives, or the class and message of an error."""


@dataclass(frozen=True)
class LongCase:
    """Calls whose videos are longer than a clip.

    Attributes:
        plan: How the processes share them.
        make: Called with the pipeline, the rank and a folder; what it gives comes back to the test.
        folder: The folder.
    """

    plan: str
    make: Callable[[FantasyTalkingPipeline, int, Path], dict[str, Any]]
    folder: Path

    def outcome(self, rank: int = 0, share: Callable[[FantasyTalkingPipeline], Any] = lambda pipeline: None) -> Any:
        """What the calls give; `share` is called with the pipeline before them."""
        parts = {"transformer": transformer(), "longest_side": 32, "max_frames": 25}
        pipeline = FantasyTalkingPipeline.from_pipe(_usual_parts(), **parts)
        share(pipeline)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.make(pipeline, rank, self.folder)


def latents_of(
    case: Case, rank: int = 0, share: Callable[[FantasyTalkingPipeline], Any] = lambda pipeline: None
) -> torch.Tensor:
    """The latents of a case; `share` is called with the pipeline before the call."""
    if case.embedded:
        pipeline, picture = embedded_pipeline(), portrait(256)
    else:
        changes = {"transformer": transformer(**case.parts), "longest_side": max(case.size)}
        pipeline = FantasyTalkingPipeline.from_pipe(_usual_parts(), **changes)
        picture = portrait(max(case.size))[: case.size[0], : case.size[1]]
    if case.prepare is not None:
        case.prepare(pipeline)
    share(pipeline)
    given = {"image": picture, "audio": speech(0.3), **SCALES, "steps": 4, "output_type": "latent", **case.settings}
    if case.arguments is not None:
        given |= case.arguments(rank)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames: torch.Tensor = pipeline(**given).frames
    return frames


def run_together(count: int, cases: Mapping[str, Case | LongCase]) -> list[Result]:
    """The results of some processes, by rank."""
    return [
        {name: torch.from_numpy(one) if isinstance(one, np.ndarray) else one for name, one in found.items()}
        for found in in_processes(count, _outcomes, cases)
    ]


def in_processes(count: int, work: Callable[[int, int, Any], Any], what: Any) -> list[Any]:
    """What some processes return that can be connected, by rank.

    Args:
        count: Number of processes.
        work: Called in each with its rank, their number and `what`.
        what: For all of them.
    """
    kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(kind)
    if kind == "forkserver":
        # One import for all processes.
        context.set_forkserver_preload([__name__])
    queue = context.Queue()
    port = free_port()
    workers = [context.Process(target=_run, args=(rank, count, port, work, what, queue)) for rank in range(count)]
    for worker in workers:
        worker.start()
    try:
        found = dict(queue.get(timeout=240) for _ in workers)
        for worker in workers:
            worker.join(30)
            assert worker.exitcode == 0
    finally:
        for worker in workers:
            worker.kill()
    return [found[rank] for rank in range(count)]


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _run(rank: int, count: int, port: int, work: Callable[[int, int, Any], Any], what: Any, queue: Any) -> None:
    named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in named.items()}, MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    queue.put((rank, work(rank, count, what)))


def _outcomes(rank: int, count: int, cases: Mapping[str, Case | LongCase]) -> dict[str, Any]:
    found = {name: _outcome(case, rank, count) for name, case in cases.items()}
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return found


def _outcome(case: Case | LongCase, rank: int, count: int) -> Any:
    def share(pipeline: FantasyTalkingPipeline) -> None:
        if case.plan != BY_DIFFUSERS:
            pipeline.enable_parallel(case.plan)
            return
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        pipeline.transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=count))

    try:
        if isinstance(case, LongCase):
            return case.outcome(rank, share)
        return latents_of(case, rank, share).numpy()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
