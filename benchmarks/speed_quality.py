"""Lip sync and likeness of the videos of `speed.py`, by the project's evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from benchmark_run import Quiet
from clips import FPS
from speed_cells import Cell

from fantasytalking.evaluation.evaluate import EvaluationOptions, evaluate
from fantasytalking.evaluation.results import Method
from fantasytalking.media.audio import load_audio
from fantasytalking.media.image import load_image
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.system.json import write_json

METRICS = ("sync", "csim")


def measure_quality(cells: Iterable[Cell], output: Path) -> None:
    """Measure the videos of the first shape and write `quality.json`: cell -> figures.

    Their reference is the portrait, still, with the same speech: likeness is that to the portrait.

    Args:
        cells: Cells of the embedded model, which have been measured.
        output: Folder of the results.
    """
    cells = list(cells)
    videos = {cell.key: output / "work" / "videos" / cell.key for cell in cells if cell.shape == cells[0].shape}
    videos = {key: folder for key, folder in videos.items() if (folder / "example.mp4").is_file()}
    if not videos:
        return
    reference = output / "work" / "portrait"
    _write_still(reference / "example.mp4", cells[0].shape.frames)
    options = EvaluationOptions(metrics=METRICS, baselines=(), workers=1, device="cpu", media=False)
    report = evaluate(videos, reference, output / "work" / "evaluation", options, Quiet())
    labels = {column.key: column.label for column in report.columns}
    write_json(
        output / "quality.json", {"labels": labels, "cells": {m.name: _values(m) for m in report.methods}}, indent=1
    )


def _write_still(target: Path, frames: int) -> None:
    """Write a video of the portrait that stands still, with its speech."""
    example = embedded_folder() / "example"
    picture = load_image(example / "portrait.png")
    target.parent.mkdir(parents=True, exist_ok=True)
    speech = load_audio(example / "speech.wav", 48000, seconds=frames / FPS)
    write_video(target, np.repeat(picture[None], frames, 0), FPS, speech, overwrite=True)


def _values(method: Method) -> dict[str, float | None]:
    return {key: summary.value for key, summary in method.summary.items()}
