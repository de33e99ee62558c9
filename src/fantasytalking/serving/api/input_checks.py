"""The files of a job as they are checked before it is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fantasytalking.errors import InputError
from fantasytalking.pipeline.early_inputs import read_demands
from fantasytalking.pipeline.face_in_footage import open_footage
from fantasytalking.pipeline.footage_inputs import load_footage_speech
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.progress import QuietProgress
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.serving.api.api_errors import ApiError, api_error
from fantasytalking.serving.jobs.job_records import JobInputs, Mode
from fantasytalking.serving.jobs.read_inputs import read_job_inputs
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.uploads.check_upload import UploadFacts, check_upload
from fantasytalking.serving.uploads.file_kinds import FileKind

__all__ = ["check_file", "check_job_inputs"]


def check_file(path: Path, kind: FileKind, field: str, settings: ServerSettings) -> UploadFacts:
    """Decode an uploaded file in a process of its own.

    Args:
        path: The file.
        kind: What it is meant to be.
        field: Field of the request, for the error.
        settings: Limits.

    Raises:
        ApiError: It cannot be used.
    """
    try:
        return check_upload(path, kind, settings)
    except InputError as error:
        raise api_error(error, path.parent, field) from error


def check_job_inputs(
    mode: Mode, folder: Path, inputs: JobInputs, model: str, given: Mapping[str, Any], limits: ServerSettings
) -> tuple[dict[str, Any], list[str]]:
    """Read the files of a job as the library will, but for following a face through footage, which takes long.

    Args:
        mode: What is made.
        folder: The folder of the job.
        inputs: Names of its files.
        model: Name of the model, as the library knows it.
        given: Settings of the request.
        limits: Uses `speech_seconds` and `footage_seconds`.

    Returns:
        All settings with their values, and notes.

    Raises:
        FantasyTalkingError: A file or a setting cannot be used.
        ApiError: Speech or footage is too long.
    """
    found = resolve_model(model)
    demands = read_demands(found, given) if isinstance(found, Path) else None
    settings = GenerationSettings.create(given) if demands is None else demands.settings
    notes: list[str] = []
    if mode == Mode.FOOTAGE and demands is not None:
        footage = open_footage(folder / inputs.picture)
        if footage.seconds > limits.footage_seconds:
            raise _too_long("footage", footage.seconds, limits.footage_seconds, "video_reference")
        files = [folder / name for name in inputs.speeches]
        speeches = [load_footage_speech(file, footage.seconds, settings, demands.rules) for file in files]
    else:
        pictures, sounds = read_job_inputs(mode, folder, inputs, model, given, QuietProgress())
        speeches = list(sounds.values()) if isinstance(sounds, dict) else [sounds]
        for picture in pictures.values() if isinstance(pictures, dict) else (pictures,):
            notes += getattr(picture, "notes", ())
    for speech in speeches:
        notes += getattr(speech, "notes", ())
        frames = getattr(speech, "video_frames", 0)
        if frames and frames / speech.fps > limits.speech_seconds + 1 / speech.fps:
            raise _too_long("speech", frames / speech.fps, limits.speech_seconds, "audio_reference")
    return settings.to_dict(), list(dict.fromkeys(notes))


def _too_long(what: str, seconds: float, most: float, param: str) -> ApiError:
    return ApiError(
        413, "too_long", f"The {what} is {seconds:.1f} s long; this server takes at most {most:g} s.", param
    )
