"""Face detection in an image: boxes, five points per face, and crops."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fantasytalking.errors import FaceError, SettingsError
from fantasytalking.perception.alignment import fit_similarity
from fantasytalking.perception.detection import FACE
from fantasytalking.perception.face_search import find_faces
from fantasytalking.perception.mesh_points import (
    LEFT_EYE,
    MOUTH_CORNER_LEFT,
    MOUTH_CORNER_RIGHT,
    NOSE_TIP,
    RIGHT_EYE,
)
from fantasytalking.perception.regions import Region, check_image, cut

# Positions of the five points in a 112 px crop for face recognition (ArcFace, arXiv:1801.07698).
ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
ARCFACE_SIDE = 112
MIN_FACE_SIZE = 48.0
_UPRIGHT = math.radians(5)
"""Tilt below which the box is that of the upright face."""


@dataclass(frozen=True)
class Face:
    """A face in an image.

    Attributes:
        box: Bounds x0, y0, x1, y1 in pixels, from the eyebrows to the chin; may extend beyond the image.
        score: Confidence, 0 to 1.
        points: Eye, eye, nose tip, mouth corner, mouth corner, float32 [5, 2] in pixels; of each pair, the one further left in
            the image comes first.
    """

    box: tuple[float, float, float, float]
    score: float
    points: np.ndarray

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


def detect_faces(image: np.ndarray, min_score: float = 0.5) -> list[Face]:
    """Find the faces in an image, from about 20 px (30 px in images of 12 megapixels) to larger than the frame.

    If there are large faces, small ones (below about a tenth of the image's longer side) are not searched for.

    Args:
        image: RGB image uint8 [H, W, 3].
        min_score: Minimum confidence, 0 to 1.

    Returns:
        The faces, largest first; empty if there are none.

    Raises:
        ImageError: ``image`` is not such an array.
        SettingsError: ``min_score`` is not between 0 and 1.
    """
    check_image(image)
    if not 0 < min_score < 1:
        raise SettingsError(f"min_score is a confidence between 0 and 1, not {min_score}.")
    return [
        Face(found.detection.box, found.detection.score, _five_points(found.mesh.points))
        for found in find_faces(image, min_score)
    ]


def face_of_mesh(points: np.ndarray, score: float = 1.0) -> Face:
    """Make a face from its mesh, so that a tracked face need not be detected again.

    Args:
        points: Mesh points [468, 2 or 3] in pixels, as returned by ``landmarks.track_mesh``.
        score: Confidence, 0 to 1.

    Returns:
        A face whose box is that of the mesh, from the hairline to the chin.
    """
    (x0, y0), (x1, y1) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return Face((float(x0), float(y0), float(x1), float(y1)), score, _five_points(points))


def _five_points(points: np.ndarray) -> np.ndarray:
    """Eyes, nose tip and mouth corners [5, 2] of a mesh.

    The mesh replaces the points of the detector, whose eyes are less steady and whose mouth is a single point.
    """
    mesh = points[:, :2]
    return np.stack(
        [
            mesh[list(RIGHT_EYE)].mean(axis=0),
            mesh[list(LEFT_EYE)].mean(axis=0),
            mesh[NOSE_TIP],
            mesh[MOUTH_CORNER_RIGHT],
            mesh[MOUTH_CORNER_LEFT],
        ]
    )


def face_length(image: np.ndarray, face: Face) -> float:
    """Longer side of a face along its own axis, in pixels.

    The detector's box of a face that is tilted by 45 degrees is a seventh smaller than that of the same face upright, so the face is
    looked at upright once more, where that can matter: below `MIN_FACE_SIZE`.

    Args:
        image: RGB image uint8 [H, W, 3].
        face: A face of this image.
    """
    right, down = face.points[3:].mean(axis=0) - face.points[:2].mean(axis=0)
    angle = math.atan2(-right, down)
    if face.size >= MIN_FACE_SIZE or abs(angle) < _UPRIGHT:
        return face.size
    x, y = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
    around = Region(x, y, 3 * face.size, angle)
    upright = cut(image, around, FACE.side, border="black")
    found = FACE(upright, Region(FACE.side / 2, FACE.side / 2, FACE.side), 0.5 * face.score)
    middle = FACE.side / 2
    near = [one for one in found if one.box[0] < middle < one.box[2] and one.box[1] < middle < one.box[3]]
    sides = [(one.box[2] - one.box[0], one.box[3] - one.box[1]) for one in near[:1]]
    return max([face.size, *(max(pair) * around.size / FACE.side for pair in sides)])


def choice_of_faces(count: int) -> str:
    """What may be given instead of the number of a face that is not there, to end a sentence.

    Args:
        count: Number of faces, at least 1.
    """
    return "so leave it out" if count == 1 else f"so choose from 0 (the largest) to {count - 1}"


def choose_face(
    image: np.ndarray,
    index: int | None = None,
    min_size: float = MIN_FACE_SIZE,
    faces: Sequence[Face] | None = None,
) -> Face:
    """Pick the face to animate.

    Args:
        image: RGB image uint8 [H, W, 3].
        index: Index of the face, 0 for the largest; None takes the largest and warns if there are several.
        min_size: Minimum longer side of the face along its own axis in pixels, at most `MIN_FACE_SIZE`.
        faces: The faces of the image, as ``detect_faces`` gives them; None looks for them.

    Returns:
        The face.

    Raises:
        ImageError: ``image`` is not such an array.
        FaceError: There is no face, no face with that index, or it is too small.
    """
    faces = detect_faces(image) if faces is None else faces
    height, width = image.shape[:2]
    if not faces:
        raise FaceError(
            f"No face was found in the {width} x {height} image; "
            "use a portrait in which a whole face is seen from the front."
        )
    if index is None and len(faces) > 1:
        sizes = ", ".join(f"{i}: {face.size:.0f} px" for i, face in enumerate(faces))
        warnings.warn(f"{len(faces)} faces were found ({sizes}); the largest, face 0, is taken.", stacklevel=2)
    if index is not None and not 0 <= index < len(faces):
        raise FaceError(f"There is no face {index} in the image: {len(faces)} found, {choice_of_faces(len(faces))}.")
    face = faces[index or 0]
    length = face_length(image, face)
    if length < min_size:
        raise FaceError(
            f"The face is {length:.0f} px large in the {width} x {height} image and must be at least "
            f"{min_size:.0f} px; use a larger or more closely cropped portrait."
        )
    return face


def crop_square(
    image: np.ndarray, box: tuple[float, float, float, float], scale: float = 1.0
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Cut a square around a box without resampling; beyond the image its edge pixels are repeated.

    Args:
        image: Image uint8 [H, W, 3].
        box: Bounds x0, y0, x1, y1 in pixels.
        scale: Side of the square divided by the longer side of the box, above 0.

    Returns:
        The crop uint8 [S, S, 3], and its bounds x0, y0, x1, y1 in whole pixels (negative or beyond the image where pixels are
        repeated).

    Raises:
        ImageError: ``image`` is not such an array.
        SettingsError: The box is empty, or ``scale`` is not above 0.
    """
    check_image(image)
    longest = max(box[2] - box[0], box[3] - box[1])
    if not (box[2] > box[0] and box[3] > box[1] and scale > 0 and math.isfinite(scale * longest)):
        raise SettingsError(f"A crop needs a box x0 < x1, y0 < y1 and a scale above 0, not {box} and {scale}.")
    side = max(1, round(scale * longest))
    left, top = round((box[0] + box[2] - side) / 2), round((box[1] + box[3] - side) / 2)
    rows = np.clip(np.arange(top, top + side), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, image.shape[1] - 1)
    return image[rows[:, None], columns], (left, top, left + side, top + side)


def align_face(image: np.ndarray, face: Face) -> np.ndarray:
    """Crop a face upright, with its five points where ArcFace networks expect them.

    Args:
        image: RGB image uint8 [H, W, 3].
        face: A face of this image.

    Returns:
        The crop, uint8 [112, 112, 3].

    Raises:
        ImageError: ``image`` is not such an array.
    """
    check_image(image)
    scale, rotation, translation = fit_similarity(ARCFACE_POINTS / ARCFACE_SIDE, face.points.astype(np.float64))
    x, y = scale * rotation @ np.array([0.5, 0.5]) + translation
    angle = math.atan2(rotation[1, 0], rotation[0, 0])
    return cut(image, Region(float(x), float(y), float(scale), angle), ARCFACE_SIDE)
