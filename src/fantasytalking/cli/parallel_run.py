"""`generate --parallel`: several processes, each with a device of its own, make one video; started here, or by torchrun."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import fantasytalking.errors
from fantasytalking.cli.command_job import Job, generate_file
from fantasytalking.errors import FantasyTalkingError, ResourceError, SettingsError
from fantasytalking.generation.plan_request import profile_of
from fantasytalking.pipeline.progress import show_note

if TYPE_CHECKING:
    from fantasytalking.acceleration.parallel_plan import ParallelPlan

__all__ = ["ParallelOptions", "alike", "generate_together", "started_by_torchrun"]

GRACE = 5.0
"""Seconds that the other processes get to end after one has failed; those that wait for it in an exchange never would."""
BROKEN = ("gloo", "nccl", "connection closed by peer", "connection reset", "broken pipe")
"""What errors of an exchange whose other side has gone away have in common."""


@dataclass(frozen=True)
class ParallelOptions:
    """How many processes make the video together."""

    parallel: str | None = None
    """Make the video on several GPUs: auto (all of this machine), guidance=2 or 3 (the guidance passes of a step side by side), ulysses=N
    (each pass on N GPUs), or both, such as guidance=2,ulysses=2. Each GPU holds a copy of the model, or of what --memory leaves there."""


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun has started."""
    return {"RANK", "LOCAL_RANK"} <= os.environ.keys() and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def alike() -> Iterator[None]:
    """A block that goes the same way in all processes that torchrun has started: of an error in it, the first alone tells."""
    try:
        yield
    except FantasyTalkingError as error:
        if started_by_torchrun() and os.environ["RANK"] != "0":
            raise SystemExit(error.exit_code) from None
        raise


def generate_together(job: Job, text: str | None) -> int:
    """Generate a video by several processes.

    Args:
        job: What is generated.
        text: Value of the option; None: it was not given.

    Raises:
        FantasyTalkingError: Whatever generating raises, in whichever process.
    """
    if text is None and not started_by_torchrun():
        return generate_file(job)
    from fantasytalking.acceleration.parallel_plan import parse_parallel

    with alike():
        if text is None:
            raise SettingsError(
                f"torchrun has started this command {os.environ['WORLD_SIZE']} times, and each of them would make the whole video; add "
                "--parallel auto."
            )
        if ":" in job.run.device:
            raise SettingsError(
                f"With --parallel each process has a device of its own, but --device {job.run.device} was given; leave it out, and choose "
                "among GPUs with CUDA_VISIBLE_DEVICES."
            )
        plan = parse_parallel(text)
    if started_by_torchrun():
        return _as_one_of_torchrun(job, plan)
    count = _count_devices(job.run.device, plan)
    if count > 1:
        return _start(job, plan, count)
    show_note("There is one device for --parallel, so the video is made as without it.")
    return generate_file(job)


def _count_devices(device: str, plan: ParallelPlan | None) -> int:
    """The number of processes, after checking that this machine has a device for each."""
    import torch

    from fantasytalking.system.machine import choose_device

    kind, devices = choose_device(device).type, torch.cuda.device_count()
    if kind == "cuda":
        count = devices if plan is None else plan.processes
        if count > devices:
            raise SettingsError(f"--parallel {plan} needs {count} GPUs, but this machine has {devices}; use fewer.")
        return count
    if plan is not None and kind != "cpu":
        raise SettingsError(
            f"--parallel needs CUDA devices, but the device is {kind}; leave it out, or add --device cpu."
        )
    return 1 if plan is None else plan.processes


def _as_one_of_torchrun(job: Job, plan: ParallelPlan | None) -> int:
    """Take part in the work; of an error that all processes know, the first alone tells."""
    try:
        return _take_part(job, plan)
    except FantasyTalkingError as error:
        from fantasytalking.acceleration.ranks import told_by

        if os.environ["RANK"] == "0" or told_by(error) is None:
            raise
        return error.exit_code
    except Exception as error:
        if not _is_broken(error):
            raise
        # The process that broke it off says why.
        return FantasyTalkingError.exit_code


def _take_part(job: Job, plan: ParallelPlan | None) -> int:
    """Generate the video as one of the processes that the environment names."""
    from fantasytalking.acceleration.ranks import connect
    from fantasytalking.system.machine import choose_device

    device = choose_device(job.run.device)
    if device.type == "cuda":
        device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
    ranks = connect(device)
    with ranks.together():
        ranks.plan = plan or _fastest(job, ranks.count)
    run = dataclasses.replace(job.run, device=str(device))
    code = generate_file(dataclasses.replace(job, run=run), ranks)
    ranks.leave()
    return code


