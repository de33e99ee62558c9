"""The objects of the API, as OpenAPI describes them."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from fantasytalking.serving.jobs.job_files import FOOTAGE
from fantasytalking.serving.jobs.job_records import Job, JobInputs, JobStatus, Mode

__all__ = ["DeletedVideo", "VideoList", "VideoObject", "stored_inputs", "video_object"]


class VideoError(BaseModel):
    """Why a job failed."""

    code: Annotated[str, Field(description="A word for programs.")]
    message: Annotated[str, Field(description="One sentence.")]


class MadeVideo(BaseModel):
    """What was made."""

    width: Annotated[int, Field(description="Pixels.")]
    height: Annotated[int, Field(description="Pixels.")]
    fps: Annotated[float, Field(description="Frames per second.")]
    frames: Annotated[int, Field(description="Number of frames.")]
    duration: Annotated[float, Field(description="Seconds.")]
    bytes: Annotated[int, Field(description="Size of the file.")]


class VideoInput(BaseModel):
    """A file that was sent for a video."""

    name: Annotated[str, Field(description="The file is at /v1/videos/ID/input/NAME.")]
    field: Annotated[str, Field(description="The field that it was sent in.")]
    face: Annotated[int | None, Field(description="Number of the face that says it; null where one face speaks.")]


class VideoObject(BaseModel):
    """A job and its video."""

    id: str
    object: Literal["video"] = "video"
    status: Annotated[
        JobStatus,
        Field(
            description="queued, then in_progress, then completed, failed or cancelled, which are final; a job whose worker dies is queued "
            "again."
        ),
    ]
    progress: Annotated[float, Field(ge=0, le=100, description="Percent.")]
    stage: Annotated[str | None, Field(description="What is being done.")]
    seconds_left: Annotated[float | None, Field(description="Estimate of the time to the end.")]
    position: Annotated[
        int | None, Field(description="Place in the queue, counted from 1; null where it does not wait.")
    ]
    created_at: Annotated[int, Field(description="Seconds since 1970.")]
    started_at: Annotated[int | None, Field(description="When work on it began.")]
    completed_at: Annotated[int | None, Field(description="When it ended.")]
    expires_at: Annotated[int | None, Field(description="When it will be deleted with its files.")]
    model: str
    mode: Annotated[Mode, Field(description="portrait, footage (a dub), or speakers (several people in a picture).")]
    profile: Annotated[str, Field(description="How exact and how fast.")]
    settings: Annotated[
        dict[str, Any],
        Field(
            description="All settings with their values, the seed included: posted again with the same files, they reproduce the video."
        ),
    ]
    given: Annotated[dict[str, Any], Field(description="Settings as they were given.")]
    inputs: Annotated[list[VideoInput], Field(description="The files that were sent.")]
    notes: Annotated[list[str], Field(description="What was found, changed or chosen, a sentence each.")]
    error: VideoError | None
    video: MadeVideo | None
    tries: Annotated[int, Field(description="Number of tries; above 1 where a worker died.")]
    preview: Annotated[int, Field(description="Counts the preview pictures; 0 where there is none.")]
    request_id: Annotated[str, Field(description="Of the request that made it, as in the log of the server.")]


class VideoList(BaseModel):
    """Some jobs of a client."""

    object: Literal["list"] = "list"
    data: list[VideoObject]
    has_more: bool


class DeletedVideo(BaseModel):
    """A job that is gone."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


def video_object(job: Job, position: int | None) -> VideoObject:
    """A job as the API shows it.

    Args:
        job: The job.
        position: Its place in the queue.
    """
    left = job.seconds_left
    return VideoObject(
        id=job.id,
        status=job.status,
        progress=job.progress,
        stage=job.stage,
        seconds_left=None if left is None else round(left, 1),
        position=position,
        created_at=int(job.created_at),
        started_at=_whole(job.started_at),
        completed_at=_whole(job.completed_at),
        expires_at=_whole(job.expires_at),
        model=job.model,
        mode=job.mode,
        profile=job.profile,
        settings=job.settings,
        given=job.given,
        inputs=_inputs(job.inputs),
        notes=list(job.notes),
        error=None if job.error is None else VideoError(**dataclasses.asdict(job.error)),
        video=None if job.video is None else MadeVideo(**dataclasses.asdict(job.video)),
        tries=job.tries,
        preview=job.preview,
        request_id=job.request_id,
    )


def stored_inputs(inputs: JobInputs) -> dict[str, str]:
    """Name of each input in the API -> name of its file in the job's folder.

    The portrait is not called as its file is: `/input/image` is a small copy of it, of footage its first frame.
    """
    picture = "footage" if inputs.picture == FOOTAGE else "portrait"
    return {picture: inputs.picture, **{name: name for name in inputs.speeches}}


def _inputs(inputs: JobInputs) -> list[VideoInput]:
    picture, *speeches = stored_inputs(inputs)
    faces = inputs.faces or (None,) * len(speeches)
    field = "video_reference" if inputs.picture == FOOTAGE else "image_reference"
    return [
        VideoInput(name=picture, field=field, face=None),
        *(
            VideoInput(name=name, field="audio_reference", face=face)
            for name, face in zip(speeches, faces, strict=True)
        ),
    ]


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
