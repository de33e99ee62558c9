"""Detection of speech by Silero VAD, with the weights that come with its package."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.data.preparation.clip_records import Refusal
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.errors import MissingDependencyError

__all__ = ["check_speech", "speech_share", "speech_stretches"]


def check_speech(samples: NDArray[np.float32], settings: PreparationSettings) -> dict[str, Any]:
    """Measure how much of a clip is speech.

    Args:
        samples: Sound [n] at 16 kHz.
        settings: Uses `min_speech`.

    Returns:
        Measures: {"speech_share"}.

    Raises:
        Refusal: "no-speech": too little of it is.
        MissingDependencyError: silero-vad is not installed.
    """
    share = speech_share(samples)
    row = {"speech_share": round(share, 3)}
    if share < settings.min_speech:
        detail = f"Speech is heard in {share:.0%} of the clip; at least {settings.min_speech:.0%} are needed."
        raise Refusal("no-speech", detail, row)
    return row


def speech_share(samples: NDArray[np.float32]) -> float:
    """Share of a sound [n] at 16 kHz that Silero VAD classifies as speech, 0..1."""
    stretches = speech_stretches(samples)
    return float(np.diff(stretches, axis=1).sum() * SAMPLE_RATE / max(1, len(samples)))


def speech_stretches(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Beginning and end, [n, 2] in seconds, of each stretch of a sound [n] at 16 kHz that Silero VAD classifies as speech.

    Raises:
        MissingDependencyError: silero-vad is not installed.
    """
    model, timestamps = _voice_detector()
    with torch.no_grad():
        found = timestamps(torch.from_numpy(np.ascontiguousarray(samples)), model, sampling_rate=SAMPLE_RATE)
    return np.array([(part["start"], part["end"]) for part in found], np.float64).reshape(-1, 2) / SAMPLE_RATE


@functools.cache
def _voice_detector() -> tuple[Any, Any]:
    threads = torch.get_num_threads()
    try:
        from silero_vad import get_speech_timestamps, load_silero_vad
    except ImportError as error:
        raise MissingDependencyError(
            f"Finding speech needs the package silero-vad, which cannot be imported ({error}); "
            'install it with: pip install "fantasytalking[prepare]"'
        ) from error
    model = load_silero_vad()
    # the package sets one thread for the whole process when it is imported
    torch.set_num_threads(threads)
    return model, get_speech_timestamps
