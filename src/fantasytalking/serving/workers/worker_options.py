"""What a worker is told when it is started, as one line of JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fantasytalking.serving.offered_models import offered_models
from fantasytalking.serving.server_settings import ServerSettings

__all__ = ["LEASE_SECONDS", "WorkerOptions"]

LEASE_SECONDS = 30.0
"""Silence after which a worker of another machine is taken for dead; one of this machine is found out at once."""


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker runs.

    Attributes:
        data: The data folder.
        database: URL of the database.
        device: Where to compute.
        models: Name of each model in the API -> its name as the library knows it.
        dtype: Type of the weights.
        memory: Memory plan.
        quantize: Storage of large layers.
        threads: CPU threads; None: as many as are of use.
        try_seconds: Longest time of a try.
        keep_seconds: How long an ended job is kept.
        video_pixels: Most pixels of a frame of footage.
        log_format: Form of the log, `text` or `json`.
        log_level: Least weight of what is logged.
    """

    data: Path
    database: str
    device: str
    models: dict[str, str]
    dtype: Any = "auto"
    memory: Any = "auto"
    quantize: Any = "none"
    threads: int | None = None
    try_seconds: float = 14400.0
    keep_seconds: float = 604800.0
    video_pixels: int = 8_847_360
    log_format: Any = "text"
    log_level: str = "info"

    @classmethod
    def of(cls, settings: ServerSettings, device: str) -> WorkerOptions:
        """The options of a server's worker on a device."""
        return cls(
            settings.data.absolute(),
            settings.database_url,
            device,
            offered_models(settings),
            settings.dtype,
            settings.memory,
            settings.quantize,
            settings.threads,
            settings.try_seconds,
            settings.retention_hours * 3600,
            settings.video_pixels,
            settings.log_format,
            settings.log_level,
        )

    def to_json(self) -> str:
        """One line; it holds the password of the database, so it is sent by a pipe and never shown."""
        return json.dumps({**dataclasses.asdict(self), "data": str(self.data)})

    @classmethod
    def from_json(cls, line: str) -> WorkerOptions:
        """The inverse of `to_json`."""
        values = json.loads(line)
        return cls(**{**values, "data": Path(values["data"])})
