"""Where in a piece of speech lips have to meet and where they have to open: from known syllables or from phones with times.

Times are in seconds from the beginning of the sound. Letters: C closures, V vowels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError

__all__ = [
    "BILABIALS",
    "VOWELS",
    "Phone",
    "SpeechTargets",
    "onsets_beside",
    "phone_targets",
    "read_onsets",
    "syllable_targets",
]

BILABIALS = frozenset("pbm")
"""Letters of consonants that are spoken with closed lips, in the International Phonetic Alphabet."""
VOWELS = frozenset("aeiouyæøœɐɑɒɔɘəɚɛɜɝɞɤɨɪɯɵɶʉʊʌʏ")  # noqa: RUF001 - letters of that alphabet
"""Letters of vowels; diphthongs begin with one."""
_VOWEL_BEGINS, _VOWEL_ENDS = 0.12, 0.32
"""Part of a syllable, in seconds after its onset, that is counted as its vowel. The murmur of an m lasts for 0.10 s."""
_BEFORE_NEXT = 0.12
"""Seconds before the next onset from which the lips may already close."""


@dataclass(frozen=True)
class Phone:
    """A phone with its time.

    Attributes:
        name: Its letters in the International Phonetic Alphabet, such as `b` or `æ`.
        start: Where it begins, in seconds.
        end: Where it ends.
    """

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class SpeechTargets:
    """Where lips have to meet and to open.

    Attributes:
        closures: Beginning and end of each bilabial consonant, [C, 2] in seconds; the two are equal where only the onset is known.
        vowels: Beginning and end of each vowel, [V, 2] in seconds.
    """

    closures: NDArray[np.float64]
    vowels: NDArray[np.float64]


def syllable_targets(onsets: Sequence[tuple[float, str]]) -> SpeechTargets:
    """Targets of syllables with known onsets, such as pa, ba and ma.

    Args:
        onsets: Where each syllable begins, in seconds, and its letters: at most one consonant and a vowel. The vowel is looked at from
            0.12 to 0.32 s after the onset, and until 0.12 s before the next one.
    """
    ordered = sorted(onsets)
    starts = [time for time, _ in ordered]
    ends = [time - _BEFORE_NEXT for time in starts[1:]] + [np.inf]
    closures = [(time, time) for time, name in ordered if name[:1].lower() in BILABIALS]
    vowels = [(time + _VOWEL_BEGINS, min(time + _VOWEL_ENDS, end)) for time, end in zip(starts, ends, strict=True)]
    return SpeechTargets(_pairs(closures), _pairs([pair for pair in vowels if pair[1] > pair[0]]))


def phone_targets(phones: Sequence[Phone]) -> SpeechTargets:
    """Targets of phones with times, as an aligner or `phone_times.find_phones` gives them."""
    closures = [(phone.start, phone.end) for phone in phones if phone.name[:1] in BILABIALS]
    vowels = [(phone.start, phone.end) for phone in phones if phone.name[:1] in VOWELS]
    return SpeechTargets(_pairs(closures), _pairs(vowels))


def onsets_beside(path: Path) -> Path:
    """Where the onsets of a file's syllables may be written: `anna.onsets.json` beside `anna.mp4`."""
    return path.with_name(f"{path.stem}.onsets.json")


def read_onsets(path: Path) -> list[tuple[float, str]]:
    """Read a JSON file of syllables: a list of pairs of onset in seconds and syllable, such as `[[0.5, "pa"], [1.1, "ba"]]`.

    Raises:
        InputError: The file cannot be read, or is not such a list.
    """
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The onsets '{path}' cannot be read ({error.strerror}); check the path.") from error
    except ValueError as error:
        raise InputError(f"The onsets '{path}' are not JSON ({error}); {_FORM}") from error
    if not isinstance(raw, list) or not raw:
        raise InputError(f"The onsets '{path}' are no list of syllables; {_FORM}")
    return [_syllable(entry, path) for entry in raw]


_FORM = 'give a list of onset in seconds and syllable, such as [[0.5, "pa"], [1.1, "ba"]].'


def _syllable(entry: Any, path: Path) -> tuple[float, str]:
    match entry:
        case [int() | float() as time, str() as name] if not isinstance(time, bool) and time >= 0 and name.isalpha():
            return float(time), name
    raise InputError(f"The onsets '{path}' have the entry {json.dumps(entry)[:60]}; {_FORM}")


def _pairs(pairs: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    return np.array(pairs, np.float64).reshape(-1, 2)
