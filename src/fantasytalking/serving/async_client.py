"""The client of the service for `async` code; `client.py` says what the methods do."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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

__all__ = ["AsyncClient"]


class AsyncClient:
    """`Client` with methods to be awaited; `events` is an asynchronous iterator.

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
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.server = server_address(server)
        self._limits = retries, patience
        self._http = httpx2.AsyncClient(
            base_url=self.server, headers=headers_of(token, token_file, client), timeout=timeout, transport=transport
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def generate(
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
        job = await self.submit(image, audio, video=video, model=model, profile=profile, **settings)
        try:
            job = await self.wait(job.id, on_update)
            await self.download(job.id, output, overwrite)
        except BaseException:
            with contextlib.suppress(Exception):
                await self.cancel(job.id)
            raise
        return job

    async def submit(
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
        return RemoteJob((await self._send("/v1/videos", wanted)).json())

    async def get(self, job: str) -> RemoteJob:
        """A job."""
        return RemoteJob((await self._ask("GET", f"/v1/videos/{job}")).json())

    async def list(
        self, limit: int = 20, after: str | None = None, order: str = "desc", status: str | None = None
    ) -> builtins.list[RemoteJob]:
        """Own jobs, the newest first.

        Args:
            limit: Most of them, up to 100.
            after: Begin after this job.
            order: `desc`, or `asc` for the oldest first.
            status: Only jobs in this state.
        """
        found = await self._ask("GET", "/v1/videos", params=list_query(limit, after, order, status))
        return [RemoteJob(one) for one in found.json()["data"]]

    async def events(self, job: str) -> AsyncIterator[RemoteEvent]:
        """Updates and previews of a job, up to its end; a lost connection is made again."""
        retries = self._retries()
        while True:
            lines = EventLines()
            failed: Failed = None
            try:
                async with self._http.stream("GET", f"/v1/videos/{job}/events") as answer:
                    if answer.status_code >= 400:
                        await answer.aread()
                        failed = answer
                    else:
                        async for line in answer.aiter_lines():
                            event = lines.push(line)
                            if event is not None:
                                yield event
                                retries.went_on()
                            if event is not None and event.name == "end":
                                return
            except httpx2.TransportError as error:
                failed = error
            # a stream that ended without an end: the server was stopped
            await asyncio.sleep(retries.pause(failed))

    async def wait(self, job: str, on_update: Callable[[RemoteJob], None] | None = None) -> RemoteJob:
        """Wait until a job is completed.

        Args:
            job: Its id.
            on_update: Called with the job whenever it has changed.

        Raises:
            FantasyTalkingError: It failed or was cancelled: the error that it would be without a server.
        """
        async for event in self.events(job):
            found = completed(event, on_update)
            if found is not None:
                return found
        raise ServerError(f"The server does not say how the job {job} ended; ask for it again.")

    async def download(self, job: str, output: str | os.PathLike[str], overwrite: bool = False) -> Path:
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
                    async with self._http.stream("GET", f"/v1/videos/{job}/content", headers=part.headers()) as answer:
                        if answer.status_code < 400:
                            part.begin(answer)
                            async for chunk in answer.aiter_bytes():
                                part.write(chunk)
                            break
                        await answer.aread()
                        failed: Failed = answer
                except httpx2.TransportError as error:
                    failed = error
                await asyncio.sleep(retries.pause(failed))
        return Path(output).expanduser()

    async def cancel(self, job: str) -> RemoteJob:
        """Stop a job."""
        return RemoteJob((await self._ask("POST", f"/v1/videos/{job}/cancel")).json())

    async def delete(self, job: str) -> None:
        """Delete a job and all its files on the server."""
        await self._ask("DELETE", f"/v1/videos/{job}")

    async def faces(self, image: Media) -> dict[str, Any]:
        """The faces in a picture, as the server finds them: number, box, confidence."""
        wanted = single_file("image_reference", image, "image", ImageError)
        found: dict[str, Any] = (await self._send("/v1/faces", wanted)).json()
        return found

    async def verify(self, video: Media) -> Verification:
        """Whether a video is marked as made by a model, and whether its marks hold, as `fantasytalking.verify` tells it.

        The server keeps nothing of it. What its record calls the own key is that of the server.

        Args:
            video: Any video: a path, or the content of a file.
        """
        wanted = single_file("video_reference", video, "video", VideoError)
        return verification_of(await self._send("/v1/verify", wanted), video)

    async def limits(self) -> dict[str, Any]:
        """What the server accepts."""
        found: dict[str, Any] = (await self._ask("GET", "/v1/limits")).json()
        return found

    async def models(self) -> builtins.list[dict[str, Any]]:
        """The models of the server."""
        return [dict(one) for one in (await self._ask("GET", "/v1/models")).json()["data"]]

    async def _ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return await self._answer(lambda: self._http.request(method, path, **options))

    async def _send(self, path: str, wanted: Submission) -> httpx2.Response:
        async def send() -> httpx2.Response:
            with wanted.opened() as files:
                headers = {"idempotency-key": wanted.key} if wanted.key else {}
                return await self._http.post(path, data=wanted.fields, files=files, headers=headers)

        return await self._answer(send)

    async def _answer(self, send: Callable[[], Awaitable[httpx2.Response]]) -> httpx2.Response:
        """Send until there is an answer that counts."""
        retries = self._retries()
        while True:
            try:
                answer = await send()
                if answer.status_code < 400:
                    return answer
                failed: Failed = answer
            except httpx2.TransportError as error:
                failed = error
            await asyncio.sleep(retries.pause(failed))

    def _retries(self) -> Retries:
        return Retries(self.server, *self._limits)
