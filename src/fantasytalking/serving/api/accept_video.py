"""From a request to an accepted job: files stored, everything checked that can be, the job in the database."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from fantasytalking.errors import SettingsError
from fantasytalking.serving.api.api_errors import ApiError
from fantasytalking.serving.api.input_checks import check_file, check_job_inputs
from fantasytalking.serving.api.settings_schema import check_names, parsed_settings
from fantasytalking.serving.api.video_request import FIELDS, PROFILES, VideoRequest, read_video_request
from fantasytalking.serving.jobs.job_errors import without_paths
from fantasytalking.serving.jobs.job_files import FOOTAGE, IMAGE, JobFiles, new_job_id
from fantasytalking.serving.jobs.job_records import Job, JobInputs, Mode, NewJob
from fantasytalking.serving.jobs.job_store import JobStore, QueueFull
from fantasytalking.serving.offered_models import default_settings, model_named
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.records import nearest_name

__all__ = ["Sender", "VideoDesk"]


@dataclass(frozen=True)
class Sender:
    """Who sends a request.

    Attributes:
        client: Name of the client.
        request_id: Of the request.
        idempotency_key: Of the request, or None.
    """

    client: str
    request_id: str
    idempotency_key: str | None = None


class VideoDesk:
    """Accepts jobs.

    Args:
        settings: Of the server.
        store: The jobs.
        files: Their files.

    Attributes:
        heavy: Lets only so many threads decode, look for faces or speak: requests that wait for their turn hold no thread, so that all
            others go on.
    """

    def __init__(self, settings: ServerSettings, store: JobStore, files: JobFiles) -> None:
        self._settings, self._store, self._files = settings, store, files
        self.heavy = CapacityLimiter(settings.checks_at_once)

    async def receive(self, request: Request, sender: Sender) -> tuple[Job, bool]:
        """Store and check what a request sends, and queue it.

        Returns:
            The job, and whether it is new; it is not where the idempotency key was used before.

        Raises:
            FantasyTalkingError: A file or a setting cannot be used.
            ApiError: Too large, or no room in the queue.
        """
        job = new_job_id()
        folder = self._files.folder(job)
        folder.mkdir()
        begun = False

        def accept(read: VideoRequest) -> tuple[Job, bool]:
            nonlocal begun
            begun, accepted = True, None
            try:
                accepted = self._accept(job, read, sender)
                return accepted
            finally:
                if accepted is None or not accepted[1]:
                    self._files.delete(job)

        try:
            # Before a client sends its files in vain.
            await run_in_threadpool(self._check_room, sender)
            read = await read_video_request(request, self._settings, folder)
            return await to_thread.run_sync(accept, read, limiter=self.heavy)
        except BaseException:
            # A thread goes on where its request is given up, and may have accepted the job: it alone knows what becomes of the files.
            if not begun:
                self._files.delete(job)
            raise

    def _accept(self, job: str, request: VideoRequest, sender: Sender) -> tuple[Job, bool]:
        check_names(request.fields, FIELDS)
        model, known_model = model_named(self._settings, request.model)
        given = parsed_settings(request.fields, default_settings(self._settings, request.model))
        mode, faces = _mode(request), _faces(request)
        if faces and given.get("face") is not None:
            raise SettingsError("audio_face says which faces speak; leave out face.")
        self._check_prompts(given)
        if request.profile not in PROFILES:
            raise SettingsError(
                f"There is no profile {request.profile!r}; {nearest_name(request.profile, PROFILES, 'profiles')}"
            )
        folder = self._files.folder(job)
        fingerprint = _fingerprint(request, (model, request.profile, sorted(given.items()), faces))
        earlier = self._earlier(sender, fingerprint)
        if earlier is not None:
            return earlier, False
        inputs, found = self._check_files(request, mode, faces, folder)
        settings, notes = check_job_inputs(mode, folder, inputs, known_model, given, self._settings)
        told = dict.fromkeys((*found, *(without_paths(note, folder) for note in notes)))
        new = NewJob(
            job,
            sender.client,
            mode,
            model,
            request.profile,
            given,
            settings,
            inputs,
            tuple(told),
            sender.request_id,
            sender.idempotency_key,
            fingerprint,
        )
        return self._add(new)

    def _check_prompts(self, given: Mapping[str, Any]) -> None:
        most = self._settings.prompt_characters
        for name in ("prompt", "negative_prompt"):
            if len(given.get(name, "")) > most:
                raise ApiError(422, "settings_error", f"{name} has more than {most} characters; shorten it.", name)

    def _check_files(
        self, request: VideoRequest, mode: Mode, faces: tuple[int, ...], folder: Path
    ) -> tuple[JobInputs, list[str]]:
        """Give the files their names, and decode each in a process of its own."""
        speeches = request.files["audio_reference"]
        if len(speeches) > self._settings.speakers:
            raise _wrong(
                f"{len(speeches)} speeches were given, and at most {self._settings.speakers} are accepted.",
                "audio_reference",
            )
        dubs = mode == Mode.FOOTAGE
        field = "video_reference" if dubs else "image_reference"
        picture = folder / (FOOTAGE if dubs else IMAGE)
        os.replace(request.files[field][0], picture)
        notes = list(check_file(picture, "video" if dubs else "image", field, self._settings).notes)
        names = [f"audio-{number}" for number in range(len(speeches))]
        for name, path in zip(names, speeches, strict=True):
            os.replace(path, folder / name)
            notes += check_file(folder / name, "audio", "audio_reference", self._settings).notes
        for path in (picture, *(folder / name for name in names), folder):
            _to_disk(path)
        return JobInputs(picture.name, tuple(names), faces), notes

    def _earlier(self, sender: Sender, fingerprint: str) -> Job | None:
        if sender.idempotency_key is None:
            return None
        job = self._store.by_key(sender.client, sender.idempotency_key)
        return None if job is None else _same(job, fingerprint)

    def _check_room(self, sender: Sender) -> None:
        """Refuse before anything is read; the queue counts once more when the job is added."""
        if sender.idempotency_key is not None and self._store.by_key(sender.client, sender.idempotency_key) is not None:
            return
        free = shutil.disk_usage(self._settings.data).free
        if free < self._settings.disk_free_bytes:
            raise ApiError(
                507,
                "storage_error",
                "The server's disk is almost full; try again later, or delete videos that are not needed.",
            )
        try:
            self._store.check_room(sender.client, self._settings.queued_jobs, self._settings.queued_jobs_per_client)
        except QueueFull as full:
            raise self._no_room(full) from None

    def _add(self, new: NewJob) -> tuple[Job, bool]:
        try:
            job, is_new = self._store.add(new, self._settings.queued_jobs, self._settings.queued_jobs_per_client)
        except QueueFull as full:
            raise self._no_room(full) from None
        return (job, True) if is_new else (_same(job, new.fingerprint), False)

    def _no_room(self, full: QueueFull) -> ApiError:
        places = max(1, len(self._settings.devices) * self._settings.workers)
        wait = min(600, max(1, round((self._store.usual_seconds() or 10.0) / places)))
        if full.of_client:
            text = f"You have {self._settings.queued_jobs_per_client} jobs that wait or run, the most that one client may have"
        else:
            text = f"The server has {full.ahead} jobs that wait or run, the most that it takes"
        return ApiError(429, "queue_full", f"{text}; try again in {wait} s.", headers={"Retry-After": str(wait)})


def _mode(request: VideoRequest) -> Mode:
    image, video, audio = (
        request.files.get(name, []) for name in ("image_reference", "video_reference", "audio_reference")
    )
    if image and video:
        raise _wrong(
            "Both image_reference and video_reference were given; give the portrait or the footage.", "video_reference"
        )
    if not image and not video:
        raise _wrong(
            "image_reference is missing; give the portrait, or in its place video_reference, footage to dub.",
            "image_reference",
        )
    if len(image) > 1 or len(video) > 1:
        raise _wrong("Several pictures were given; give one.", "image_reference")
    if not audio:
        raise _wrong("audio_reference is missing; give the speech.", "audio_reference")
    if video:
        return Mode.FOOTAGE
    return Mode.SPEAKERS if request.faces or len(audio) > 1 else Mode.PORTRAIT


def _faces(request: VideoRequest) -> tuple[int, ...]:
    audio = request.files["audio_reference"]
    if not request.faces and len(audio) == 1:
        return ()
    try:
        faces = tuple(int(str(face)) for face in request.faces)
    except ValueError:
        raise _wrong("audio_face must be the number of a face, counted from 0 by size.", "audio_face") from None
    if len(faces) != len(audio) or len(set(faces)) < len(faces) or min(faces) < 0:
        raise _wrong(
            f"{len(audio)} speeches need as many different audio_face, the number of the face of each, but {list(faces)} was given.",
            "audio_face",
        )
    return faces


def _wrong(message: str, param: str) -> ApiError:
    return ApiError(422, "input_error", message, param)


def _same(job: Job, fingerprint: str) -> Job:
    if job.fingerprint != fingerprint:
        raise ApiError(
            422,
            "idempotency_key_reused",
            "This Idempotency-Key was sent before with other files or settings; send a new one.",
        )
    return job


def _fingerprint(request: VideoRequest, rest: object) -> str:
    """Digest of everything that was asked for."""
    digest = hashlib.sha256(repr(rest).encode())
    for field in sorted(request.files):
        for path in request.files[field]:
            digest.update(field.encode() + file_sha256(path).encode())
    return digest.hexdigest()


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
