"""CSIM: cosine of face embeddings between the generated frames and the real person (not in the paper's tables; general use).

Standard: ArcFace of InsightFace's buffalo_l. Proxy: the bundled MobileFaceNet, which is also what gives the embedded model its identity:
no independent judge of that model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric, cosines
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.evaluation.results import Column
from fantasytalking.perception.face_embedding import Backend, embed_face
from fantasytalking.perception.faces import face_of_mesh

__all__ = ["FaceSimilarity", "proxy", "standard"]


class FaceSimilarity(Metric):
    """Embeddings of every n-th frame against that of the reference's first frame with a face.

    Args:
        backend: of `perception.identity`.
        column: what it fills.
    """

    name = "csim"
    compares = True

    def __init__(self, backend: Backend, column: Column) -> None:
        self.backend, self.columns = backend, (column,)

    def _embed(self, footage: Footage, index: int) -> NDArray[np.float32]:
        points, scores = footage.track
        face = face_of_mesh(points[index], float(scores[index]))
        return np.asarray(embed_face(footage.frames[index], face, self.backend), np.float32)

    def measure(self, made: Footage, true: Footage) -> Measurement:
        """Mean cosine; a frame in which the face is gone counts 0.

        Raises:
            InputError: the reference shows no face.
        """
        if not true.seen.any():
            raise InputError("The reference shows no face; CSIM needs one to compare with.")
        portrait = self._embed(true, int(np.argmax(true.seen)))
        chosen = range(0, len(made.frames), made.protocol.image_stride)
        found = [self._embed(made, i) for i in chosen if made.seen[i]]
        total = float(cosines(np.stack(found), portrait).sum()) if found else 0.0
        return Measurement({self.columns[0].key: total / len(chosen)})


_HOW = (
    "of the frames looked at with that of the reference's first frame, mean; a frame in which no face is found counts 0"
)


def proxy(device: str = "cpu") -> FaceSimilarity:
    """With the bundled MobileFaceNet."""
    definition = f"Cosine of the MobileFaceNet embedding (192) {_HOW}. Not ArcFace's."
    weights = bundled_digest("MobileFaceNet.tflite") | bundled_digest("face_landmark.tflite")
    column = Column("csim", "CSIM-mobilefacenet", "CSIM", True, "higher", "", 3, "mean", definition, weights)
    return FaceSimilarity("mobilefacenet", column)


def standard(device: str = "cpu") -> FaceSimilarity:
    """With ArcFace (InsightFace's buffalo_l; its weights allow non-commercial research only)."""
    from fantasytalking.perception.face_embedding import embed_aligned

    # Here and not in the first clip: a missing package or pack ends the run before anything is measured.
    embed_aligned(np.zeros((112, 112, 3), np.uint8), "insightface")
    definition = f"Cosine of the ArcFace embedding (512, InsightFace buffalo_l) {_HOW}."
    return FaceSimilarity("insightface", Column("csim", "CSIM", "CSIM", False, "higher", "", 3, "mean", definition))
