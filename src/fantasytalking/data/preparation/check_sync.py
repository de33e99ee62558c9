"""Lip sync of a clip, measured by the bundled lip-sync network and corrected by shifting the sound."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.conditioning.interpolation import rows_at
from fantasytalking.conditioning.speech_features import SAMPLE_RATE, SpeechEncoder
from fantasytalking.data.face_tracks import TRACK_FPS
from fantasytalking.data.preparation.clip_records import Refusal
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.media.audio import fit_length
from fantasytalking.media.loudness import normalise_loudness
from fantasytalking.perception.lip_sync import LipSync, SyncCurve, sync_curve
from fantasytalking.perception.mouth_view import MouthView, bridge_gaps, see_mouth
from fantasytalking.perception.sync_judgement import CLEARLY, FARTHEST, judge
from fantasytalking.pipeline.model_names import embedded_folder

__all__ = ["SyncVerdict", "Trim", "at_track_rate", "check_sync", "least_confidence", "measure_curve", "trim_for"]


_NOISE_SECONDS = 3.0


@dataclass(frozen=True)
class SyncVerdict:
    """Result for a clip that is kept.

    Attributes:
        shift: Delay that the sound needs, in frames of 1/25 s; 0 for none.
        row: Measures.
    """

    shift: int = 0
    row: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trim:
    """Part of a clip that remains after its sound was shifted.

    Attributes:
        first: First frame.
        count: Number of frames.
        sample: First sample, which belongs to the first frame.
        samples: Number of samples.
    """

    first: int
    count: int
    sample: int
    samples: int


def check_sync(
    frames: NDArray[np.uint8],
    points: NDArray[np.float32],
    scores: NDArray[np.float32],
    samples: NDArray[np.float32],
    fps: float,
    settings: PreparationSettings,
) -> SyncVerdict:
    """Measure the lip sync of a clip and decide what to do about it.

    An offset is trusted, and corrected, if the minimum of the curve stands out (`sync_confidence`), lies within 10 frames and is clearly
    below the value at 0; see `perception.sync_judgement.judge`. A clip whose curve has no clear minimum, or one farther away, is dropped.

    Args:
        frames: Frames uint8 [F, H, W, 3].
        points: Tracked mesh [F, 468, 3] in pixels of `frames`.
        scores: Face presence [F], 0..1.
        samples: Sound [n] at 16 kHz, as long as the frames.
        fps: Frames per second.
        settings: Uses `sync`, `sync_confidence`, `sync_tolerance`.

    Raises:
        Refusal: "out-of-sync".
    """
    if settings.sync == "off":
        return SyncVerdict()
    curve = measure_curve(frames, points, scores, samples, fps)
    least = least_confidence(len(frames) / fps, settings)
    found = judge(curve, least)
    row = {
        "sync_offset": curve.offset,
        "sync_confidence": round(curve.confidence, 4),
        "sync_distance": round(curve.distance, 4),
        "sync_at_zero": round(found.at_zero, 4),
    }
    if curve.confidence < least:
        detail = f"Lips and speech fit at no offset: the confidence is {curve.confidence:.3f}; at least {least:.3f} is needed."
        raise Refusal("out-of-sync", detail, row)
    late = abs(curve.offset) > FARTHEST and found.at_zero - curve.distance >= CLEARLY
    far = abs(found.offset) > settings.sync_tolerance
    if late or (settings.sync == "drop" and far):
        accepted = f"at most {FARTHEST} can be corrected" if late else f"at most {settings.sync_tolerance} is accepted"
        detail = f"The face lags the speech by {curve.offset} frames of 1/25 s; {accepted}."
        raise Refusal("out-of-sync", detail, row)
    return SyncVerdict(found.offset if settings.sync == "correct" else 0, row)


def least_confidence(seconds: float, settings: PreparationSettings) -> float:
    """Minimum confidence of a clip: `sync_confidence`, times sqrt(3 s / length) for clips shorter than 3 s.

    A curve is a mean over frames, so its noise falls with the square root of their number. Of clips with the sound of another clip, 2 %
    reach 0.3 at 3 s and 1 % at 5 s; of clips with their own sound, fewer than one in twenty is below 0.4.

    Args:
        seconds: Length of the clip.
        settings: Uses `sync_confidence`.
    """
    result: float = settings.sync_confidence * max(1.0, _NOISE_SECONDS / max(seconds, 0.1)) ** 0.5
    return result


def measure_curve(
    frames: NDArray[np.uint8],
    points: NDArray[np.float32],
    scores: NDArray[np.float32],
    samples: NDArray[np.float32],
    fps: float,
) -> SyncCurve:
    """Measure the distance of lips and speech over offsets; arguments as for `check_sync`."""
    network = LipSync.bundled()
    view = at_track_rate(see_mouth(frames, bridge_gaps(points, scores), None, network.template), fps)
    heard = fit_length(samples, round(len(view.shape) / TRACK_FPS * SAMPLE_RATE))
    speech = np.asarray(_speech_encoder().encode(normalise_loudness(heard)).numpy(), np.float32)
    return sync_curve(network.embed_view(view), network.embed_speech(speech))


def at_track_rate(view: MouthView, fps: float) -> MouthView:
    """Resample a mouth view to the 25 frames per second of the network by linear interpolation.

    Args:
        view: The mouth, frame by frame.
        fps: Its frames per second.
    """
    if fps == TRACK_FPS:
        return view
    # frame k shows the time (k + 1/2) / fps
    count = int(len(view.shape) / fps * TRACK_FPS)
    positions = (torch.arange(count, dtype=torch.float64) + 0.5) * (fps / TRACK_FPS) - 0.5
    shape = rows_at(torch.from_numpy(view.shape), positions)
    crops = rows_at(torch.from_numpy(view.crops).float(), positions)
    return MouthView(shape.numpy(), crops.round().to(torch.uint8).numpy())


def trim_for(shift: int, count: int, fps: float) -> Trim:
    """Frames and samples that belong together if the face lags behind the speech by `shift` frames of 1/25 s.

    The sound of the face at time t is at t - shift / 25. Frames and samples at the ends without a counterpart are cut.

    Args:
        shift: `SyncVerdict.shift`.
        count: Number of frames of the clip.
        fps: Frames per second.
    """
    late = shift / TRACK_FPS
    first = math.ceil(max(0.0, late) * fps - 1e-6)
    last = count - math.ceil(max(0.0, -late) * fps - 1e-6)
    return Trim(
        first,
        max(0, last - first),
        round((first / fps - late) * SAMPLE_RATE),
        round(max(0, last - first) / fps * SAMPLE_RATE),
    )


@functools.cache
def _speech_encoder() -> SpeechEncoder:
    """Encoder whose features the network was trained on, independent of the model that the set is for."""
    return SpeechEncoder.from_pretrained(embedded_folder() / "audio_encoder")
