"""When a request is sent again, and how a download goes on: what both clients decide alike, without any connection."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import httpx2

from fantasytalking.errors import ServerError
from fantasytalking.serving.client_protocol import error_of_answer
from fantasytalking.system.files import atomic_path

__all__ = ["Failed", "PartialDownload", "Retries"]

_AGAIN = (408, 429, 502, 503, 504)
_LONGEST_PAUSE = 60.0

Failed = httpx2.Response | httpx2.TransportError | None
"""Why a try is repeated: a refusal, whose body is read, the error of the connection, or nothing where an answer ended too early."""


@dataclass
class Retries:
    """How often and after what time a request is sent again.

    Attributes:
        server: Address of the server, for messages.
        most: Most repetitions after errors of the connection or of the server.
        patience: Seconds that may pass in all while the server says that it is busy.
    """

    server: str
    most: int
    patience: float
    tried: int = field(default=0, init=False)
    waited: float = field(default=0.0, init=False)

    def pause(self, failed: Failed) -> float:
        """Seconds to the next try.

        Args:
            failed: What happened.

        Raises:
            FantasyTalkingError: There is no further try; the error says why.
        """
        answer = failed if isinstance(failed, httpx2.Response) else None
        busy = answer is not None and answer.status_code == 429
        wait: float = min(_LONGEST_PAUSE, 0.5 * 2.0**self.tried) * random.uniform(0.7, 1.3)
        if answer is not None and (told := answer.headers.get("retry-after", "")).isdecimal():
            wait = max(wait, float(told))
        if answer is not None and answer.status_code not in _AGAIN:
            raise error_of_answer(answer)
        if (busy and self.waited + wait > self.patience) or (not busy and self.tried >= self.most):
            raise self._given_up(failed) from (failed if isinstance(failed, Exception) else None)
        self.waited += wait
        self.tried += 1
        return wait

    def went_on(self) -> None:
        """The server answered as it should: what fails next is a new failure."""
        self.tried = 0

    def _given_up(self, failed: Failed) -> Exception:
        if isinstance(failed, httpx2.Response):
            return error_of_answer(failed)
        why = f" ({type(failed).__name__})" if failed is not None else ""
        return ServerError(f"The server at {self.server} does not answer{why}; check its address and that it runs.")


class PartialDownload:
    """A file as far as it was received.

    Args:
        file: Where it is written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._tag: str | None = None

    @classmethod
    @contextlib.contextmanager
    def opened(cls, output: str | os.PathLike[str], overwrite: bool) -> Iterator[PartialDownload]:
        """Receive a file within the block; it appears at the end of the block.

        Raises:
            OutputError: The file cannot be written.
        """
        with atomic_path(output, overwrite) as temporary, temporary.open("wb") as file:
            yield cls(file)

    def headers(self) -> dict[str, str]:
        """Headers that ask for the rest."""
        done = self._file.tell()
        return {"range": f"bytes={done}-", "if-range": self._tag} if done and self._tag else {}

    def begin(self, answer: httpx2.Response) -> None:
        """Take the head of an answer, which is the rest or, where the file has changed, all of it."""
        if answer.status_code != 206:
            self._file.seek(0)
            self._file.truncate()
        self._tag = answer.headers.get("etag")

    def write(self, piece: bytes) -> None:
        """Take a piece of it."""
        self._file.write(piece)
