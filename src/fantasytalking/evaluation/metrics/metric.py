"""What a metric is: something that measures one clip against its reference, and says in columns what it measured."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.results import Column, Curve

__all__ = ["Measurement", "Metric", "between_frames", "cosines"]


@dataclass(frozen=True)
class Measurement:
    """What one metric found in one clip.

    Attributes:
        values: column key -> number, for columns of kind `mean`.
        features: column key -> float32 [n, d], for columns of kind `frechet`.
        curves: name -> curve, for the plots.
        notes: sentences for the reader, such as what was left out.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Metric(ABC):
    """A family of columns that are measured together.

    Attributes:
        name: as `--metrics` has it.
        hears: whether the sound matters.
        compares: whether the reference clip matters.
        version: raised when the arithmetic changes, so that stored measurements are made again.
        columns: what it fills.
    """

    name: ClassVar[str]
    hears: ClassVar[bool] = False
    compares: ClassVar[bool] = False
    version: ClassVar[int] = 1
    columns: tuple[Column, ...]

    @abstractmethod
    def measure(self, made: Footage, true: Footage) -> Measurement:
        """Measure one clip.

        Args:
            made: the clip.
            true: its reference; the same object for the ground truth.

        Raises:
            InputError: this clip cannot be measured; the message says why.
        """

    @property
    def digest(self) -> str:
        """Of everything but clip and protocol that the numbers depend on."""
        text = json.dumps(
            [self.name, self.version, [(c.key, c.label, sorted(c.weights.items())) for c in self.columns]]
        )
        return hashlib.sha256(text.encode()).hexdigest()


def cosines(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of vectors row by row: [n, d] and [n, d] or [d] -> [n]; 0 where one of them is zero."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((a * b).sum(-1) / np.maximum(norms, 1e-12))


def between_frames(features: NDArray[np.floating]) -> float:
    """Similarity of frames within a clip: each frame's mean cosine with the first and with the one before it.

    The paper says "between frames" and no more; this is the subject consistency of VBench (arXiv:2311.17982, section 4),
    the usual meaning of DINO similarity of a video. A still picture gets 1.

    Args:
        features: [n, d], n >= 2.
    """
    first, previous = cosines(features[1:], features[0]), cosines(features[1:], features[:-1])
    return float((first + previous).mean() / 2)
