"""The scale of motion intensity that lies beside a model's weights: raw motion of the training clips at evenly spaced ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from fantasytalking.data.motion_dataset import IntensityScale

__all__ = ["PERCENTILES", "read_percentiles", "write_percentiles"]

PERCENTILES = "motion_percentiles.json"
"""Name of the file in a model folder."""


def write_percentiles(folder: Path, percentiles: Mapping[str, Sequence[float]]) -> None:
    """Write raw motion `w_face` and `w_body` at evenly spaced ranks."""
    (folder / PERCENTILES).write_text(json.dumps(percentiles) + "\n")


def read_percentiles(folder: Path) -> IntensityScale | None:
    """The scale of a model folder; None where it has none."""
    if not (folder / PERCENTILES).exists():
        return None
    raw = json.loads((folder / PERCENTILES).read_text())
    return IntensityScale(torch.tensor([raw["w_face"], raw["w_body"]]).T)
