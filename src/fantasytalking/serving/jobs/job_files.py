"""The files of jobs: `DATA/jobs/ID/`, under names that are all ours, so that no name from a client is ever part of a path.

| name | what |
|---|---|
| `image` or `footage` | what was sent to be animated or dubbed |
| `audio-0`, `audio-1`, ... | speech |
| `video-3.mp4` | the video of the claim with fence 3; the job's row names the one that counts |
| `video-3.mp4.unfinished` | finished segments of a long video, which the next claim goes on from |
| `preview.jpg` | the newest frame |
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from fantasytalking.system.files import full_disk_error

__all__ = ["FOOTAGE", "IMAGE", "JobFiles", "is_job_id", "new_job_id"]

IMAGE, FOOTAGE = "image", "footage"
_ID = re.compile(r"video_[0-9a-f]{32}")


def new_job_id() -> str:
    """An id that nobody can guess."""
    return f"video_{secrets.token_hex(16)}"


def is_job_id(text: str) -> bool:
    """Whether a text can be the id of a job; another one need not be looked up, and may be what no database takes."""
    return _ID.fullmatch(text) is not None


class JobFiles:
    """The folders of all jobs.

    Args:
        data: The data folder of the service.

    Raises:
        OutputError: The data folder cannot be made or written.
    """

    def __init__(self, data: Path) -> None:
        self.jobs, self._trash, self.uploads = (data / name for name in ("jobs", "trash", "uploads"))
        with full_disk_error(data):
            for folder in (self.jobs, self._trash, self.uploads):
                folder.mkdir(parents=True, exist_ok=True)

    def folder(self, job: str) -> Path:
        """The folder of a job.

        Args:
            job: Its id, made by `new_job_id`; another one is an error of the caller.
        """
        assert _ID.fullmatch(job)
        return self.jobs / job

    def video(self, job: str, fence: int) -> Path:
        """The file that the claim of a fence writes its video to."""
        return self.folder(job) / f"video-{fence}.mp4"

    def unfinished(self, job: str, fence: int) -> Path:
        """Where the library keeps the finished segments of that video."""
        video = self.video(job, fence)
        return video.with_name(f"{video.name}.unfinished")

    def preview(self, job: str) -> Path:
        """The newest frame as a JPEG."""
        return self.folder(job) / "preview.jpg"

    def take_over(self, job: str, fence: int) -> None:
        """Give the claim of a fence what earlier claims finished, and delete what they left otherwise.

        A worker that was wrongly taken for dead fails at its next file.
        """
        folder = self.folder(job)
        own = self.unfinished(job, fence)
        earlier = sorted(folder.glob("video-*.mp4.unfinished"), key=_fence_of)
        if earlier and earlier[-1] != own:
            os.replace(earlier[-1], own)
        self.clean(job, keep=own.name)

    def clean(self, job: str, keep: str | None) -> None:
        """Delete all that tries left, but for one name."""
        for path in self.folder(job).glob("*"):
            if path.name != keep and path.name.lstrip(".").startswith("video-"):
                _remove(path)

    def delete(self, job: str) -> None:
        """Delete the folder of a job; a worker that still writes into it fails, and nothing of it comes back."""
        moved = self._trash / f"{job}-{secrets.token_hex(4)}"
        try:
            os.replace(self.folder(job), moved)
        except FileNotFoundError:
            return
        _remove(moved)

    def sweep(self, known: Collection[str], older_than: float) -> list[str]:
        """Delete what no job owns: uploads whose server was killed before it accepted them, and folders half deleted.

        Args:
            known: Ids of all jobs.
            older_than: Seconds that an unknown folder must be old; a request may still be filling younger ones.

        Returns:
            Names of the folders that were deleted.
        """
        for path in self._trash.iterdir():
            _remove(path)
        before = time.time() - older_than
        unknown = [path for path in (*self.jobs.iterdir(), *self.uploads.iterdir()) if path.name not in known]
        lost = [path for path in unknown if _changed(path) < before]
        for path in lost:
            _remove(path)
        return [path.name for path in lost]


def _fence_of(path: Path) -> int:
    return int(path.name.split("-")[1].split(".")[0])


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
