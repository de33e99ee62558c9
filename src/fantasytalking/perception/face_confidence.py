"""How sure it is that a found face is a human one, whole, and with a visible mouth.

The detector and the mesh network were trained on people, but neither was trained to say no: a cat, a drawing or a games controller gets a
score, too. What tells faces apart is that a true one is found again, as surely, when it is framed a little differently, that the
embedding of faces responds to it, and that it belongs to what the person mask covers. Five such measures make one confidence by logistic
regression; five more that of the mouth. What is drawn so well that it is found in every framing is told by its flat colours.

The coefficients were fitted on 352 pictures of faces, 128 of other things that the search takes for a face (18 animals, drawings, statues
or things, also mirrored, blurred, bordered and at other sizes), and 209 faces with a drawn surgical mask or hand. The faces are two
frames each of the people of the training clips, as they are and in grey, sepia, dark, blurred, noisy, smoothed like paint, tilted or at
half size, and 38 portrait photos and paintings with heads turned by up to 57 degrees.
"""

import functools
import math
import statistics
import threading
from dataclasses import dataclass

import cv2
import numpy as np

from fantasytalking.perception.body import person_mask
from fantasytalking.perception.detection import FACE
from fantasytalking.perception.face_embedding import embedding_response
from fantasytalking.perception.faces import Face, align_face
from fantasytalking.perception.landmarks import face_mesh
from fantasytalking.perception.mesh_network import mesh_in_region, region_of_mesh
from fantasytalking.perception.mesh_points import (
    LEFT_EYE,
    LEFT_EYE_OUTER,
    LIPS_INNER,
    LIPS_OUTER,
    MOUTH_CORNER_LEFT,
    MOUTH_CORNER_RIGHT,
    NOSE_TIP,
    RIGHT_EYE,
    RIGHT_EYE_OUTER,
)
from fantasytalking.perception.regions import Region, cut
from fantasytalking.system.prefetching import in_background

__all__ = ["FaceCheck", "check_face"]

# Size of the square as a multiple of the box, and shift of its centre as a fraction of it.
_FRAMINGS = (
    *((1.6, 0.0, 0.0), (2.2, 0.0, 0.0), (3.0, 0.0, 0.0)),
    *((2.2, 0.15, 0.0), (2.2, -0.15, 0.0), (2.2, 0.0, 0.15), (2.2, 0.0, -0.15)),
)
# Size of the square as a multiple of the usual one, shift as a fraction of it, turn in radians.
_MESH_FRAMINGS = (
    *((1.0, 0.0, 0.0, 0.0), (1.1, 0.0, 0.0, 0.0), (0.9, 0.0, 0.0, 0.0)),
    *((1.0, 0.06, 0.0, 0.0), (1.0, -0.06, 0.0, 0.0), (1.0, 0.0, 0.06, 0.0), (1.0, 0.0, -0.06, 0.0)),
    *((1.0, 0.0, 0.0, 0.15), (1.0, 0.0, 0.0, -0.15)),
)
_LEAST_DETECTION, _LEAST_MESH = 0.02, 1e-4
_UPPER_LIP_TOP, _LOWER_LIP_BOTTOM = 0, 17
# Lips are measured at this many pixels from eye to eye, whatever the size of the picture.
_EYE_DISTANCE = 48

# The face in a picture of head and shoulders.
_BUST_SIDE, _BUST_ROWS, _BUST_COLUMNS = 256, slice(70, 150), slice(85, 171)

# Constant and weights of detector, mesh, response, symmetry and person (logits, logit, log of a norm, cosine, share).
_FACE = (-44.3, 3.347, 0.815, 4.509, 13.642, 2.351)
# Constant and weights of steadiness, line and range of the lips, detector, mesh (log, lightness, lightness, logits).
_MOUTH = (-26.9, -3.88, -0.059, 0.088, 2.0, 0.57)

# 98 % of what is no face stayed below 0.15 in the pictures of the fit (a mirrored monkey reached 0.46); the least sure faces, bowed or in
# profile, have 0.64, and 95 % of all faces more than 0.94.
_NO_FACE, _SURE = 0.2, 0.6
# Of drawn masks and hands 97 % stay below, and of faces up to 45 degrees only those do whose beard hides the lips.
_HIDDEN = 0.25
_OUTSIDE = 0.1
# Of the photos and paintings 0.01 to 0.29 of the face has one flat colour, and of 20 drawings 0.35 to 0.77.
_FLAT = 0.38
_FLAT_SIDE, _FLAT_GRADIENT = 96, 0.25
# Nose tip off the middle between the eyes, in eye distances: beyond it (about 45 degrees) the lips are seen from the side.
_SIDEWAYS = 0.55