def _fastest(job: Job, count: int) -> ParallelPlan:
    """The fastest division of the work between some processes."""
    from fantasytalking.checkpoints.component_files import read_config
    from fantasytalking.pipeline.load_pipeline import local_folder
    from fantasytalking.pipeline.parallel_calls import plan_for
    from fantasytalking.pipeline.plan_run import settings_of

    folder = local_folder(job.model, job.run.transformer)
    changes = profile_of(job.model, job.run, job.plan[1], job.settings).settings
    settings = settings_of(Path(folder), {**changes, **job.settings})
    # A folder whose files do not say it is refused by its loader.
    heads = read_config(Path(folder) / "transformer").get("num_attention_heads", count)
    return plan_for(count, settings, heads, (Path(folder) / "text_encoder").is_dir())


def _start(job: Job, plan: ParallelPlan | None, count: int) -> int:
    """Start the processes, and end with them."""
    from fantasytalking.system.processes import spawning

    job.check()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = spawning()
    workers: list[BaseProcess] = []
    ends: list[Connection] = []
    patience = 0.0
    try:
        for rank in range(count):
            mine, theirs = context.Pipe(duplex=False)
            worker = context.Process(target=_run_rank, args=(job, plan, rank, count, port, theirs))
            worker.start()
            theirs.close()
            workers.append(worker)
            ends.append(mine)
        reports = _reports(workers, ends)
        patience = GRACE if list(reports.values()) == [None] * count else 0.0
    finally:
        _end(workers, patience)
    _raise_first(reports, count)
    return 0


def _run_rank(job: Job, plan: ParallelPlan | None, rank: int, count: int, port: int, end: Connection) -> None:
    """The life of a process."""
    from fantasytalking.system.machine import usable_cores
    from fantasytalking.system.processes import start_worker

    if rank == 0:
        # It may be writing, and leaves nothing half-written behind.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in named.items()}, MASTER_ADDR="127.0.0.1")
    threads = job.run.threads or int(os.environ.get("OMP_NUM_THREADS", 0)) or max(1, usable_cores() // count)
    start_worker(threads)
    job = dataclasses.replace(job, run=dataclasses.replace(job.run, threads=threads))
    if rank > 0:
        # The first alone speaks.
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    try:
        _take_part(job, plan)
        end.send(None)
    except FantasyTalkingError as error:
        end.send((type(error).__name__, str(error)))
    except Exception as error:
        end.send((type(error).__name__, "" if _is_broken(error) else traceback.format_exc()))


def _reports(workers: Sequence[BaseProcess], ends: Sequence[Connection]) -> dict[int, tuple[str, str] | None]:
    """What the processes say at their end: None, or an error's class and message. Of one that died, the class is empty.

    They come in the order in which they end; once one has failed, those that do not end soon are left out.
    """
    reports: dict[int, tuple[str, str] | None] = {}
    running, deadline = dict(enumerate(ends)), float("inf")
    while running and time.monotonic() < deadline:
        for end in wait(list(running.values()), timeout=0.2):
            rank = next(rank for rank, one in running.items() if one is end)
            try:
                reports[rank] = running.pop(rank).recv()
            except EOFError:
                workers[rank].join()
                reports[rank] = "", str(workers[rank].exitcode)
            if reports[rank] is not None:
                deadline = min(deadline, time.monotonic() + GRACE)
    return reports


def _end(workers: Sequence[BaseProcess], patience: float) -> None:
    """End the processes that do not end by themselves for so many seconds, by asking and then by force."""
    for act in (BaseProcess.terminate, BaseProcess.kill):
        deadline = time.monotonic() + patience
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        for worker in workers:
            act(worker)
        patience = GRACE
    for worker in workers:
        worker.join()


def _raise_first(reports: dict[int, tuple[str, str] | None], count: int) -> None:
    """Raise the error that came first; those of processes that only lost the connection to another come last."""
    failed = {rank: report for rank, report in reports.items() if report is not None}
    for kind, message in failed.values():
        if hasattr(fantasytalking.errors, kind):
            raise getattr(fantasytalking.errors, kind)(message)
    for rank, (kind, message) in failed.items():
        if kind and message:
            print(message, file=sys.stderr)
            raise ResourceError(f"Process {rank} of {count} failed with a {kind}, which is shown above.")
    for rank, (kind, message) in failed.items():
        if not kind:
            raise ResourceError(
                f"Process {rank} of {count} was ended from outside (exit status {message}), perhaps for lack of main memory; try fewer "
                "processes, --memory minimal or a shorter clip."
            )
    if failed:
        raise ResourceError("The processes lost the connection to each other; run the command again.")


def _is_broken(error: Exception) -> bool:
    """Whether an error says that another process has gone away in the middle of an exchange."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in BROKEN)
    )
