"""The events of a job, as both clients read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fantasytalking.serving.client_protocol import RemoteJob, error_of_job

__all__ = ["EventLines", "RemoteEvent", "completed"]


@dataclass(frozen=True)
class RemoteEvent:
    """An event of a job.

    Attributes:
        name: `update`, `preview` or `end`.
        data: The job, or for a preview its number and a JPEG in base64.
    """

    name: str
    data: Mapping[str, Any]

    @property
    def job(self) -> RemoteJob | None:
        """The job, where the event tells it."""
        return None if self.name == "preview" else RemoteJob(self.data)


class EventLines:
    """Lines of server-sent events, one after the other."""

    def __init__(self) -> None:
        self._name, self._data = "message", [""][:0]

    def push(self, line: str) -> RemoteEvent | None:
        """Take a line without its end; gives the event that it completes."""
        if not line:
            name, data = self._name, "\n".join(self._data)
            self._name, self._data = "message", []
            return RemoteEvent(name, json.loads(data)) if data else None
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "event":
            self._name = value
        elif key == "data":
            self._data.append(value)
        return None


def completed(event: RemoteEvent, on_update: Callable[[RemoteJob], None] | None) -> RemoteJob | None:
    """Tell whoever waits for a job of an event.

    Returns:
        The job, once it is completed.

    Raises:
        FantasyTalkingError: It failed or was cancelled.
    """
    job = event.job
    if job is None:
        return None
    if on_update is not None:
        on_update(job)
    if job.is_ended and job.status != "completed":
        raise error_of_job(job)
    return job if job.is_ended else None
