"""From a request to an accepted job: files stored, everything checked that can be, the job in the database."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.early_inputs import read_demands
from fantasytalking.pipeline.face_in_footage import open_footage
from fantasytalking.pipeline.footage_inputs import load_footage_speech
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.progress import QuietProgress
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.serving.api.api_errors import ApiError
from fantasytalking.serving.api.settings_schema import check_names, parsed_settings
from fantasytalking.serving.api.video_request import FIELDS, PROFILES, VideoRequest
from fantasytalking.serving.jobs.job_errors import without_paths
from fantasytalking.serving.jobs.job_files import FOOTAGE, IMAGE, JobFiles, new_job_id
from fantasytalking.serving.jobs.job_records import Job, JobInputs, Mode, NewJob
from fantasytalking.serving.jobs.job_store import JobStore, QueueFull
from fantasytalking.serving.jobs.read_inputs import read_job_inputs
from fantasytalking.serving.offered_models import model_named
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.system.records import nearest_name

__all__ = ["Sender", "VideoDesk", "check_job_inputs", "copy_upload"]

_PIECE = 1024 * 1024


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
    """

    def __init__(self, settings: ServerSettings, store: JobStore, files: JobFiles) -> None:
        self._settings, self._store, self._files = settings, store, files

    def accept(self, request: VideoRequest, sender: Sender) -> tuple[Job, bool]:
        """Store and check what a request sends, and queue it.

        Returns:
            The job, and whether it is new; it is not where the idempotency key was used before.

        Raises:
            FantasyTalkingError: A file or a setting cannot be used.
            ApiError: Too large, or no room in the queue.
        """
        check_names(request.fields, FIELDS)
        given = parsed_settings(request.fields)
        mode, faces = _mode(request), _faces(request)
        if faces and given.get("face") is not None:
            raise SettingsError("audio_face says which faces speak; leave out face.")
        model, known_model = model_named(self._settings, request.model)
        if request.profile not in PROFILES:
            raise SettingsError(
                f"There is no profile {request.profile!r}; {nearest_name(request.profile, PROFILES, 'profiles')}"
            )
        job = new_job_id()
        folder = self._files.folder(job)
        folder.mkdir()
        try:
            inputs, digest = self._store_files(request, mode, faces, folder)
            digest.update(repr((model, request.profile, sorted(given.items()), faces)).encode())
            earlier = self._earlier(sender, digest.hexdigest())
            if earlier is not None:
                self._files.delete(job)
                return earlier, False
            self._check_room(sender.client)
            settings, notes = check_job_inputs(mode, folder, inputs, known_model, given, self._settings)
            new = NewJob(
                job,
                sender.client,
                mode,
                model,
                request.profile,
                given,
                settings,
                inputs,
                tuple(without_paths(note, folder) for note in notes),
                sender.request_id,
                sender.idempotency_key,
                digest.hexdigest(),
            )
            accepted, is_new = self._add(new)
        except BaseException:
            self._files.delete(job)
            raise
        if not is_new:
            self._files.delete(job)
        return accepted, is_new

    def _store_files(
        self, request: VideoRequest, mode: Mode, faces: tuple[int, ...], folder: Path
    ) -> tuple[JobInputs, Any]:
        limits, digest = self._settings, hashlib.sha256()
        picture = FOOTAGE if mode == Mode.FOOTAGE else IMAGE
        field, most = (
            ("video_reference", limits.video_bytes) if picture == FOOTAGE else ("image_reference", limits.image_bytes)
        )
        copy_upload(request.files[field][0], folder / picture, most, field, digest)
        names = []
        for number, file in enumerate(request.files["audio_reference"]):
            names.append(f"audio-{number}")
            copy_upload(file, folder / names[-1], limits.audio_bytes, "audio_reference", digest)
        _folder_to_disk(folder)
        return JobInputs(picture, tuple(names), faces), digest

    def _earlier(self, sender: Sender, fingerprint: str) -> Job | None:
        if sender.idempotency_key is None:
            return None
        job = self._store.by_key(sender.client, sender.idempotency_key)
        return None if job is None else _same(job, fingerprint)

    def _check_room(self, client: str) -> None:
        """Refuse before the work of checking; the queue counts once more when the job is added."""
        try:
            self._store.check_room(client, self._settings.queued_jobs, self._settings.queued_jobs_per_client)
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


def _too_long(what: str, seconds: float, most: float, param: str) -> ApiError:
    return ApiError(
        413, "too_long", f"The {what} is {seconds:.1f} s long; this server takes at most {most:g} s.", param
    )


def _same(job: Job, fingerprint: str) -> Job:
    if job.fingerprint != fingerprint:
        raise ApiError(
            422,
            "idempotency_key_reused",
            "This Idempotency-Key was sent before with other files or settings; send a new one.",
        )
    return job


def copy_upload(source: BinaryIO, target: Path, most: int, field: str, digest: Any = None) -> None:
    """Store an uploaded file.

    Args:
        source: What was sent.
        target: The new file.
        most: Most bytes.
        field: Field of the request, for messages.
        digest: Is fed what the file holds.

    Raises:
        ApiError: It is larger, or empty.
    """
    digest = hashlib.sha256() if digest is None else digest
    size = 0
    with target.open("xb") as file:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > most:
                raise ApiError(
                    413, "too_large", f"{field} is larger than {most} bytes, the most that this server takes.", field
                )
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    digest.update(f"{field} {size}".encode())
    if size == 0:
        raise _wrong(f"{field} is empty (0 bytes); give a complete file.", field)


def _folder_to_disk(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
