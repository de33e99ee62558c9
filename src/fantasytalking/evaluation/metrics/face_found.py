"""Share of frames in which a face is found (ours, not one of the paper's metrics): 1 unless a face leaves the picture or falls apart."""

from __future__ import annotations

from fantasytalking.errors import FaceError
from fantasytalking.evaluation.footage import FACE_SCORE, Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest

__all__ = ["FaceFound", "standard"]


class FaceFound(Metric):
    """Share of the frames whose mesh is sure to be a face."""

    name = "face"

    def __init__(self) -> None:
        definition = (
            f"Share of the frames in which the face mesh network sees a face, with a score of {FACE_SCORE:g} or more."
        )
        self.columns = (
            metric_column("face", "face_found", "higher", 4, definition, bundled_digest("face_landmark.tflite")),
        )

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Count the frames."""
        try:
            return Measurement({"face_found": float(clip.seen.mean())})
        except FaceError:
            return Measurement({"face_found": 0.0})


def standard(device: str = "cpu") -> FaceFound:
    """The only implementation, with the bundled face mesh."""
    return FaceFound()
