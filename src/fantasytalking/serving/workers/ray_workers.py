"""Workers as replicas of a deployment of Ray Serve, on as many machines as the cluster has.

The queue is the database's, as for the workers of one machine. Ray learns its length by tickets: for each job that waits or runs, up to
what the largest number of replicas can take, one call waits at the deployment, which claims the next job and tries it. The number of calls
is what Ray Serve scales by. A replica that dies ends its ticket, and its job goes to another when its lease is over, or at once on this
machine.

All machines of the cluster need the data folder at the same path, and a database that they can reach: PostgreSQL where there are several.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Sequence
from typing import Any

import ray
from ray import serve

from fantasytalking.errors import SettingsError
from fantasytalking.serving.jobs.job_records import JobStatus
from fantasytalking.serving.jobs.job_store import JobStore
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.workers.supervisor import recover_jobs
from fantasytalking.serving.workers.worker_options import WorkerOptions
from fantasytalking.system.digests import json_sha256
from fantasytalking.system.machine import usable_cores

__all__ = ["JobReplica", "RayWorkers"]

_NAMESPACE = "fantasytalking"
_BEAT = 0.5
_LAST_SECONDS = 5.0
"""Seconds that replicas have to notice that their jobs were handed back."""
_IDLE_SECONDS = 60.0
"""Seconds without need after which a replica ends."""
_STORE_BYTES = 100 * 2**20
"""Ray's shared memory on this machine; files go through the data folder."""

_log = logging.getLogger("fantasytalking.serving.ray")


class JobReplica:
    """A worker in a replica; its model stays loaded.

    Args:
        options: Of the worker, as JSON.
        server: Part of the worker's name.
    """

    def __init__(self, options: str, server: str) -> None:
        # Imported here, in the process of the replica.
        from fantasytalking.serving.operations.structured_logs import configure_logs
        from fantasytalking.serving.workers.worker_process import Worker, import_frameworks

        given = WorkerOptions.from_json(options)
        configure_logs(given.log_format, given.log_level)
        import_frameworks()
        self._worker = Worker(given, server)

    async def work_once(self) -> bool:
        """Claim a job and try it, beside the loop that answers for the replica's health; False where none waits."""
        return await asyncio.to_thread(self._worker.work_once)


class RayWorkers:
    """The replicas of a server.

    Args:
        settings: Of the server.
        store: The jobs.

    Raises:
        SettingsError: The cluster cannot be reached.
    """

    def __init__(self, settings: ServerSettings, store: JobStore) -> None:
        self._settings, self._store = settings, store
        # A server that was killed finds its deployment in the cluster again, and replaces it.
        own = [socket.gethostname(), str(settings.data.absolute()), settings.port]
        self._name = f"fantasytalking-{json_sha256(own)[:8]}"
        self._most = len(settings.devices) * settings.workers
        # Ray's types are too loose for checking.
        self._tickets: list[Any] = []
        self._handle: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray", daemon=True)
        # Here and not at the start, before the server answers signals, which Ray would take for itself.
        self._connect()

    def start(self) -> None:
        """Deploy, and hand out tickets from then on."""
        self._thread.start()

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        common: dict[str, Any] = {"namespace": _NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self._settings.ray_address:
                ray.init(self._settings.ray_address, **common)
            else:
                cores = max(usable_cores(), self._most)
                ray.init(num_cpus=cores, include_dashboard=False, object_store_memory=_STORE_BYTES, **common)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise SettingsError(
                f"The Ray cluster {self._settings.ray_address or 'of this machine'} cannot be used ({str(error).splitlines()[0]}); check "
                "ray_address."
            ) from error

    def _deploy(self) -> None:
        """Make the deployment; returns when its first replica is ready."""
        serve.start(proxy_location="Disabled")
        deployment: Any = serve.deployment(JobReplica)
        deployment = deployment.options(
            max_ongoing_requests=1,
            graceful_shutdown_timeout_s=_LAST_SECONDS,
            ray_actor_options={"num_cpus": 1, "num_gpus": self._gpus()},
            autoscaling_config={
                "min_replicas": 1,
                "max_replicas": self._most,
                "target_ongoing_requests": 1,
                "upscale_delay_s": 1.0,
                "downscale_delay_s": _IDLE_SECONDS,
                "metrics_interval_s": 1.0,
            },
        )
        options = WorkerOptions.of(self._settings, self._settings.devices[0])
        self._handle = serve.run(deployment.bind(options.to_json(), self._name), name=self._name, route_prefix=None)

    @property
    def alive(self) -> int:
        """Number of replicas that run."""
        if self._handle is None:
            return 0
        found = serve.status().applications.get(self._name)
        deployments: Sequence[Any] = [] if found is None else list(found.deployments.values())
        return sum(int(one.replica_states.get("RUNNING", 0)) for one in deployments)

    def stop(self, seconds: float) -> None:
        """Let the replicas finish their jobs within a time, and give them back after it.

        Args:
            seconds: The time.
        """
        self._stop.set()
        if self._thread.ident is None:
            return
        self._thread.join()
        if not self._wait_for_tickets(seconds):
            for job in self._store.running():
                if (job.worker or "").startswith(f"{self._name}@"):
                    # Its replica finds out with its next report.
                    self._store.hand_back(job)
            self._wait_for_tickets(_LAST_SECONDS)
        serve.delete(self._name)
        ray.shutdown()

    def _gpus(self) -> float:
        if self._settings.devices[0] == "cpu":
            return 0.0
        return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0

    def _watch(self) -> None:
        while not self._stop.wait(_BEAT):
            try:
                if self._handle is None:
                    self._deploy()
                recover_jobs(self._store, self._settings)
                self._hand_out_tickets()
            except Exception as error:  # database or cluster may be away for a while
                _log.warning("%s", type(error).__name__, exc_info=error)

    def _hand_out_tickets(self) -> None:
        if self._handle is None:
            return
        self._tickets = [ticket for ticket in self._tickets if not _is_done(ticket)]
        counts = self._store.counts()
        wanted = min(self._most, counts[JobStatus.QUEUED] + counts[JobStatus.IN_PROGRESS])
        for _ in range(wanted - len(self._tickets)):
            self._tickets.append(self._handle.work_once.remote())

    def _wait_for_tickets(self, seconds: float) -> bool:
        for _ in range(max(1, round(seconds / _BEAT))):
            self._tickets = [ticket for ticket in self._tickets if not _is_done(ticket)]
            if not self._tickets:
                return True
            threading.Event().wait(_BEAT)
        return not self._tickets


def _is_done(ticket: Any) -> bool:
    """Whether a ticket came back, by whatever end; the database alone says what became of its job."""
    try:
        ticket.result(timeout_s=0)
    except TimeoutError:
        return False
    except Exception as error:  # the replica died, or could not be made
        _log.warning("a replica ended its work (%s)", type(error).__name__)
    return True