@dataclass(frozen=True)
class FaceCheck:
    """What can be said about a found face.

    Attributes:
        confidence: Confidence that it is a human face, 0 to 1.
        mouth: Confidence that its mouth is visible, 0 to 1; 1 where the head is turned too far to tell.
        outside: Share of its mesh points that lie outside the image, 0 to 1.
        flat: Share of it that has one flat colour, as in a drawing, 0 to 1.
    """

    confidence: float
    mouth: float
    outside: float
    flat: float

    @property
    def is_cut(self) -> bool:
        """Whether the frame of the image cuts part of the face off."""
        return self.outside > _OUTSIDE

    @property
    def hides_mouth(self) -> bool:
        """Whether something hides the mouth, or makes it hard to see."""
        return self.mouth < _HIDDEN and self.confidence >= _NO_FACE

    @property
    def is_no_face(self) -> bool:
        """Whether it is surely no human face; one of which the frame cuts a part off looks like none and does not count."""
        return self.confidence < _NO_FACE and not self.is_cut

    @property
    def is_drawn(self) -> bool:
        """Whether it is a drawing of flat colours, and not a photo or a painting."""
        return self.flat > _FLAT

    @property
    def is_unsure(self) -> bool:
        """Whether it may be no human face, and nothing else explains that it does not look like one."""
        return _NO_FACE <= self.confidence < _SURE and not (self.is_cut or self.hides_mouth or self.is_drawn)


def check_face(image: np.ndarray, face: Face) -> FaceCheck:
    """Look closer at a face that was found.

    Args:
        image: RGB image uint8 [H, W, 3].
        face: A face of this image.

    Raises:
        ImageError: ``image`` is not such an array.
    """
    tables = _colour_tables()
    # networks that wait for none of the others' results, on a second core where there is one
    aside = in_background(lambda: (embedding_response(align_face(image, face)), _person_share(image, face)))
    points = face_mesh(image, face).points
    detector = _detector_logit(image, face)
    mesh, spread = _mesh_logit(image, points)
    (norm, symmetry), share = aside.result()
    height, width = image.shape[:2]
    x, y = points[:, 0], points[:, 1]
    outside = float(((x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)).mean())
    confidence = _logistic(_FACE, detector, mesh, math.log(max(norm, 1e-6)), symmetry, share)
    tables.join()
    flat = _flat_share(image, points)
    if _is_sideways(face):
        return FaceCheck(confidence, 1.0, outside, flat)
    line, extent = _lip_profile(image, points)
    return FaceCheck(confidence, _logistic(_MOUTH, spread, line, extent, detector, mesh), outside, flat)


def _logistic(weights: tuple[float, ...], *values: float) -> float:
    return 1.0 / (1.0 + math.exp(-_bounded(weights[0] + float(np.dot(weights[1:], values)))))


def _bounded(logit: float) -> float:
    return min(max(logit, -60.0), 60.0)


def _logit(score: float, least: float) -> float:
    score = min(max(score, least), 1.0 - min(least, 1e-3))
    return math.log(score / (1.0 - score))


def _detector_logit(image: np.ndarray, face: Face) -> float:
    """Mean logit of the detector over several framings of the face; where it finds none there, its score counts as 0.02."""
    x0, y0, x1, y1 = face.box
    size, x, y = face.size, (x0 + x1) / 2, (y0 + y1) / 2
    logits = []
    for scale, right, down in _FRAMINGS:
        hits = FACE(image, Region(x + right * size, y + down * size, scale * size), _LEAST_DETECTION)
        near = [
            hit.score
            for hit in hits
            if math.hypot((hit.box[0] + hit.box[2]) / 2 - x, (hit.box[1] + hit.box[3]) / 2 - y) < size / 2
        ]
        logits.append(_logit(max(near, default=0.0), _LEAST_DETECTION))
    return float(np.mean(logits))


def _person_share(image: np.ndarray, face: Face) -> float:
    """How much of the middle of the face the person mask covers, when it sees head and shoulders; 0 to 1."""
    x0, y0, x1, y1 = face.box
    bust = cut(image, Region((x0 + x1) / 2, (y0 + y1) / 2 + 0.3 * face.size, 3 * face.size), _BUST_SIDE)
    return float(person_mask(bust)[_BUST_ROWS, _BUST_COLUMNS].mean())


