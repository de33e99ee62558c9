"""Logs of a server: one line an event, as text or as JSON, with the id of the request, and without what users sent.

A line has names of our own (events, states, ids of jobs and requests, kinds of errors) and numbers. Of an error that nobody expected it
has the kind and the places in the code, but not its message, which may quote a prompt, a file or an address.
"""

from __future__ import annotations

import contextvars
import json
import logging
import sys
import time
import traceback
from typing import Any, Literal, TextIO

__all__ = ["REQUEST_ID", "configure_logs", "log_event"]

REQUEST_ID: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
"""Id of the request that is being answered."""

_FACTS = "facts"


def configure_logs(form: Literal["text", "json"], level: str, out: TextIO | None = None) -> None:
    """Let every logger of this process write in one form.

    Args:
        form: Of the lines.
        level: Least weight of what is written, such as `info`.
        out: Where to; None: standard error.
    """
    handler = logging.StreamHandler(sys.stderr if out is None else out)
    handler.setFormatter(_JsonLines() if form == "json" else _TextLines())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    # libraries tell addresses and statements at these levels
    root.setLevel(logging.WARNING)
    for name in ("fantasytalking", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
        logging.getLogger(name).propagate = True
        logging.getLogger(name).handlers.clear()


def log_event(logger: logging.Logger, event: str, level: int = logging.INFO, **facts: str | int | float | None) -> None:
    """Log an event with facts of its own, which are fields of a JSON line.

    Args:
        logger: Who tells.
        event: A word or two of our own.
        level: Weight.
        facts: Names of our own, with numbers, ids and states.
    """
    logger.log(level, event, extra={_FACTS: facts})


def _facts_of(record: logging.LogRecord) -> dict[str, Any]:
    facts = {"request_id": REQUEST_ID.get(), **getattr(record, _FACTS, {})}
    if record.exc_info and record.exc_info[0] is not None:
        kind, _, trace = record.exc_info
        frames = traceback.extract_tb(trace)
        facts["error"] = kind.__name__
        facts["trace"] = " < ".join(
            f"{_module(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames)
        )
    return {name: value for name, value in facts.items() if value is not None}


def _module(file: str) -> str:
    """The end of a path, which names the module and not the machine's folders."""
    return "/".join(file.replace("\\", "/").split("/")[-2:])


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_facts_of(record),
        }
        return json.dumps(line, ensure_ascii=False, default=str)


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{name}={value}" for name, value in _facts_of(record).items())
        # a line is an event: whatever is told, it cannot begin another one
        event = record.getMessage().replace("\n", " ").replace("\r", " ")
        return f"{_time(record)} {record.levelname.lower():7} {event}{' ' if facts else ''}{facts}"


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
