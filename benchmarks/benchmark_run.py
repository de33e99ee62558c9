"""The run of a benchmark: command-line options, generation, arithmetic, and the record of results."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from clips import FPS
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.media.audio import Audio
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.talking_video import TalkingVideo
from fantasytalking.system.machine import machine
from fantasytalking.system.processes import set_threads


def mean_and_error(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and its standard error; None in place of either where there are too few values."""
    array = np.asarray(values, np.float64)
    mean = float(array.mean()) if len(array) else None
    return mean, float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else None


def rises(values: Sequence[float]) -> bool:
    """Whether each value is larger than the one before it."""
    return all(b > a for a, b in itertools.pairwise(values))


class Quiet(Progress):
    """Progress that shows nothing; notes and times are in the result."""

    def show_note(self, text: str) -> None:
        """Show nothing, as notes are in the result."""


def make_video(
    pipeline: FantasyTalkingPipeline, picture: NDArray[np.uint8], speech: Audio, **settings: Any
) -> TalkingVideo:
    """Generate one video at `FPS`, without progress bars."""
    return pipeline(picture, speech, progress=Quiet(), fps=FPS, **settings)


def generation_settings(pipeline: FantasyTalkingPipeline, **settings: Any) -> dict[str, Any]:
    """Complete settings of a generation for the record, without the prompts if the model has no text encoder."""
    record = pipeline.settings(fps=FPS, **settings).to_dict()
    unread = () if pipeline.text_encoder is not None else ("prompt", "negative_prompt")
    return {name: value for name, value in record.items() if name not in unread}


def say(text: str) -> None:
    """Print progress on stderr, as stdout is for the table and the record."""
    print(text, file=sys.stderr, flush=True)


def option_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the options that all benchmarks share."""
    first_line = (description or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=first_line, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="embedded", help="embedded, or a model folder")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with catalogue.jsonl")
    parser.add_argument("--limit", type=int, help="maximum number of clips or portraits, for a quick try")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    parser.add_argument("--json", type=Path, help="also write the record to this file")
    return parser


def load_model(
    options: argparse.Namespace, kind: type[FantasyTalkingPipeline] = FantasyTalkingPipeline
) -> FantasyTalkingPipeline:
    """Load the pipeline that the options name, as an instance of a given class, and set the number of threads."""
    set_threads(options.threads)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    return kind.from_pretrained(options.model)


def weights_hash(model: str) -> str | None:
    """First 12 digits of the SHA-256 of a folder's safetensors files, so that figures name the weights they belong to."""
    folder = resolve_model(model)
    if not isinstance(folder, Path):
        return None
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        total.update(file.read_bytes())
    return total.hexdigest()[:12]


@dataclass
class Record:
    """The record of a run: how it was run, and its results.

    Attributes:
        benchmark: Name of the script.
        options: Options of the command line.
        settings: Settings that all generations of the run share.
        left_out: Reason why a clip or portrait could not be used, by name.
        results: Measured figures, as JSON values.
        machine: Description of the machine.
        started: Time of the start in seconds, from `time.monotonic`.
    """

    benchmark: str
    options: argparse.Namespace
    settings: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=machine)
    started: float = field(default_factory=time.monotonic)

    def leave_out(self, name: str, error: FantasyTalkingError) -> None:
        """Record that a clip or portrait could not be used, and why."""
        self.left_out[name] = str(error)
        say(f"left out {name}: {error}")

    def finish(self) -> None:
        """Print the record as the last line, and write it to the file of --json."""
        record = {
            "benchmark": self.benchmark,
            "command": shlex.join(["python", *sys.argv]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "minutes": round((time.monotonic() - self.started) / 60, 1),
            "machine": self.machine,
            "threads": self.options.threads,
            "seed": self.options.seed,
            "model": self.options.model,
            "weights_sha256": weights_hash(self.options.model),
            "settings": self.settings,
            "left_out": self.left_out,
            **self.results,
        }
        text = json.dumps(plain(record))
        if self.options.json is not None:
            self.options.json.parent.mkdir(parents=True, exist_ok=True)
            self.options.json.write_text(json.dumps(plain(record), indent=1) + "\n")
        print(text)


def plain(value: Any) -> Any:
    """Convert values for JSON: dataclasses and mappings to dicts, arrays to lists, floats to five significant digits."""
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.5g}")
    if isinstance(value, np.integer):
        return int(value)
    return value if isinstance(value, str | int | bool | None) else str(value)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format a Markdown table, with three decimals for floats and a dash for None."""

    def cell(value: Any) -> str:
        if value is None:
            return "-"
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = [list(header), ["---"] * len(header), *([cell(v) for v in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
