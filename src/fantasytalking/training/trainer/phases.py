"""Record of the phases of a run: a line in ``phases.jsonl`` of its folder when a phase begins, for people and for programs."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from fantasytalking.system.files import remove_unfinished
from fantasytalking.system.json import append_json_line

__all__ = ["PHASES", "begin_phase"]

PHASES = "phases.jsonl"
"""File name in the output folder of a run."""


def begin_phase(output: Path, name: str, first: bool = False) -> None:
    """Note that a phase of a run begins; a resumed run goes through all phases again, and skips what is done.

    With the first phase, half-written files of an earlier start that was killed are deleted.

    Only the main process of a distributed run writes.

    Args:
        output: Output folder of the run.
        name: Name of the phase.
        first: Whether it is the first one of this start.

    Raises:
        OutputError: The line cannot be written.
    """
    if int(os.environ.get("RANK", "0")) == 0:
        if first:
            remove_unfinished(output)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        append_json_line(output / PHASES, {"time": now, "phase": name})
