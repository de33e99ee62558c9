"""Choices of an evaluation, and what can be checked of them before any framework is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fantasytalking.errors import OutputError, SettingsError
from fantasytalking.evaluation.metrics.registry import ALL, METRICS, Backend, check_metrics
from fantasytalking.evaluation.networks.metric_weights import require
from fantasytalking.evaluation.pairing import SHUFFLED, STILL, pair_clips
from fantasytalking.evaluation.protocol import PROTOCOLS, Protocol
from fantasytalking.system.records import nearest_name

__all__ = ["BASELINES", "EvaluationOptions", "check_folders", "check_weights"]

BASELINES = {"still": STILL, "shuffled": SHUFFLED}


@dataclass(frozen=True)
class EvaluationOptions:
    """Choices of an evaluation.

    Attributes:
        protocol: See `protocol.Protocol`.
        metrics: Keys of `registry.METRICS`.
        backend: `auto` takes the standard network where its weights are installed and a labelled proxy elsewhere.
        baselines: `still`: the real clip's first frame, repeated; `shuffled`: the real clips with one another's sound.
        workers: Number of processes; None takes one per core, at most 8, and one on an accelerator.
        device: Device of the standard networks, `auto` or a torch device.
        command: The command, for the record.
        media: Whether the page contains the best and worst clips.

    Raises:
        SettingsError: A metric or baseline is unknown, or the number of workers is below 1.
    """

    protocol: Protocol = PROTOCOLS["standard"]
    metrics: tuple[str, ...] = ALL
    backend: Backend = "auto"
    baselines: tuple[str, ...] = ("still", "shuffled")
    workers: int | None = None
    device: str = "auto"
    command: str = ""
    media: bool = True

    def __post_init__(self) -> None:
        check_metrics(self.metrics)
        for name in self.baselines:
            if name not in BASELINES:
                raise SettingsError(
                    f"There is no baseline '{name}'; {nearest_name(name, BASELINES, 'baselines')} Or give none."
                )
        if self.workers is not None and self.workers < 1:
            raise SettingsError(f"workers must be at least 1, but {self.workers} was given.")


def check_folders(methods: Mapping[str, Path], reference: Path, output: Path) -> None:
    """Check the folders of an evaluation: they hold videos of the same names, and the report is not written among them.

    Raises:
        InputError: A folder does not exist, cannot be read or holds no video, two of its videos have one name, or none has that of a real
            clip.
        OutputError: The output is a file, cannot be written, or is a folder of clips or within one.
    """
    folders = {"reference": [reference], "generated": list(methods.values())}
    if output.exists() and not output.is_dir():
        raise OutputError(f"The output '{output}' is a file; give the name of a folder.")
    for kind, clips in folders.items():
        for folder in clips:
            # A report among the clips would be evaluated with them next time.
            if folder.is_dir() and output.resolve().is_relative_to(folder.resolve()):
                raise OutputError(
                    f"The report would be written among the {kind} clips in '{folder}'; give another --output."
                )
    pair_clips(methods, reference)
    _check_writable(output)


def check_weights(metrics: Sequence[str]) -> None:
    """Check that the weights of the standard implementations are in the cache, without loading them.

    Raises:
        CheckpointError: Some are not, or differ from the listed ones.
    """
    for name in metrics:
        for key in METRICS[name].weights:
            require(key)


def _check_writable(output: Path) -> None:
    place = next(folder for folder in (output, *output.parents) if folder.exists())
    if not place.is_dir():
        raise OutputError(
            f"The report folder '{output}' cannot be made, as '{place}' is a file; give another --output."
        )
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(
            f"The report folder '{output}' cannot be written ('{place}' is read-only); give another --output."
        )
