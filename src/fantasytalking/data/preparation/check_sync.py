"""Do lips and speech fit, and by how much is one of them late: measured by the bundled lip-sync network, corrected by moving the sound."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SAMPLE_RATE, SpeechEncoder
from fantasytalking.data.face_tracks import TRACK_FPS
from fantasytalking.data.preparation.clip_records import Refusal
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.media.audio import fit_length
from fantasytalking.media.loudness import normalise_loudness
from fantasytalking.perception.lip_sync import LipSync, SyncCurve, sync_curve
from fantasytalking.perception.mouth_view import MouthView, bridge_gaps, see_mouth
from fantasytalking.perception.sync_judgement import CLEARLY, FARTHEST, judge
from fantasytalking.pipeline.model_folder import EMBEDDED, resolve_model

__all__ = ["SyncVerdict", "Trim", "at_track_rate", "check_sync", "least_confidence", "measure_curve", "trim_for"]


_NOISE_SECONDS = 3.0


@dataclass(frozen=True)
class SyncVerdict:
    """What was found of a clip that is kept.

    Attributes:
        shift: frames of 1/25 s by which the sound is to be delayed; 0 for none.
        row: measures.
    """

    shift: int = 0
    row: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trim:
    """What is left of a clip after its sound was moved.

    Attributes:
        first: first frame.
        count: frames.
        sample: sample that the first frame begins with.
        samples: samples.
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
    """Measure a clip and decide.

    The offset is believed, and undone, where the curve's minimum stands out (`sync_confidence`), lies within 10 frames and is clearly
    below the value at 0; see `perception.sync_judgement.judge`. A clip whose curve has no minimum worth the name, or one farther away, is
    left out.

    Args:
        frames: uint8 [F, H, W, 3].
        points, scores: the tracked mesh [F, 468, 3] in pixels of `frames`, and its scores [F].
        samples: [n] at 16 kHz, as long as the frames.
        fps: frames a second.
        settings: uses `sync`, `sync_confidence`, `sync_tolerance`.

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
    """The confidence that a clip needs: `sync_confidence`, times the square root of what it is shorter than 3 s by.

    A curve is a mean over frames, so its noise falls with the square root of their number. Of clips with another clip's sound 2 % reach
    0.3 at 3 s and 1 % at 5 s; of clips with their own sound fewer than one in twenty lies below 0.4.
    """
    return settings.sync_confidence * max(1.0, _NOISE_SECONDS / max(seconds, 0.1)) ** 0.5


def measure_curve(
    frames: NDArray[np.uint8],
    points: NDArray[np.float32],
    scores: NDArray[np.float32],
    samples: NDArray[np.float32],
    fps: float,
) -> SyncCurve:
    """Distance of lips and speech over offsets; arguments as of `check_sync`."""
    network = LipSync.bundled()
    view = at_track_rate(see_mouth(frames, bridge_gaps(points, scores), None, network.template), fps)
    heard = fit_length(samples, round(len(view.shape) / TRACK_FPS * SAMPLE_RATE))
    speech = np.asarray(_speech_encoder().encode(normalise_loudness(heard)).numpy(), np.float32)
    return sync_curve(network.embed_view(view), network.embed_speech(speech))


def at_track_rate(view: MouthView, fps: float) -> MouthView:
    """A mouth seen at another frame rate, at the 25 frames a second that the network knows: neighbours are blended."""
    if fps == TRACK_FPS:
        return view
    count = len(view.shape)
    # frame k shows the time (k + 1/2) / fps
    places = (np.arange(int(count / fps * TRACK_FPS)) + 0.5) * (fps / TRACK_FPS) - 0.5
    places = np.clip(places, 0, count - 1)
    before = np.floor(places).astype(int)
    after, share = np.minimum(before + 1, count - 1), (places - before).astype(np.float32)
    shape = view.shape[before] * (1 - share[:, None]) + view.shape[after] * share[:, None]
    crops = view.crops[before] * (1 - share[:, None, None]) + view.crops[after] * share[:, None, None]
    return MouthView(shape.astype(np.float32), np.round(crops).astype(np.uint8))


def trim_for(shift: int, count: int, fps: float) -> Trim:
    """Frames and samples that belong together when a face lags its speech by `shift` frames of 1/25 s.

    What the face at time t says was heard at t - shift / 25. The ends without a partner are cut.

    Args:
        shift: of `SyncVerdict`.
        count: frames of the clip.
        fps: frames a second.
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
    """The encoder whose features the network was trained on, whatever model the set is for."""
    return SpeechEncoder.from_pretrained(Path(str(resolve_model(EMBEDDED))) / "audio_encoder")
