"""Motion intensity scale stored with a model's weights: raw motion of the training clips at evenly spaced ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fantasytalking.data.motion_dataset import IntensityScale
from fantasytalking.errors import CheckpointError

__all__ = ["PERCENTILES", "read_percentiles", "write_percentiles"]

PERCENTILES = "motion_percentiles.json"
"""File name in a model folder."""


def write_percentiles(folder: Path, percentiles: Mapping[str, Sequence[float]]) -> None:
    """Write the raw motion `w_face` and `w_body` at evenly spaced ranks to a model folder."""
    (folder / PERCENTILES).write_text(json.dumps(percentiles) + "\n", encoding="utf-8")


def read_percentiles(folder: Path) -> IntensityScale | None:
    """Read the scale of a model folder; None if it has none.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = folder / PERCENTILES
    if not path.exists():
        return None
    try:
        raw = json.loads(path.read_text("utf-8"))
        return IntensityScale.from_percentiles(raw["w_face"], raw["w_body"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"The motion percentiles {path} cannot be read ({error}); restore the file, or delete it to measure them on the footage."
        ) from error
