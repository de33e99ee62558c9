"""The service on Ray Serve: two replicas of a local cluster, of which one is killed."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from tests.serving.service_process import ServiceProcess, write_inputs


def replicas(server: ServiceProcess) -> list[psutil.Process]:
    """Processes of Ray that hold a replica."""
    assert server.process is not None
    found = []
    for one in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if "ServeReplica" in " ".join(one.cmdline()):
                found.append(one)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_two_replicas_share_the_queue_and_the_job_of_a_killed_one_is_finished_by_the_other(tmp_path: Path) -> None:
    given = write_inputs(tmp_path)
    options = ("--model", str(given["model"]), "--engine", "ray", "--workers", "2", "--devices", "cpu")
    server = ServiceProcess(tmp_path, *options)
    server.start()
    try:
        files = [("image_reference", given["face"]), ("audio_reference", given["long"])]

        def send(**settings: str) -> list[str]:
            """Two jobs, once both are at work."""
            jobs = [server.make(files, None, **settings) for _ in range(2)]
            until = (
                time.monotonic() + 600
            )  # a replica takes 30 s to start on an idle machine, and minutes on a busy one
            while not all(server.job(job)["status"] == "in_progress" for job in jobs):
                assert time.monotonic() < until, server.log.read_text()
                time.sleep(0.1)
            return jobs

        # These would take minutes, which brings up the second replica.
        for job in send(steps="1000"):
            assert server.call("POST", f"/v1/videos/{job}/cancel").json()["status"] == "cancelled"
        jobs = send(steps="20")
        killed = replicas(server)
        assert len(killed) == 2
        killed[0].kill()
        ended = [server.wait(job) for job in jobs]
        assert [(job["status"], job["video"]["frames"]) for job in ended] == [("completed", 150)] * 2
        assert sorted(job["tries"] for job in ended) == [1, 2]
        assert server.stop() == 0
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()
