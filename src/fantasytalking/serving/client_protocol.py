"""What both clients share: requests and answers of the API as values, without any connection."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

import httpx2

from fantasytalking.errors import (
    AudioError,
    CheckpointError,
    FaceError,
    FantasyTalkingError,
    ImageError,
    InputError,
    OutOfMemory,
    ResourceError,
    ServerError,
    SettingsError,
    VideoError,
)
from fantasytalking.system.files import existing_file

if TYPE_CHECKING:
    from fantasytalking.verification import Verification

__all__ = [
    "ENDED",
    "Media",
    "RemoteJob",
    "Submission",
    "error_of_answer",
    "error_of_job",
    "headers_of",
    "list_query",
    "server_address",
    "single_file",
    "submission",
    "verification_of",
]

Media = str | os.PathLike[str] | bytes
"""A file by its path, or its content."""

ENDED = ("completed", "failed", "cancelled")

_ERRORS: dict[str, type[FantasyTalkingError]] = {
    "image_error": ImageError,
    "face_error": FaceError,
    "audio_error": AudioError,
    "video_error": VideoError,
    "settings_error": SettingsError,
    "input_error": InputError,
    "too_large": InputError,
    "too_long": InputError,
    "unknown_kind": InputError,
    "idempotency_key_reused": SettingsError,
    "model_error": CheckpointError,
    "out_of_memory": OutOfMemory,
    "resource_error": ResourceError,
}


@dataclass(frozen=True)
class RemoteJob:
    """A job as a server tells it.

    Attributes:
        values: The whole object of the API.
    """

    values: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.values["id"])

    @property
    def status(self) -> str:
        """`queued`, `in_progress`, `completed`, `failed` or `cancelled`."""
        return str(self.values["status"])

    @property
    def is_ended(self) -> bool:
        """Whether its state is final."""
        return self.status in ENDED

    @property
    def progress(self) -> float:
        """How far it is, 0 to 100."""
        return float(self.values.get("progress") or 0.0)

    @property
    def stage(self) -> str | None:
        """What is being done."""
        return self.values.get("stage")

    @property
    def position(self) -> int | None:
        """Place in the queue, counted from 1."""
        return self.values.get("position")

    @property
    def settings(self) -> dict[str, Any]:
        """All settings with their values, seed included; sent again they give the same video."""
        return dict(self.values.get("settings") or {})

    @property
    def notes(self) -> list[str]:
        """What was told while it was made."""
        return list(self.values.get("notes") or ())

    @property
    def video(self) -> dict[str, Any] | None:
        """Width, height, frames per second, frames, duration and bytes of the video, once there is one."""
        found = self.values.get("video")
        return None if found is None else dict(found)


@dataclass(frozen=True)
class Submission:
    """A request for a video that can be sent several times.

    Attributes:
        fields: Name and text of each field.
        media: Field and content of each file.
        key: Idempotency key: however often it is sent, there is one job.
    """

    fields: dict[str, list[str]]
    media: tuple[tuple[str, Media], ...]
    key: str

    @contextlib.contextmanager
    def opened(self) -> Iterator[list[tuple[str, tuple[str, BinaryIO | bytes, str]]]]:
        """The files, open for sending; the server is not told their names."""
        with contextlib.ExitStack() as stack:
            files: list[tuple[str, tuple[str, BinaryIO | bytes, str]]] = []
            for name, one in self.media:
                content = one if isinstance(one, bytes) else stack.enter_context(open(one, "rb"))
                files.append((name, ("file", content, "application/octet-stream")))
            yield files


def submission(
    image: Media | None,
    audio: Media | Mapping[int, Media] | None,
    video: Media | None,
    model: str | None,
    profile: str | None,
    key: str | None,
    settings: Mapping[str, Any],
) -> Submission:
    """Check what is given, as far as this side can, and make a request of it.

    Args:
        image: The portrait.
        audio: The speech, or one for each face by its number.
        video: Footage in place of the portrait.
        model: Name of a model of the server; None: its default.
        profile: How exact and how fast; None: exact.
        key: Idempotency key; None: a new one.
        settings: Settings by name; None as a value is `nothing`.

    Raises:
        SettingsError: An unknown setting or a bad value, or portrait and footage together.
        InputError: A file is missing.
    """
    from fantasytalking.pipeline.settings import GenerationSettings

    if (image is None) == (video is None):
        raise SettingsError("Give the portrait (image) or footage to dub (video), one of them.")
    if not audio:
        raise SettingsError("Give the speech (audio).")
    GenerationSettings.create(settings)
    sounds = audio if isinstance(audio, Mapping) else {None: audio}
    media = [("image_reference", _checked(image, "image", ImageError))] if image is not None else []
    media += [("video_reference", _checked(video, "video", VideoError))] if video is not None else []
    media += [("audio_reference", _checked(one, "audio", AudioError)) for one in sounds.values()]
    fields = {name: ["none" if value is None else str(value)] for name, value in settings.items()}
    fields |= {name: [value] for name, value in (("model", model), ("profile", profile)) if value is not None}
    faces = [str(face) for face in sounds if face is not None]
    if faces:
        fields["audio_face"] = faces
    return Submission(fields, tuple(media), key or uuid.uuid4().hex)


def single_file(field: str, one: Media, what: str, error: type[InputError]) -> Submission:
    """A request that sends one file and makes no job.

    Args:
        field: Its field.
        one: The file.
        what: How messages call it.
        error: Their class.

    Raises:
        InputError: As the given class: the file is missing.
    """
    return Submission({}, ((field, _checked(one, what, error)),), "")


def _checked(one: Media, what: str, error: type[InputError]) -> Media:
    return one if isinstance(one, bytes) else existing_file(one, what, error)


def server_address(server: str) -> str:
    """Address of a server without a slash at its end.

    Raises:
        SettingsError: It is none.
    """
    try:
        parts = urlsplit(server)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise SettingsError(f"A server is an address such as http://127.0.0.1:8000, but {server!r} was given.")
    return server.rstrip("/")


def headers_of(token: str | None, token_file: Path | None, client: str | None) -> dict[str, str]:
    """Headers that say who the client is.

    Args:
        token: Access token.
        token_file: File with the token: its only line, alone or as NAME=TOKEN.
        client: Name of the client, for servers without tokens.

    Raises:
        SettingsError: Both are given, or the file holds no token.
    """
    if token is not None and token_file is not None:
        raise SettingsError("Both a token and a token file were given; give one of them.")
    if token_file is not None:
        lines = existing_file(token_file, "token", SettingsError).read_text(encoding="utf-8").split()
        if len(lines) != 1:
            raise SettingsError(f"The token file '{token_file}' must hold one token, alone or as NAME=TOKEN.")
        name, _, rest = lines[0].partition("=")
        token = rest.strip() or name
    headers = {"user-agent": "fantasytalking"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    if client:
        headers["x-client-id"] = client
    return headers


def list_query(limit: int, after: str | None, order: str, status: str | None) -> dict[str, Any]:
    """The query of a list of jobs."""
    given = {"limit": limit, "after": after, "order": order, "status": status}
    return {key: value for key, value in given.items() if value is not None}


def verification_of(answer: httpx2.Response, video: Media) -> Verification:
    """What a server found in a video of this side.

    Raises:
        ServerError: The answer is none of this library's service.
    """
    from fantasytalking.verification import Verification

    try:
        found = Verification.from_summary(answer.json())
    except (ValueError, TypeError):
        raise _strange(answer) from None
    return found if isinstance(video, bytes) else replace(found, path=Path(video))


def error_of_answer(answer: httpx2.Response) -> FantasyTalkingError:
    """The library's error for an answer of 400 and above, whose body is read."""
    try:
        told = answer.json()["error"]
        code, message = str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        return _strange(answer)
    if answer.status_code == 401:
        return ServerError("The server needs a token, or does not know this one; give the token of a client of it.")
    return _ERRORS.get(code, ServerError)(message)


def _strange(answer: httpx2.Response) -> ServerError:
    return ServerError(
        f"The server answers {answer.status_code} and not as this library's service does; check its address."
    )


def error_of_job(job: RemoteJob) -> FantasyTalkingError:
    """The library's error for a job that did not complete."""
    if job.status == "cancelled":
        return ServerError(f"The job {job.id} was cancelled; submit it again if it is wanted.")
    error = job.values.get("error") or {}
    return _ERRORS.get(str(error.get("code")), ServerError)(str(error.get("message") or f"The job {job.id} failed."))
