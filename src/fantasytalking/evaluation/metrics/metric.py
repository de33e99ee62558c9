"""The interface of a metric: it measures one clip against its reference, and describes its figures as columns of the report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.results import Column, Curve
from fantasytalking.system.digests import json_sha256

__all__ = ["Measurement", "Metric", "between_frames", "cosines", "gather"]


@dataclass(frozen=True)
class Measurement:
    """Everything that one metric measured in one clip.

    Attributes:
        values: Column key -> number, for columns of kind `mean`.
        features: Column key -> float32 [n, d], for columns of kind `frechet`.
        curves: Name -> curve, for the plots.
        notes: Sentences for the reader, such as what was left out.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Metric(ABC):
    """A family of columns that are measured together.

    Attributes:
        name: Key in `registry.METRICS`.
        hears: Whether the result depends on the sound.
        compares: Whether the result depends on the reference clip.
        version: Raised when the arithmetic changes, so that stored measurements are taken again.
        columns: Columns that it fills.
        remark: Sentence for the reader of the whole table, such as that a package is not installed; "" for none.
    """

    name: str
    hears: ClassVar[bool] = False
    compares: ClassVar[bool] = False
    version: ClassVar[int] = 1
    remark: str = ""
    columns: tuple[Column, ...]

    @abstractmethod
    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Measure one clip.

        Args:
            clip: The clip to measure.
            reference: The real clip; the same object where the real clip itself is measured.

        Raises:
            InputError: The clip cannot be measured; the message says why.
        """

    @property
    def digest(self) -> str:
        """SHA-256 of everything but clip and protocol that the figures depend on."""
        columns = [(c.key, c.label, sorted(c.weights.items())) for c in self.columns]
        return json_sha256([self.name, self.version, columns])


def gather(*parts: Callable[[], dict[str, float]]) -> Measurement:
    """Collect the figures of a metric whose parts fail one by one: what cannot be measured becomes a note.

    Args:
        parts: Functions that return figures by the key of their column, or raise `FantasyTalkingError` with the reason why not.
    """
    values: dict[str, float] = {}
    notes: list[str] = []
    for part in parts:
        try:
            values |= part()
        except FantasyTalkingError as error:
            notes.append(str(error))
    return Measurement(values, notes=tuple(dict.fromkeys(notes)))


def cosines(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of vectors row by row: [n, d] and [n, d] or [d] -> [n]; 0 where one of the two is zero."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((a * b).sum(-1) / np.maximum(norms, 1e-12))


def between_frames(features: NDArray[np.floating]) -> float:
    """Similarity of the frames of a clip: the mean cosine of each frame with the first and with the previous one.

    The paper says "between frames" and no more; this is the subject consistency of VBench (arXiv:2311.17982, section 4),
    the usual meaning of DINO similarity of a video. A still image scores 1.

    Args:
        features: [n, d], n >= 2.
    """
    first, previous = cosines(features[1:], features[0]), cosines(features[1:], features[:-1])
    return float((first + previous).mean() / 2)
