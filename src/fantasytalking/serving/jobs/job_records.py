"""A job as the service keeps it.

```
queued ──claimed──> in_progress ──> completed | failed
  │  ^                   │  │
  │  └─ worker died, or handed back
  └──────> cancelled <──────┘
```

`completed`, `failed` and `cancelled` are final. Every change is a compare-and-set in the database (`job_store.py`); those of a worker name
the fence that it was given with its claim, so that whoever was taken for dead can change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["ENDED", "Job", "JobError", "JobInputs", "JobStatus", "Mode", "NewJob", "VideoFacts"]


class JobStatus(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
"""States that are final."""


class Mode(StrEnum):
    """What is made."""

    PORTRAIT = "portrait"
    FOOTAGE = "footage"
    SPEAKERS = "speakers"


@dataclass(frozen=True)
class JobError:
    """Why a job failed.

    Attributes:
        code: A word for programs, such as `face_error`.
        message: One sentence for people.
    """

    code: str
    message: str


@dataclass(frozen=True)
class VideoFacts:
    """What was made.

    Attributes:
        width: Pixels.
        height: Pixels.
        fps: Frames per second.
        frames: Number of frames.
        duration: Seconds.
        bytes: Size of the file.
    """

    width: int
    height: int
    fps: float
    frames: int
    duration: float
    bytes: int


@dataclass(frozen=True)
class JobInputs:
    """The files of a job, by their names in its folder.

    Attributes:
        picture: The portrait, or the footage.
        speeches: Name of each speech.
        faces: Number of the face of each speech; empty where there is one speech for the chosen face.
    """

    picture: str
    speeches: tuple[str, ...]
    faces: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"picture": self.picture, "speeches": list(self.speeches), "faces": list(self.faces)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JobInputs:
        """The inverse of `to_dict`."""
        return cls(str(values["picture"]), tuple(values["speeches"]), tuple(values["faces"]))


@dataclass(frozen=True)
class NewJob:
    """A job before it is accepted.

    Attributes:
        id: `video_` and 32 hexadecimal digits.
        client: Whose it is.
        mode: What is made.
        model: Name of the model, as the service offers it.
        profile: How exact and how fast, see `ProfileOptions`.
        given: Settings as they were given.
        settings: All settings with their values.
        inputs: Its files, complete on disk.
        notes: Sentences that were found out before it was accepted.
        request_id: Of the request that brought it.
        idempotency_key: Of that request; None where there is none.
        fingerprint: Digest of what was asked for, which a repetition of the key must share.
    """

    id: str
    client: str
    mode: Mode
    model: str
    profile: str
    given: dict[str, Any]
    settings: dict[str, Any]
    inputs: JobInputs
    notes: tuple[str, ...] = ()
    request_id: str = ""
    idempotency_key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True)
class Job(NewJob):
    """An accepted job.

    Attributes:
        number: Counts jobs in the order of their acceptance.
        status: Where it is.
        created_at: Seconds since 1970, as all times here.
        started_at: When the first try began; None before.
        completed_at: When it ended, whichever way; None before.
        expires_at: When it is deleted with its files; None before its end.
        progress: 0 to 100.
        stage: What is being done, in a word; None where nothing is.
        seconds_left: Estimate of the time to its end; None where nobody knows.
        preview: Counts the preview pictures; 0 where there is none.
        tries: Number of tries that have begun, without those that were handed back.
        fence: Counts claims; a worker can change the job only with the number of its own.
        worker: Who works on it, see `worker_names.py`; None where nobody does.
        lease_until: When the worker is taken for dead unless it is heard of; None where nobody works on it.
        error: Why it failed.
        video: What was made.
        video_file: Name of the video in the job's folder.
    """

    number: int = 0
    status: JobStatus = JobStatus.QUEUED
    created_at: float = 0.0
    started_at: float | None = None
    completed_at: float | None = None
    expires_at: float | None = None
    progress: float = 0.0
    stage: str | None = None
    seconds_left: float | None = None
    preview: int = 0
    tries: int = 0
    fence: int = 0
    worker: str | None = None
    lease_until: float | None = None
    error: JobError | None = None
    video: VideoFacts | None = field(default=None)
    video_file: str | None = None

    @property
    def is_ended(self) -> bool:
        """Whether its state is final."""
        return self.status in ENDED
