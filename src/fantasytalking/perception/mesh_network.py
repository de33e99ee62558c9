"""The face mesh network on one region, and the regions to run it on.

MediaPipe's face mesh (arXiv:1907.06724): the face is turned upright by its eyes and cut out 1.5 times as large as
found.
"""

import math
from dataclasses import dataclass

import numpy as np

from fantasytalking.perception.mesh_points import LEFT_EYE_OUTER, NUM_POINTS, RIGHT_EYE_OUTER
from fantasytalking.perception.networks.network_runner import Network
from fantasytalking.perception.regions import Region, cut

MIN_SCORE = 0.5
_SIDE = 192
_MARGIN = 1.5


@dataclass(frozen=True)
class FaceMesh:
    """The mesh of one face.

    Attributes:
        points: float32 [468, 3]: x, y in pixels, z (depth, smaller is nearer) on the same scale around the head's
            centre.
        score: confidence that the region shows a face, 0 to 1.
    """

    points: np.ndarray
    score: float


def mesh_in_region(image: np.ndarray, region: Region) -> FaceMesh:
    """Run the mesh network on one region of an image.

    Args:
        image: uint8 [H, W, 3], RGB.
        region: an upright face with half its size of margin around it; may reach beyond the image.

    Returns:
        The mesh in image pixels, whatever its score.
    """
    pixels = cut(image, region, _SIDE).astype(np.float32) / 255
    raw, logit = Network("face_landmark")(pixels[None])
    score = 1 / (1 + math.exp(-min(max(float(logit.item()), -80.0), 80.0)))
    return FaceMesh(region.to_image(raw.reshape(NUM_POINTS, 3) / _SIDE), score)


def region_of_box(box: tuple[float, float, float, float], eyes: np.ndarray) -> Region:
    """The square to cut around a detected face.

    Args:
        box: x0, y0, x1, y1 in pixels.
        eyes: [2, 2], image left first.

    Returns:
        A square 1.5 times the box's longer side, turned by the line through the eyes.
    """
    x0, y0, x1, y1 = box
    return Region((x0 + x1) / 2, (y0 + y1) / 2, _MARGIN * max(x1 - x0, y1 - y0, 1.0), _angle(eyes[0], eyes[1]))


def region_of_mesh(points: np.ndarray) -> Region:
    """The square to cut in the next frame, from the points of this one.

    The bounding box is taken along the eye line (MediaPipe takes an upright one), so that a tilted head keeps the same
    margin.

    Args:
        points: [468, 2 or 3] in pixels.

    Returns:
        A square 1.5 times the longer side of the mesh.
    """
    angle = _angle(points[RIGHT_EYE_OUTER], points[LEFT_EYE_OUTER])
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = points[:, 0], points[:, 1]
    along, across = x * cos + y * sin, y * cos - x * sin
    size = max(float(np.ptp(along)), float(np.ptp(across)), 1.0)
    u, v = (float(values.min() + values.max()) / 2 for values in (along, across))
    return Region(u * cos - v * sin, u * sin + v * cos, _MARGIN * size, angle)


def _angle(start: np.ndarray, end: np.ndarray) -> float:
    return math.atan2(float(end[1] - start[1]), float(end[0] - start[0]))
