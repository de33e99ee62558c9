"""The work of a batch in one process: case after case with a model that stays loaded."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from fantasytalking.cli.batch_cases import BatchCase
from fantasytalking.errors import (
    CheckpointError,
    FantasyTalkingError,
    MissingDependencyError,
    OutputError,
    ResourceError,
)
from fantasytalking.generation.planned_run import LoadedModel, generate_planned
from fantasytalking.generation.request import Request
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions
from fantasytalking.pipeline.progress import QuietProgress
from fantasytalking.system.digests import file_fingerprint
from fantasytalking.system.files import full_disk_error
from fantasytalking.system.json import write_json

__all__ = ["BatchModel", "BatchWorker", "to_case", "to_job"]

MOST_TRIES = 2
"""A case whose worker dies is given to another once: twice is no accident, and it would end every worker in turn."""


@dataclasses.dataclass(frozen=True)
class BatchModel:
    """The model and how it runs, the same for all cases.

    Attributes:
        name: Name of the model.
        run: How and where the worker runs.
        memory: Options about memory.
        profile: Options about speed.
        batch: Identifies this run of the command; tries of earlier ones do not count.
    """

    name: str
    run: RunOptions
    memory: MemoryOptions
    profile: ProfileOptions
    batch: str


def to_job(case: BatchCase) -> dict[str, Any]:
    """A case as values that JSON can hold."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(case).items()}


def to_case(job: dict[str, Any]) -> BatchCase:
    """The inverse of `to_job`."""
    paths = {key: Path(job[key]) for key in ("image", "audio", "output")}
    return BatchCase(**{**job, **paths})


class BatchWorker:
    """Generates the videos of cases.

    Args:
        model: The model and how it runs.
    """

    def __init__(self, model: BatchModel) -> None:
        self._model = model
        self._loaded = LoadedModel()

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        """Write the video of a case and its record.

        Returns:
            The line of the report.

        Raises:
            CheckpointError: The model cannot be loaded, which no other case would change.
            MissingDependencyError: Likewise.
            OutputError: The output folder takes no more.
        """
        case, begin = to_case(job), time.perf_counter()
        row: dict[str, Any] = {"name": case.name, "status": "failed"}
        try:
            row |= {**self._generate(case), "status": "done", "output": str(case.video)}
        except (CheckpointError, MissingDependencyError, OutputError):
            raise
        except FantasyTalkingError as error:
            row["error"] = {"kind": type(error).__name__, "message": str(error)}
        except Exception as error:  # one bad case must not end hours of work; it is reported
            row["error"] = {
                "kind": type(error).__name__,
                "message": " ".join(f"{type(error).__name__}: {error}".split()),
            }
        if row["status"] == "failed":
            # What an error left in the model or in its memory is not known.
            self._loaded.drop()
        row["seconds"] = round(time.perf_counter() - begin, 2)
        return row

    def _generate(self, case: BatchCase) -> dict[str, Any]:
        from fantasytalking.pipeline.early_inputs import read_inputs

        if self._count_try(case) > MOST_TRIES:
            raise ResourceError(
                f"The process that generated it was ended from outside {MOST_TRIES} times, perhaps for lack of memory; try fewer "
                "--workers, --memory low or a shorter clip."
            )
        # Notes go into the report, bars would disturb the one line of the batch.
        model, progress = self._model, QuietProgress()
        settings = dict(case.settings)
        portrait, speech = read_inputs(case.image, case.audio, model.name, settings)
        run = dataclasses.replace(model.run, overwrite=True)
        request = Request(model.name, portrait, speech, case.staged, run, settings, model.memory, model.profile)
        facts = generate_planned(request, progress, self._loaded).summary()
        # The record comes before the video: whoever finds the video in its place knows that it is complete, and one that was
        # stopped in between only has to be moved.
        write_json(case.record, {"key": case.key, "fingerprint": file_fingerprint(case.staged)})
        os.replace(case.staged, case.video)
        return {"duration": facts["duration"], "seed": facts["settings"]["seed"], "notes": facts["notes"]}

    def _count_try(self, case: BatchCase) -> int:
        with full_disk_error(case.tries), case.tries.open("a+", encoding="utf-8") as file:
            file.write(f"{self._model.batch}\n")
            file.seek(0)
            return sum(line.strip() == self._model.batch for line in file)
