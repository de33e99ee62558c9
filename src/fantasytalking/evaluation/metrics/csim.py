"""CSIM: cosine of face embeddings between the generated frames and the real person (in common use, not in the paper's tables).

Standard: ArcFace of InsightFace's buffalo_l. Proxy: the bundled MobileFaceNet, which also gives the embedded model its identity and is
therefore no independent judge of that model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric, cosines
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.evaluation.results import Column
from fantasytalking.perception.face_embedding import Backend, embed_face
from fantasytalking.perception.faces import face_of_mesh

__all__ = ["FaceSimilarity", "proxy", "standard"]


class FaceSimilarity(Metric):
    """Cosine of the embeddings of every n-th frame with that of the reference's first frame with a face.

    Args:
        backend: Network of `perception.face_embedding`.
        column: The column that it fills.
    """

    name = "csim"
    compares = True

    def __init__(self, backend: Backend, column: Column) -> None:
        self.backend, self.columns = backend, (column,)

    def _embed(self, footage: Footage, index: int) -> NDArray[np.float32]:
        points, scores = footage.track
        face = face_of_mesh(points[index], float(scores[index]))
        return np.asarray(embed_face(footage.frames[index], face, self.backend), np.float32)

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Average the cosines; a frame without a face counts 0.

        Raises:
            InputError: The reference shows no face.
        """
        if not reference.seen.any():
            raise InputError("The reference shows no face; CSIM needs one to compare with.")
        portrait = self._embed(reference, int(np.argmax(reference.seen)))
        chosen = range(0, len(clip.frames), clip.protocol.image_stride)
        found = [self._embed(clip, i) for i in chosen if clip.seen[i]]
        total = float(cosines(np.stack(found), portrait).sum()) if found else 0.0
        return Measurement({self.columns[0].key: total / len(chosen)})


_HOW = (
    "of the frames looked at with that of the reference's first frame, mean; a frame in which no face is found counts 0"
)


def proxy(device: str = "cpu") -> FaceSimilarity:
    """CSIM-mobilefacenet, with the bundled MobileFaceNet."""
    definition = f"Cosine of the MobileFaceNet embedding (192) {_HOW}. Not ArcFace's."
    weights = bundled_digest("MobileFaceNet.tflite") | bundled_digest("face_landmark.tflite")
    column = metric_column("csim", "csim", "higher", 3, definition, weights, proxy_label="CSIM-mobilefacenet")
    return FaceSimilarity("mobilefacenet", column)


def standard(device: str = "cpu") -> FaceSimilarity:
    """CSIM, with ArcFace (InsightFace's buffalo_l; its weights allow non-commercial research only)."""
    from fantasytalking.perception.face_embedding import embed_aligned

    # Now and not at the first clip: a missing package or pack must end the run before anything is measured.
    embed_aligned(np.zeros((112, 112, 3), np.uint8), "insightface")
    definition = f"Cosine of the ArcFace embedding (512, InsightFace buffalo_l) {_HOW}."
    return FaceSimilarity("insightface", metric_column("csim", "csim", "higher", 3, definition))
