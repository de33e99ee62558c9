"""A client of the service.

```python
with Client("http://127.0.0.1:8000") as client:
    client.generate("portrait.jpg", "speech.wav", "video.mp4")
```
"""

from __future__ import annotations

import builtins
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx2

from fantasytalking.errors import ImageError, ServerError, VideoError
from fantasytalking.media.video_formats import ENDINGS
from fantasytalking.serving.client_attempts import Failed, PartialDownload, Retries
from fantasytalking.serving.client_events import EventLines, RemoteEvent, completed
from fantasytalking.serving.client_protocol import (
    Media,
    RemoteJob,
    Submission,
    headers_of,
    list_query,
    server_address,
    single_file,
    submission,
    verification_of,
)
from fantasytalking.system.files import check_output

if TYPE_CHECKING:
    from fantasytalking.verification import Verification

__all__ = ["Client"]


class Client:
    """Sends jobs to a service, follows them, and fetches their videos; `AsyncClient` is the same for `async` code.

    Requests are repeated after errors of the connection, and a submission has an idempotency key, so that it makes one job however often it
    is sent. Errors are those of the library: a bad portrait is an `ImageError` here as it is without a server.

    Args:
        server: Address of the service.
        token: Access token, where the server has tokens.
        token_file: File with it.
        client: Name of this client, for a server without tokens.
        timeout: Longest silence of the server in seconds.
        retries: Most repetitions of a request.
        patience: Seconds to wait in all while the server says that it has no room.
        transport: Of httpx, for tests and proxies.
    """

    def __init__(
        self,
        server: str = "http://127.0.0.1:8000",
        token: str | None = None,
        *,
        token_file: Path | None = None,
        client: str | None = None,
        timeout: float = 120.0,
        retries: int = 5,
        patience: float = 3600.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.server = server_address(server)
        self._limits = retries, patience
        self._http = httpx2.Client(
            base_url=self.server, headers=headers_of(token, token_file, client), timeout=timeout, transport=transport
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def generate(
        self,
        image: Media | None,
        audio: Media | Mapping[int, Media],
        output: str | os.PathLike[str],
        *,
        video: Media | None = None,
        model: str | None = None,
        profile: str | None = None,
        overwrite: bool = False,
        on_update: Callable[[RemoteJob], None] | None = None,
        **settings: Any,
    ) -> RemoteJob:
        """Make a video on the server and fetch it; the arguments are those of `submit`, `wait` and `download`.

        Where it ends early, by Ctrl-C for example, the job is cancelled.
        """
        check_output(output, overwrite, ENDINGS)
        job = self.submit(image, audio, video=video, model=model, profile=profile, **settings)
        try:
            job = self.wait(job.id, on_update)
            self.download(job.id, output, overwrite)
        except BaseException:
            with contextlib.suppress(Exception):
                self.cancel(job.id)
            raise
        return job

    def submit(
        self,
        image: Media | None,
        audio: Media | Mapping[int, Media],
        *,
        video: Media | None = None,
        model: str | None = None,
        profile: str | None = None,
        idempotency_key: str | None = None,
        **settings: Any,
    ) -> RemoteJob:
        """Send a job.

        Args:
            image: The portrait: a path, or the content of a file.
            audio: The speech, or one for each face by its number.
            video: Footage to dub, in place of the portrait.
            model: Name of a model of the server; None: its default.
            profile: How exact and how fast: exact, balanced, fast or turbo.
            idempotency_key: Of this job; None: a new one.
            settings: Settings by name, see `GenerationSettings`.

        Returns:
            The accepted job.

        Raises:
            FantasyTalkingError: Something cannot be used, or the server takes no job.
        """
        wanted = submission(image, audio, video, model, profile, idempotency_key, settings)
        return RemoteJob(self._send("/v1/videos", wanted).json())

    def get(self, job: str) -> RemoteJob:
        """A job."""
        return RemoteJob(self._ask("GET", f"/v1/videos/{job}").json())

    def list(
        self, limit: int = 20, after: str | None = None, order: str = "desc", status: str | None = None
    ) -> builtins.list[RemoteJob]:
        """Own jobs, the newest first.

        Args:
            limit: Most of them, up to 100.
            after: Begin after this job.
            order: `desc`, or `asc` for the oldest first.
            status: Only jobs in this state.
        """
        found = self._ask("GET", "/v1/videos", params=list_query(limit, after, order, status))
        return [RemoteJob(one) for one in found.json()["data"]]

    def events(self, job: str) -> Iterator[RemoteEvent]:
        """Updates and previews of a job, up to its end; a lost connection is made again."""
        retries = self._retries()
        while True:
            lines = EventLines()
            failed: Failed = None
            try:
                with self._http.stream("GET", f"/v1/videos/{job}/events") as answer:
                    if answer.status_code >= 400:
                        answer.read()
                        failed = answer
                    else:
                        for line in answer.iter_lines():
                            event = lines.push(line)
                            if event is not None:
                                yield event
                                retries.went_on()
                            if event is not None and event.name == "end":
                                return
            except httpx2.TransportError as error:
                failed = error
            # a stream that ended without an end: the server was stopped
            time.sleep(retries.pause(failed))

    def wait(self, job: str, on_update: Callable[[RemoteJob], None] | None = None) -> RemoteJob:
        """Wait until a job is completed.

        Args:
            job: Its id.
            on_update: Called with the job whenever it has changed.

        Raises:
            FantasyTalkingError: It failed or was cancelled: the error that it would be without a server.
        """
        for event in self.events(job):
            found = completed(event, on_update)
            if found is not None:
                return found
        raise ServerError(f"The server does not say how the job {job} ended; ask for it again.")

    def download(self, job: str, output: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Fetch the video of a completed job; the file appears when it is complete.

        Args:
            job: Its id.
            output: The file to write.
            overwrite: Whether an existing file may be replaced.

        Raises:
            OutputError: The file cannot be written.
            ServerError: The server cannot be reached, or has no video.
        """
        retries = self._retries()
        with PartialDownload.opened(output, overwrite) as part:
            while True:
                try:
                    with self._http.stream("GET", f"/v1/videos/{job}/content", headers=part.headers()) as answer:
                        if answer.status_code < 400:
                            part.begin(answer)
                            for chunk in answer.iter_bytes():
                                part.write(chunk)
                            break
                        answer.read()
                        failed: Failed = answer
                except httpx2.TransportError as error:
                    failed = error
                time.sleep(retries.pause(failed))
        return Path(output).expanduser()

    def cancel(self, job: str) -> RemoteJob:
        """Stop a job."""
        return RemoteJob(self._ask("POST", f"/v1/videos/{job}/cancel").json())

    def delete(self, job: str) -> None:
        """Delete a job and all its files on the server."""
        self._ask("DELETE", f"/v1/videos/{job}")

    def faces(self, image: Media) -> dict[str, Any]:
        """The faces in a picture, as the server finds them: number, box, confidence."""
        wanted = single_file("image_reference", image, "image", ImageError)
        found: dict[str, Any] = self._send("/v1/faces", wanted).json()
        return found

    def verify(self, video: Media) -> Verification:
        """Whether a video is marked as made by a model, and whether its marks hold, as `fantasytalking.verify` tells it.

        The server keeps nothing of it. What its record calls the own key is that of the server.

        Args:
            video: Any video: a path, or the content of a file.
        """
        wanted = single_file("video_reference", video, "video", VideoError)
        return verification_of(self._send("/v1/verify", wanted), video)

    def limits(self) -> dict[str, Any]:
        """What the server accepts."""
        found: dict[str, Any] = self._ask("GET", "/v1/limits").json()
        return found

    def models(self) -> builtins.list[dict[str, Any]]:
        """The models of the server."""
        return [dict(one) for one in self._ask("GET", "/v1/models").json()["data"]]

    def _ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self._answer(lambda: self._http.request(method, path, **options))

    def _send(self, path: str, wanted: Submission) -> httpx2.Response:
        def send() -> httpx2.Response:
            with wanted.opened() as files:
                headers = {"idempotency-key": wanted.key} if wanted.key else {}
                return self._http.post(path, data=wanted.fields, files=files, headers=headers)

        return self._answer(send)

    def _answer(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        """Send until there is an answer that counts."""
        retries = self._retries()
        while True:
            try:
                answer = send()
                if answer.status_code < 400:
                    return answer
                failed: Failed = answer
            except httpx2.TransportError as error:
                failed = error
            time.sleep(retries.pause(failed))

    def _retries(self) -> Retries:
        return Retries(self.server, *self._limits)
