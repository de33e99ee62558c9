"""Reading the files of a job as the library will, which is also the check before a job is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fantasytalking.generation.read_speakers import read_speakers
from fantasytalking.pipeline.early_inputs import read_footage_inputs, read_inputs
from fantasytalking.pipeline.progress import Progress
from fantasytalking.serving.jobs.job_records import JobInputs, Mode

__all__ = ["read_job_inputs"]


def read_job_inputs(
    mode: Mode, folder: Path, inputs: JobInputs, model: str, settings: Mapping[str, Any], progress: Progress
) -> tuple[Any, Any]:
    """Portrait or footage, and speech, of a job; by face where several speak.

    Args:
        mode: What is made.
        folder: The folder of the job.
        inputs: Names of its files.
        model: Name of the model, as the library knows it.
        settings: Settings of the job by name.
        progress: Shows the stages.

    Raises:
        InputError: A file, a face or a setting cannot be used.
    """
    picture, files = folder / inputs.picture, [folder / name for name in inputs.speeches]
    by_face = dict(zip(inputs.faces, files, strict=True)) if inputs.faces else {}
    if mode == Mode.FOOTAGE:
        return read_footage_inputs(picture, by_face or files[0], model, settings, progress)
    with progress.stage("reading"):
        if mode == Mode.SPEAKERS:
            return read_speakers(picture, by_face, model, settings)
        return read_inputs(picture, files[0], model, settings)
