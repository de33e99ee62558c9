"""Executors of the work: this process, or a pool of Ray Data actors on one machine or many. Both run the same tasks on the same jobs."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import psutil

import fantasytalking.errors
from fantasytalking.errors import FantasyTalkingError, InputError, MissingDependencyError, ResourceError
from fantasytalking.pipeline.progress import quiet_frameworks
from fantasytalking.system.native_output import quiet_stderr

__all__ = ["Executor", "InProcessExecutor", "RayExecutor", "check_cluster", "ray_executor"]

Task = Callable[[dict[str, Any]], dict[str, Any]]
Arguments = tuple[Any, ...]
_STORE_BYTES = 200 * 2**20
_CONNECT_SECONDS, _ANSWER_SECONDS = 4.0, 20.0
_JOIN = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='CRITICAL'); ray.shutdown()"


class Executor(Protocol):
    """Runs a task on many jobs."""

    def run(
        self, task: Callable[..., Task], arguments: Arguments, jobs: Sequence[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Results of `task(*arguments)` called on each job, in the order in which they arrive.

        Args:
            task: A class of which each process makes one object.
            arguments: Arguments of its constructor.
            jobs: Values that JSON can hold.

        Raises:
            FantasyTalkingError: A task raised it.
        """
        ...


class InProcessExecutor:
    """Runs one job after the other in this process; for debugging."""

    def run(
        self, task: Callable[..., Task], arguments: Arguments, jobs: Sequence[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """See `Executor.run`."""
        from fantasytalking.system.processes import threads

        # one thread, as in a worker: the order of sums changes their last digits
        with threads(1):
            work = task(*arguments)
            for job in jobs:
                yield work(job)


class RayExecutor:
    """Runs jobs as rows of a Ray Dataset on a pool of actors; an actor that dies is restarted and its job repeated.

    Args:
        workers: Number of actors.
        gpus: Share of a GPU that each actor takes.
    """

    def __init__(self, workers: int, gpus: float = 0.0) -> None:
        self._workers, self._gpus = workers, gpus

    def run(
        self, task: Callable[..., Task], arguments: Arguments, jobs: Sequence[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """See `Executor.run`.

        Raises:
            FantasyTalkingError: A task raised it.
            ResourceError: Ray itself failed.
        """
        import ray
        import ray.data

        if not jobs:
            return
        # one block per job, so that each is a task of its own; text, so that Ray does not infer column types
        rows = ray.data.from_items([{"job": json.dumps(job)} for job in jobs], override_num_blocks=len(jobs))
        size = min(self._workers, len(jobs))
        results = rows.map(
            _actor_class(task, arguments),
            compute=ray.data.ActorPoolStrategy(min_size=size, max_size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=self._gpus,
        )
        try:
            for row in results.iter_rows():
                yield _unwrap(json.loads(row["result"]))
        except ray.exceptions.RayError as error:
            raise ResourceError(
                f"Ray failed ({_first_line(error)}); what is finished is kept, so run the same command again."
            ) from error


class _Actor:
    """Runs a task in a worker process; errors travel as JSON."""

    def __init__(self, task: Callable[..., Task], arguments: Arguments) -> None:
        from fantasytalking.system.processes import set_threads

        # Ctrl-C reaches every process of the terminal; only the command handles it
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        _silence_libraries()
        set_threads(1)
        self._task = task(*arguments)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            result: dict[str, Any] = {"result": self._task(json.loads(row["job"]))}
        except FantasyTalkingError as error:
            result = {"error": {"kind": type(error).__name__, "message": str(error)}}
        except Exception:
            result = {"bug": traceback.format_exc()}
        return {"result": json.dumps(result)}


def _actor_class(task: Callable[..., Task], arguments: Arguments) -> Any:
    """A class of actors that needs no arguments: Ray cannot restart an actor whose arguments are in its object store."""

    class BoundActor(_Actor):
        def __init__(self) -> None:
            super().__init__(task, arguments)

    return BoundActor


def _end_with_helpers(process: int) -> None:
    """End a process that joined a cluster, and the helpers that Ray started for it."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        whole = psutil.Process(process)
        for one in [*whole.children(recursive=True), whole]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


@functools.cache
def check_cluster(address: str) -> None:
    """Check that there is a Ray cluster at an address, in half a minute at most.

    Ray itself tries for a quarter of an hour and writes its log to the terminal meanwhile, so the port is tried first, and a process
    of its own joins the cluster.

    Args:
        address: auto, HOST:PORT or ray://HOST:PORT, see `RunSettings.address`.

    Raises:
        InputError: There is none.
    """
    told = f"There is no Ray cluster at '{address}'"
    way_out = "start one with 'ray start --head', or leave --address out to work on this machine alone."
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except OSError as error:
            raise InputError(f"{told} ({error.strerror or 'it does not answer'}); {way_out}") from error
    variables = {
        **os.environ,
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        "RAY_USAGE_STATS_ENABLED": "0",
        "GRPC_VERBOSITY": "NONE",
    }
    words = [sys.executable, "-c", _JOIN, address]
    # A session of its own, which ends as a whole; Windows has no sessions.
    apart: dict[str, Any] = {"start_new_session": True} if hasattr(os, "killpg") else {}
    with subprocess.Popen(
        words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **apart
    ) as joining:
        try:
            joined = joining.wait(_ANSWER_SECONDS) == 0
        except subprocess.TimeoutExpired:
            joined = False
        finally:
            _end_with_helpers(joining.pid)
    if not joined:
        raise InputError(f"{told}; {way_out}")


@contextmanager
def ray_executor(
    workers: int | None, address: str | None, gpus: float, doing: str = "Preparing", alone: str = "--workers 0"
) -> Iterator[RayExecutor]:
    """Start Ray on this machine, or join a cluster, for the duration of the block.

    Args:
        workers: Number of actors; None means one per CPU core.
        address: Address of a cluster: "auto", host:port or ray://host:port; None starts Ray on this machine alone.
        gpus: Share of a GPU that each actor takes.
        doing: What the workers do, for messages.
        alone: The option with which the command works without Ray, for messages.

    Raises:
        MissingDependencyError: Ray is not installed.
        InputError: There is no cluster at the address.
        ResourceError: Ray cannot start, or the machines have too few CPU cores or GPUs for one actor.
    """
    if address is not None:
        check_cluster(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # its core warns at each start that actors with arguments cannot be restarted; ours can, a test kills one
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # the priority of the command: at the default of 15 lower, workers would starve beside any other load
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            f'{doing} with worker processes needs Ray; install it with pip install "fantasytalking[prepare]", or pass {alone}.'
        ) from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        # its core tells that it is told to be quiet
        with _no_warnings(), quiet_stderr():
            if address is None:
                count = workers or os.cpu_count() or 1
                ray.init(num_cpus=count, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
            else:
                ray.init(address=address, **quiet)
    except ConnectionError as error:
        raise InputError(
            f"There is no Ray cluster at '{address}' ({_first_line(error)}); start one with ray start --head."
        ) from error
    except (RuntimeError, OSError, ValueError) as error:
        raise ResourceError(f"Ray cannot start ({_first_line(error)}); pass {alone} to work without it.") from error
    try:
        _silence_libraries()
        yield RayExecutor(worker_count(workers, gpus, ray.cluster_resources()), gpus)
    finally:
        with _no_warnings():
            ray.shutdown()


def worker_count(workers: int | None, gpus: float, resources: dict[str, float]) -> int:
    """Number of actors for which there are resources, at most `workers`."""
    cores, devices = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    room = min(int(cores), int(devices / gpus)) if gpus else int(cores)
    if room < 1:
        share = f"at most {devices:g}" if devices else "0"
        way = f"pass --gpus-per-worker of {share}" if cores >= 1 else "add a machine with free CPU cores to the cluster"
        raise ResourceError(
            f"A worker needs 1 CPU core and {gpus:g} GPUs, but there are {cores:g} and {devices:g}; {way}."
        )
    return min(workers or room, room)


def _unwrap(result: dict[str, Any]) -> dict[str, Any]:
    if "error" in result:
        raise getattr(fantasytalking.errors, result["error"]["kind"], FantasyTalkingError)(result["error"]["message"])
    if "bug" in result:
        raise RuntimeError(f"A worker failed:\n{result['bug']}")
    value: dict[str, Any] = result["result"]
    return value


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _silence_libraries() -> None:
    """Keep bars and advice of the libraries off the terminal."""
    quiet_frameworks()
    for name in ("ray", "ray.data", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Hide the warnings that Ray gives about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
