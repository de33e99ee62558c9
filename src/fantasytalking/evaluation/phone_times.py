"""Phones of real speech with their times, from the recogniser of the package `hama` (extra `eval`, Apache-2.0).

No transcript is needed: what is recognised takes its place. The recogniser is trained by connectionist temporal classification, so it tells
a phone by a peak that comes after the phone. How much later was measured on 37 clips of the training split whose sound and picture agree
(GRID and MEAD, 106 bilabials): lips are closest 0.14 s before the peak of a bilabial consonant, and vowels are widest 0.06 s before theirs.
On `m` after silence, whose onset is known to the sample, the peak comes 0.12 to 0.14 s after the onset.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.errors import MissingDependencyError
from fantasytalking.evaluation.speech_targets import VOWELS, Phone

__all__ = ["PACKAGE", "find_phones", "is_installed", "version"]

PACKAGE = "hama"
_CONSONANT_LEAD = 0.12
"""Seconds from the onset of a consonant to its peak."""
_VOWEL_LEAD = 0.08
"""Seconds from the beginning of the widest part of a vowel to its peak, which ends it."""


def is_installed() -> bool:
    """Whether the recogniser is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def version() -> str:
    """Version of the recogniser, which contains its weights; "not installed" without it."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def find_phones(samples: NDArray[np.float32]) -> list[Phone]:
    """Recognise the phones of speech.

    Args:
        samples: Sound [n] at 16 kHz.

    Returns:
        Phones in order. The times of a vowel are those of its widest part. Of a consonant only the onset is known, so it has no length.

    Raises:
        MissingDependencyError: The package hama is not installed.
    """
    recogniser = _recogniser()
    spans = recogniser.phoneme_spans(recogniser(np.ascontiguousarray(samples, np.float32), SAMPLE_RATE))
    found = []
    for span in spans:
        peak = span.start_ms / 1000
        lead, end = (_VOWEL_LEAD, peak) if span.phoneme[:1] in VOWELS else (_CONSONANT_LEAD, peak - _CONSONANT_LEAD)
        found.append(Phone(span.phoneme, max(0.0, peak - lead), max(0.0, end)))
    return found


@functools.cache
def _recogniser() -> Any:
    try:
        from hama import ASRModel
    except ImportError as error:
        raise MissingDependencyError(
            f"Finding phones in speech needs the package hama, which cannot be imported ({error}); "
            'install it with: pip install "fantasytalking[eval]"'
        ) from error
    return ASRModel()
