"""Who does the work: this process, or a pool of Ray Data actors on one machine or many. Both call the same tasks on the same jobs."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import fantasytalking.errors
from fantasytalking.errors import FantasyTalkingError, InputError, MissingDependencyError, ResourceError
from fantasytalking.pipeline.progress import quiet_frameworks

__all__ = ["Crew", "InProcess", "RayCrew", "on_ray"]

Task = Callable[[dict[str, Any]], dict[str, Any]]
Arguments = tuple[Any, ...]
_STORE_BYTES = 200 * 2**20


class Crew(Protocol):
    """Does jobs."""

    def do(
        self, task: Callable[..., Task], arguments: Arguments, jobs: Sequence[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """The results of `task(*arguments)` called on each job, in the order in which they come.

        Args:
            task: a class, one object of which is made in each process.
            arguments: for making it.
            jobs: values that JSON knows.
        """
        ...


class InProcess:
    """One job after the other, here; for debugging."""

    def do(
        self, task: Callable[..., Task], arguments: Arguments, jobs: Sequence[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """See `Crew.do`."""
        from fantasytalking.system.processes import threads

        # one thread, as a worker has: sums in another order are other sums
        with threads(1):
            work = task(*arguments)
            for job in jobs:
                yield work(job)


class RayCrew:
    """Jobs as rows of a Ray Dataset, mapped by a pool of actors; an actor that dies is started again and its job repeated.

    Args:
        workers: actors.
        gpus: share of an accelerator that each of them takes.
    """

    def __init__(self, workers: int, gpus: float = 0.0) -> None:
        self._workers, self._gpus = workers, gpus

    def do(
        self, task: Callable[..., Task], arguments: Arguments, jobs: Sequence[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """See `Crew.do`.

        Raises:
            FantasyTalkingError: that a task raised.
            ResourceError: Ray itself failed.
        """
        import ray
        import ray.data

        if not jobs:
            return
        # a block a job, so that each is a task of its own; text, so that no type of a column has to be guessed
        rows = ray.data.from_items([{"job": json.dumps(job)} for job in jobs], override_num_blocks=len(jobs))
        size = min(self._workers, len(jobs))
        results = rows.map(
            _bound(task, arguments),
            compute=ray.data.ActorPoolStrategy(min_size=size, max_size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=self._gpus,
        )
        try:
            for row in results.iter_rows():
                yield _opened(json.loads(row["result"]))
        except ray.exceptions.RayError as error:
            raise ResourceError(
                f"Ray could not go on ({_first_line(error)}); finished shards are kept, so give the same command again."
            ) from error


class _Actor:
    """What runs in a worker process."""

    def __init__(self, task: Callable[..., Task], arguments: Arguments) -> None:
        from fantasytalking.system.processes import set_threads

        # Ctrl-C reaches every process of the terminal; the command alone answers it
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        _quieten()
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


def _bound(task: Callable[..., Task], arguments: Arguments) -> Any:
    """The actor's class with its arguments in it: Ray cannot start an actor again whose arguments lie in its object store."""

    class Bound(_Actor):
        def __init__(self) -> None:
            super().__init__(task, arguments)

    return Bound


@contextmanager
def on_ray(workers: int | None, address: str | None, gpus: float) -> Iterator[RayCrew]:
    """Start Ray here, or join a cluster, for the time of the block.

    Args:
        workers: actors; None means one a processor core.
        address: of a cluster: "auto", host:port or ray://host:port; None starts Ray on this machine alone.
        gpus: share of an accelerator that each actor takes.

    Raises:
        MissingDependencyError: Ray is not installed.
        InputError: there is no cluster at the address.
        ResourceError: Ray cannot start, or the machines have too few processors or accelerators for one actor.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # its core warns at each start that actors with arguments cannot be started again; they can, a test kills one
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # workers are as nice as the command, and not by 15 nicer: beside anything else they would never get their turn
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            'Preparing with worker processes needs Ray; install it with pip install "fantasytalking[prepare]", or pass --workers 0.'
        ) from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with _muted():
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
        raise ResourceError(f"Ray cannot start ({_first_line(error)}); pass --workers 0 to work without it.") from error
    try:
        _quieten()
        yield RayCrew(_fitting(workers, gpus, ray.cluster_resources()), gpus)
    finally:
        with _muted():
            ray.shutdown()


def _fitting(workers: int | None, gpus: float, resources: dict[str, float]) -> int:
    """Actors for which there is room."""
    room = int(resources.get("CPU", 0))
    if gpus:
        room = min(room, int(resources.get("GPU", 0) / gpus))
    if room < 1:
        raise ResourceError(
            f"A worker needs a processor core and {gpus:g} of an accelerator, but there are {resources.get('CPU', 0):g} and "
            f"{resources.get('GPU', 0):g}; pass a smaller --gpus-per-worker."
        )
    return min(workers or room, room)


def _opened(result: dict[str, Any]) -> dict[str, Any]:
    if "error" in result:
        raise getattr(fantasytalking.errors, result["error"]["kind"], FantasyTalkingError)(result["error"]["message"])
    if "bug" in result:
        raise RuntimeError(f"A worker failed:\n{result['bug']}")
    opened: dict[str, Any] = result["result"]
    return opened


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _quieten() -> None:
    """No bars and no advice of the libraries between ours."""
    quiet_frameworks()
    for name in ("ray", "ray.data", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


@contextmanager
def _muted() -> Iterator[None]:
    """No warnings of Ray's about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
