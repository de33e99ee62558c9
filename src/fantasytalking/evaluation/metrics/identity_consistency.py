"""IDC: identity consistency, DINO similarity of the face crop between frames (paper, section 4.1).

Standard: DINO ViT-B/16. Proxy: MobileNetV2. Both reward stillness: read them beside SD. Damage that
takes detail out of the crop makes frames more alike as well: the proxy rises for half size and held frames (docs/evaluation.md,
"Metrics that reward damage").
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage, Frames
from fantasytalking.evaluation.metrics.metric import Measurement, Metric, between_frames
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest, mobilenet, mobilenet_digest
from fantasytalking.evaluation.results import Column
from fantasytalking.perception.faces import crop_square

__all__ = ["IdentityConsistency", "face_crops", "proxy", "standard"]

SIDE = 224


def face_crops(footage: Footage, side: int = SIDE) -> Frames:
    """Crop the face out of every n-th frame that shows it, [n, side, side, 3]: a square around the mesh, not rotated.

    Raises:
        InputError: Fewer than two such frames.
    """
    protocol, boxes = footage.protocol, list(footage.face_boxes())
    chosen = [i for i in range(0, len(footage.frames), protocol.image_stride) if footage.seen[i]]
    if len(chosen) < 2:
        raise InputError(f"The face is seen in {len(chosen)} of the frames looked at; at least 2 are needed.")
    crops = []
    for i in chosen:
        crop, _ = crop_square(footage.frames[i], boxes[i], protocol.face_margin)
        filter = cv2.INTER_AREA if len(crop) >= side else cv2.INTER_CUBIC
        crops.append(np.asarray(cv2.resize(crop, (side, side), interpolation=filter), np.uint8))
    return np.stack(crops)


class IdentityConsistency(Metric):
    """Similarity of face crops within a clip.

    Args:
        features: uint8 [n, 224, 224, 3] -> float32 [n, d].
        column: The column that it fills.
    """

    name = "idc"

    def __init__(self, features: Callable[[Frames], NDArray[np.float32]], column: Column) -> None:
        self.features, self.columns = features, (column,)

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Compare the clip's face crops, see `metric.between_frames`."""
        return Measurement({self.columns[0].key: between_frames(self.features(face_crops(clip)))})


_HOW = "of the face crop between frames: mean cosine with the first and with the previous of the frames looked at, mean over frames"


def proxy(device: str = "cpu") -> IdentityConsistency:
    """face-mobilenet, with the bundled MobileNetV2."""
    definition = f"Similarity of MobileNetV2 features {_HOW}. Not IDC: another network. Rewards stillness, and a little what blurs."
    weights = mobilenet_digest() | bundled_digest("face_landmark.tflite")
    column = metric_column("idc", "idc", "higher", 4, definition, weights, proxy_label="face-mobilenet")
    return IdentityConsistency(mobilenet().features, column)


def standard(device: str = "cpu") -> IdentityConsistency:
    """IDC, with DINO ViT-B/16."""
    from fantasytalking.evaluation.networks import dino
    from fantasytalking.evaluation.networks.metric_weights import digest

    network = dino.load(device=device)
    definition = (
        f"Similarity of DINO ViT-B/16 features (class token) {_HOW}. Rewards stillness; what blurs may raise it."
    )
    column = metric_column("idc", "idc", "higher", 4, definition, {"dino": digest("dino")})
    return IdentityConsistency(network.features, column)
