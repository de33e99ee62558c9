"""Check an uploaded file in a process of its own, with limits of time and memory, before anything else reads it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fantasytalking.errors import AudioError, ImageError, InputError, VideoError
from fantasytalking.provenance.signing_identity import own_certificate
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.uploads.checking_process import SLOW
from fantasytalking.serving.uploads.file_kinds import FileKind, FileTooLarge, UnknownFileKind, check_kind
from fantasytalking.verification import Verification

__all__ = ["UploadFacts", "check_upload", "most_bytes", "verify_result", "verify_upload"]

_ERRORS: dict[str, type[InputError]] = {"image": ImageError, "audio": AudioError, "video": VideoError}
_MODULE = "fantasytalking.serving.uploads.checking_process"
# What Python and the loader need; not the tokens and the address of the database, which the environment may hold.
_PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL", "VIRTUAL_ENV")
# starting Python and reading the limits, which is not the sender's doing
_START_SECONDS = 20.0
# the largest number that FFmpeg takes
_MOST_PIXELS = 2**31 - 1

_turns: dict[int, threading.BoundedSemaphore] = {}
_turns_lock = threading.Lock()


@dataclass(frozen=True)
class UploadFacts:
    """What is known of an uploaded file once it is checked.

    Attributes:
        kind: `image`, `audio` or `video`.
        format: Name of its format.
        bytes: Its size, as it was sent.
        width: Pixels; 0 for sound.
        height: Pixels; 0 for sound.
        frames: Frames of footage, or 0.
        fps: Frames a second of footage, or 0.
        seconds: Length of sound or footage, or 0.
        has_audio: Whether there is sound.
        notes: What was told while it was read, a sentence each.
    """

    kind: FileKind
    format: str
    bytes: int
    width: int = 0
    height: int = 0
    frames: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    has_audio: bool = False
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        return dataclasses.asdict(self)


def most_bytes(kind: FileKind, settings: ServerSettings) -> int:
    """Largest accepted file of a kind, in bytes."""
    return {"image": settings.image_bytes, "audio": settings.audio_bytes, "video": settings.video_bytes}[kind]


def check_upload(path: Path, kind: FileKind, settings: ServerSettings) -> UploadFacts:
    """Recognise and decode an uploaded file; blocks for up to `settings.check_seconds` and longer while others are checked.

    Afterwards a picture is a PNG of its pixels and nothing else, so that whoever reads it next meets no other format, no metadata and
    nothing that was hidden in it. Sound is decoded to its end, footage in its first frames; both stay as they are.

    Args:
        path: The file, under a name of ours in a folder of ours.
        kind: What it is meant to be.
        settings: Settings of the server.

    Raises:
        UnknownFileKind: It is no file of an accepted kind.
        FileTooLarge: It has too many bytes.
        InputError: As `ImageError`, `AudioError` or `VideoError`: it cannot be decoded, is too large or too long, or takes too much time
            or memory.
    """
    size, known = _accepted(path, kind, settings)
    found = _decoded(path, kind, settings, _task(path, kind, settings))
    notes = tuple(found.pop("notes", ()))
    return UploadFacts(kind, known, size, notes=notes, **found)


def verify_upload(path: Path, settings: ServerSettings) -> Verification:
    """What `verify` finds in an uploaded video, in a process of its own; blocks as `check_upload` does.

    Args:
        path: The file, under a name of ours in a folder of ours.
        settings: Settings of the server.

    Raises:
        InputError: As for `check_upload`.
    """
    _accepted(path, "video", settings)
    # It is complete: what was written a moment ago would be read as a file that grows.
    os.utime(path, (0, 0))
    return _marks_of(path, settings, _task(path, "video", settings))


def verify_result(path: Path, settings: ServerSettings) -> Verification:
    """What `verify` finds in a video that this server made, which may be longer and larger than an upload.

    Args:
        path: The file.
        settings: Settings of the server.

    Raises:
        InputError: It is gone, or takes too much time or memory.
    """
    return _marks_of(path, settings, {**_task(path, "video", settings), "seconds": math.inf, "pixels": _MOST_PIXELS})


def _accepted(path: Path, kind: FileKind, settings: ServerSettings) -> tuple[int, str]:
    """Size and format of a file that may be decoded."""
    size = _size_of(path, kind)
    if size > most_bytes(kind, settings):
        raise FileTooLarge(f"The {kind} has {size:,} bytes and at most {most_bytes(kind, settings):,} are accepted.")
    return size, check_kind(path, kind)


def _size_of(path: Path, kind: FileKind) -> int:
    if path.is_symlink() or not path.is_file():
        raise UnknownFileKind(f"The {kind} is no plain file; send the file itself.")
    size = path.stat().st_size
    if size == 0:
        raise _ERRORS[kind](f"The {kind} is empty (0 bytes); give a complete one.")
    return size


def _turn(count: int) -> threading.BoundedSemaphore:
    with _turns_lock:
        return _turns.setdefault(count, threading.BoundedSemaphore(count))


def _marks_of(path: Path, settings: ServerSettings, task: dict[str, Any]) -> Verification:
    # The certificate alone is passed on: the file that holds it holds the key, too.
    own = own_certificate()
    more = {"look": "marks", "own": None if own is None else own.decode()}
    return Verification.from_summary(_decoded(path, "video", settings, {**task, **more}))


def _task(path: Path, kind: FileKind, settings: ServerSettings) -> dict[str, Any]:
    return {
        "path": str(path.absolute()),
        "look": kind,
        "seconds": settings.speech_seconds if kind == "audio" else settings.footage_seconds,
        "pixels": settings.image_pixels if kind == "image" else settings.video_pixels,
        "memory": settings.check_memory,
        "cpu_seconds": settings.check_seconds,
    }


def _decoded(path: Path, kind: FileKind, settings: ServerSettings, task: dict[str, Any]) -> dict[str, Any]:
    """What the process that decodes found out."""
    with _turn(settings.checks_at_once):
        return _answer(path, kind, settings, task)


def _answer(path: Path, kind: FileKind, settings: ServerSettings, task: dict[str, Any]) -> dict[str, Any]:
    error = _ERRORS[kind]
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # what is too long for memory is spooled beside the file, in the data folder
    environment.update(TMPDIR=str(path.parent.absolute()), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore::RuntimeWarning", "-m", _MODULE],
            input=json.dumps(task).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=path.parent,
            timeout=settings.check_seconds + _START_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise error(_too_slow(kind, settings)) from None
    if done.returncode == SLOW or -done.returncode == getattr(signal, "SIGXCPU", 0):
        raise error(_too_slow(kind, settings))
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        answer = {"fault": "crash"}
    if answer.get("fault") == "memory":
        most = settings.check_memory / 2**30
        raise error(f"The {kind} takes more than {most:.3g} GiB of memory to decode; give a smaller or simpler one.")
    if "fault" in answer:
        raise error(f"The {kind} stops its decoder; it is damaged or made to do harm, give another copy.")
    if "error" in answer:
        raise error(str(answer["error"]))
    return answer


def _too_slow(kind: FileKind, settings: ServerSettings) -> str:
    return f"The {kind} takes more than {settings.check_seconds:g} s to decode; give a smaller or simpler one."