def _mesh_logit(image: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    """Mean logit of the mesh network over several framings, and how much they move the lips: log of eye distances."""
    usual = region_of_mesh(points)
    logits, lips = [], []
    for scale, right, down, turn in _MESH_FRAMINGS:
        x, y = usual.x + right * usual.size, usual.y + down * usual.size
        mesh = mesh_in_region(image, Region(x, y, scale * usual.size, usual.angle + turn))
        logits.append(_logit(mesh.score, _LEAST_MESH))
        lips.append(mesh.points[[*LIPS_OUTER, *LIPS_INNER], :2])
    moved = np.stack(lips) - np.mean(lips, axis=0)
    spread = float(np.sqrt(np.square(moved).sum(axis=-1).mean(axis=0)).mean())
    eyes = float(np.linalg.norm(points[RIGHT_EYE_OUTER, :2] - points[LEFT_EYE_OUTER, :2]))
    return float(np.mean(logits)), math.log(max(spread / max(eyes, 1e-6), 1e-6))


def _flat_share(image: np.ndarray, points: np.ndarray) -> float:
    """Share of the face whose lightness does not change from pixel to pixel, in a crop of 96 pixels."""
    # without the margin around the mesh, and a little less
    crop = cut(image, region_of_mesh(points).scaled(0.8 / 1.5), _FLAT_SIDE)
    lightness = _lightness(crop)
    right, down = (cv2.Sobel(lightness, cv2.CV_32F, x, y) / 8 for x, y in ((1, 0), (0, 1)))
    return float((np.hypot(right, down) < _FLAT_GRADIENT).mean())


@functools.cache
def _colour_tables() -> threading.Thread:
    """Let OpenCV make its tables of CIELAB, which takes 0.1 s at the first use, while the networks run; only one thread may do so."""
    thread = threading.Thread(target=_lightness, args=(np.zeros((1, 1, 3), np.uint8),), daemon=True)
    thread.start()
    return thread


def _lightness(image: np.ndarray) -> np.ndarray:
    """L of CIELAB, 0 to 100, float32 [H, W]."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0])


def _is_sideways(face: Face) -> bool:
    """Whether the nose tip is far from the middle of the eyes, along their line."""
    right, left, nose = (point.astype(np.float64) for point in face.points[:3])
    across = left - right
    length = max(float(across @ across), 1e-6)
    return abs(float((nose - (right + left) / 2) @ across)) / length > _SIDEWAYS


def _lip_profile(image: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    """The mean lightness from above the upper lip to below the lower one: its darkest place against the median, and its range.

    Between lips there is a dark line, or the dark inside of the mouth; on a mask or on fingers there is none where the mesh puts it.
    """
    right, left = (points[list(eye), :2].astype(np.float64).mean(axis=0) for eye in (RIGHT_EYE, LEFT_EYE))
    along = left - right
    distance = max(float(np.hypot(*along)), 1.0)
    side = 3 * _EYE_DISTANCE
    size = side * distance / _EYE_DISTANCE
    angle = math.atan2(along[1], along[0])
    nose = points[NOSE_TIP]
    lightness = _lightness(cut(image, Region(float(nose[0]), float(nose[1]), size, angle), side))
    places = _in_crop(points[:, :2] - nose[:2], angle, side / size) + side / 2
    top, bottom = places[_UPPER_LIP_TOP], places[_LOWER_LIP_BOTTOM]
    corners = places[[MOUTH_CORNER_RIGHT, MOUTH_CORNER_LEFT]]
    across = np.linspace(0.2, 0.8, 9)[:, None]
    offsets = (corners[0] * (1 - across) + corners[1] * across - corners.mean(axis=0)) * 0.9
    down = np.linspace(-0.15, 1.15, 40)[None, :, None]
    grid = (top + offsets[:, None]) * (1 - down) + (bottom + offsets[:, None]) * down
    x, y = (np.ascontiguousarray(grid[..., axis], np.float32) for axis in (0, 1))
    profile = cv2.remap(lightness, x, y, cv2.INTER_LINEAR).mean(axis=0)
    # NumPy's median imports its masked arrays, a fiftieth of a second
    return float(profile[5:35].min() - statistics.median(profile.tolist())), float(np.ptp(profile))


def _in_crop(offsets: np.ndarray, angle: float, scale: float) -> np.ndarray:
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    turned: np.ndarray = offsets.astype(np.float64) @ np.array([[cos, -sin], [sin, cos]])
    return turned
