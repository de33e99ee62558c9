"""Sync-C and Sync-D: lips and sound in step (paper, table 1).

Standard: SyncNet as joonson/syncnet_python reports it. Proxy: the bundled lip-sync network, read the same way on another scale. The
sound is the video's own; resampling of the frames leaves it untouched.
"""

from __future__ import annotations

from collections.abc import Callable

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.evaluation.results import Better, Column, Curve
from fantasytalking.perception.lip_sync import WEIGHTS, LipSync, SyncCurve, sync_curve

__all__ = ["Sync", "proxy", "standard"]

RATE = 25.0
"""Frames per second that both networks were trained at."""


class Sync(Metric):
    """Distance between mouth and sound over offsets.

    Args:
        curve: Footage and the stretch of frames that shows the face -> curve.
        columns: Confidence, distance, the size of the offset found, and the offset with its sign.
    """

    name = "sync"
    hears = True

    def __init__(
        self, curve: Callable[[Footage, slice], SyncCurve], columns: tuple[Column, Column, Column, Column]
    ) -> None:
        self.curve, self.columns = curve, columns

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Measure the longest stretch with a face.

        Raises:
            InputError: There is no sound, the frame rate is not 25, or the stretch is shorter than `protocol.min_track`.
        """
        protocol, run = clip.protocol, clip.longest_run
        if clip.sound is None:
            raise InputError("The video has no sound, and neither has its reference; sync needs one of them.")
        if protocol.fps != RATE:
            raise InputError(
                f"Sync is measured at {RATE:g} frames a second and the protocol says {protocol.fps:g}; change fps."
            )
        if run.stop - run.start < protocol.min_track:
            raise InputError(
                f"The face is seen for at most {run.stop - run.start} frames in a row and min_track is {protocol.min_track}; "
                "give longer clips, or lower min_track in the protocol and say so."
            )
        found = self.curve(clip, run)
        confidence, distance, size, offset = (column.key for column in self.columns)
        values = {confidence: found.confidence, distance: found.distance}
        values |= {size: float(abs(found.offset)), offset: float(found.offset)}
        line = Curve(tuple(float(k) for k in found.offsets), tuple(float(d) for d in found.distances))
        return Measurement(values, curves={"sync": line})


def _columns(how: str, weights: dict[str, str], proxy_prefix: str = "") -> tuple[Column, Column, Column, Column]:
    """Confidence, distance, size of the offset and offset; the labels of a proxy begin with `proxy_prefix`."""
    confidence = f"Median minus least distance of mouth and sound over the offsets: {how}"
    distance = f"Least distance over the offsets: {how}"
    size = f"Size of the offset at the least distance, whichever of the two is late: {how}"
    # Its mean is near 0 for a set whose clips are late and early: the size above is what ranks, the sign is for looking at clips.
    offset = f"Offset at the least distance, positive where the face lags behind the sound: {how}"
    label, labels = (proxy_prefix or "Sync"), [proxy_prefix and f"{proxy_prefix}-{letter}" for letter in "CD"]

    def plain(key: str, name: str, better: Better, definition: str) -> Column:
        # stands for none of the published figures
        return Column(key, name, "", bool(proxy_prefix), better, "frames", 1, "mean", definition, weights)

    return (
        metric_column("sync", "sync_c", "higher", 3, confidence, weights, proxy_label=labels[0]),
        metric_column("sync", "sync_d", "lower", 3, distance, weights, proxy_label=labels[1]),
        plain("sync_offset", f"{label} |offset|", "lower", size),
        plain("sync_lag", f"{label} offset", "neither", offset),
    )


def proxy(device: str = "cpu") -> Sync:
    """sync-proxy-C and sync-proxy-D, with the bundled lip-sync network."""
    network = LipSync.bundled()

    def curve(footage: Footage, run: slice) -> SyncCurve:
        points, scores = footage.track
        mouth = network.embed_mouth(footage.frames[run], points[run], scores[run])
        speech = network.embed_speech(footage.speech)[run]
        return sync_curve(mouth, speech, footage.protocol.max_offset)

    how = (
        "the project's own lip-sync network at 25 frames a second, unit vectors, offsets of up to max_offset frames. Not SyncNet: other "
        "training, another scale."
    )
    return Sync(curve, _columns(how, bundled_digest(WEIGHTS.name), "sync-proxy"))


def standard(device: str = "cpu") -> Sync:
    """Sync-C and Sync-D, with SyncNet."""
    from fantasytalking.evaluation.networks import syncnet
    from fantasytalking.evaluation.networks.metric_weights import digest

    network = syncnet.load(device=device)

    def curve(footage: Footage, run: slice) -> SyncCurve:
        assert footage.sound is not None
        return network.curve(footage.frames, footage.track[0], footage.sound, run, footage.protocol.max_offset)

    how = (
        "SyncNet (syncnet_v2), 224-pixel face crops at 25 frames a second, offsets of up to max_offset frames, face boxes from the "
        "bundled mesh."
    )
    return Sync(curve, _columns(how, {"syncnet": digest("syncnet")}))
