"""The single-shot detectors (face and body): anchors, decoding, suppression.

The face network is MediaPipe's short-range BlazeFace (arXiv:1907.05047), the body network BlazePose's detector
(arXiv:2006.10204).
"""

import functools
from dataclasses import dataclass

import numpy as np

from fantasytalking.perception.networks.network_runner import Network
from fantasytalking.perception.regions import Region, cut

MIN_SCORE = 0.5
MAX_OVERLAP = 0.3


@dataclass(frozen=True)
class Detection:
    """A face or body that a detector found, in pixels.

    Attributes:
        box: x0, y0, x1, y1; may reach beyond the image.
        score: Confidence, 0 to 1.
        points: float32 [k, 2]. Face, k = 6: eye (image left), eye (image right), nose tip, mouth, ear (left), ear
            (right). Body, k = 4: hip centre, a point on the circle around the whole body, shoulder centre, a point on
            the circle around the upper body.
    """

    box: tuple[float, float, float, float]
    score: float
    points: np.ndarray


@dataclass(frozen=True)
class Detector:
    """A detector: its network, and how its output is read.

    Attributes:
        network: Name of the bundled network.
        side: Side of its square input in pixels.
        grids: (cells per side, anchors per cell), in the order of the network's output.
        num_points: Number of key points per detection.
    """

    network: str
    side: int
    grids: tuple[tuple[int, int], ...]
    num_points: int

    @functools.cached_property
    def anchors(self) -> np.ndarray:
        """Anchor centres, float32 [n, 2], 0 to 1; all anchors have the size of the whole input."""
        rows = []
        for cells, repeat in self.grids:
            centres = (np.arange(cells, dtype=np.float32) + 0.5) / cells
            grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
            rows.append(np.repeat(grid, repeat, axis=0))
        return np.concatenate(rows)

    def __call__(self, image: np.ndarray, region: Region, min_score: float = MIN_SCORE) -> list[Detection]:
        """Detect inside one upright square of an image (black beyond its border).

        Args:
            image: uint8 [H, W, 3], RGB.
            region: square to look at, in pixels.
            min_score: least confidence, 0 to 1.

        Returns:
            Detections in image pixels after weighted suppression, best first.
        """
        # Both networks take values from -1 to 1.
        pixels = cut(image, region, self.side, border="black").astype(np.float32) / 127.5 - 1
        raw, logits = Network(self.network)(pixels[None])
        scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0], -80, 80)))
        keep = scores >= min_score
        if not keep.any():
            return []
        values = raw[0, keep].reshape(-1, 2 + self.num_points, 2) / self.side
        anchors = self.anchors[keep]
        centre, half = values[:, 0] + anchors, values[:, 1] / 2
        points = values[:, 2:] + anchors[:, None]
        corners = region.to_image(np.stack([centre - half, centre + half], axis=1)).reshape(-1, 4)
        return suppress(corners, scores[keep], region.to_image(points))


FACE = Detector("face_detection_short_range", side=128, grids=((16, 2), (8, 6)), num_points=6)
BODY = Detector("pose_detection", side=224, grids=((28, 2), (14, 2), (7, 6)), num_points=4)


def suppress(boxes: np.ndarray, scores: np.ndarray, points: np.ndarray) -> list[Detection]:
    """Weighted non-maximum suppression: overlapping candidates become their mean, weighted by score.

    Args:
        boxes: [n, 4], x0, y0, x1, y1.
        scores: [n], 0 to 1.
        points: [n, k, 2].

    Returns:
        One detection per group, with the group's best score, best first.
    """
    left = np.argsort(-scores, kind="stable")
    found = []
    while left.size:
        group = left[overlap(boxes[left[0]], boxes[left]) > MAX_OVERLAP]
        if group.size == 0:  # a degenerate box does not even overlap itself
            left = left[1:]
            continue
        weights = scores[group] / scores[group].sum()
        x0, y0, x1, y1 = (float(v) for v in weights @ boxes[group])
        merged = np.einsum("n,nkc->kc", weights, points[group]).astype(np.float32)
        found.append(Detection((x0, y0, x1, y1), float(scores[left[0]]), merged))
        left = left[~np.isin(left, group)]
    return found


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box [4] with each of [n, 4]; float [n], 0 to 1."""
    corner_low = np.maximum(box[:2], boxes[:, :2])
    corner_high = np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(corner_high - corner_low, 0, None), axis=1)
    areas = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    area = np.prod(np.clip(box[2:] - box[:2], 0, None))
    result: np.ndarray = shared / np.maximum(area + areas - shared, 1e-9)
    return result
