"""The library's errors as a job or an answer states them: a word for programs, and a sentence without paths of this machine."""

from __future__ import annotations

import re
from pathlib import Path

from fantasytalking.errors import (
    AudioError,
    CheckpointError,
    FaceError,
    FantasyTalkingError,
    ImageError,
    InputError,
    MissingDependencyError,
    OutOfMemory,
    OutputError,
    ResourceError,
    SettingsError,
    VideoError,
)
from fantasytalking.serving.jobs.job_records import JobError

__all__ = ["INTERNAL", "error_of", "without_paths"]

_CODES: tuple[tuple[type[Exception], str], ...] = (
    (FaceError, "face_error"),
    (ImageError, "image_error"),
    (AudioError, "audio_error"),
    (VideoError, "video_error"),
    (SettingsError, "settings_error"),
    (OutputError, "storage_error"),
    (InputError, "input_error"),
    (CheckpointError, "model_error"),
    (MissingDependencyError, "model_error"),
    (OutOfMemory, "out_of_memory"),
    (ResourceError, "resource_error"),
)
_NAMES = ((r"image", "image_reference"), (r"footage", "video_reference"), (r"audio-\d+", "audio_reference"))

INTERNAL = JobError(
    "internal_error",
    "The server met an error that it does not know; its log has more under the request_id, and the same job may be sent again.",
)


def error_of(error: BaseException, folder: Path) -> JobError:
    """An error as clients see it.

    Args:
        error: Whatever was raised.
        folder: The folder of the job, whose path is taken out of the sentence.
    """
    if not isinstance(error, FantasyTalkingError):
        return INTERNAL
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "error")
    return JobError(code, without_paths(str(error), folder))


def without_paths(text: str, folder: Path) -> str:
    """A sentence with the fields of a request in place of files of a job."""
    for name, field in _NAMES:
        text = re.sub(rf"{re.escape(str(folder))}/{name}(?![\w.-])", field, text)
    return text.replace(f"{folder}/", "").replace(str(folder), "the server's folder")
