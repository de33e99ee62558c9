"""What a process does that generates the videos of a benchmark; a module of its own, as a new process imports it before anything else."""

from __future__ import annotations

from multiprocessing.connection import Connection

from fantasytalking.system.processes import start_worker
from fantasytalking.system.startup import importing_frameworks

__all__ = ["serve"]


def serve(connection: Connection, place: str, threads: int) -> None:
    """Receive jobs and send reasons, until the connection ends.

    Args:
        connection: To the process that hands out the jobs; of a job without a video the reason is sent, otherwise None.
        place: Device.
        threads: Number for PyTorch and for OpenCV.
    """
    start_worker(threads)
    with importing_frameworks():
        from fantasytalking.evaluation.benchmark.generate_case import VideoGenerator
    generator = VideoGenerator(place)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(generator.generate(job))
