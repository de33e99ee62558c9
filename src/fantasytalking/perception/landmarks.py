"""Face mesh of 468 points in an image or a video, and measures of it: mouth opening, lip region, head pose."""

import math
from collections.abc import Iterable
from typing import Protocol

import cv2
import numpy as np

from fantasytalking.errors import FaceError, ImageError, SettingsError
from fantasytalking.perception.alignment import rigid_align, rigid_restore
from fantasytalking.perception.face_measures import mouth_opening
from fantasytalking.perception.face_search import find_faces, search_region
from fantasytalking.perception.mesh_network import MIN_SCORE, FaceMesh, mesh_in_region, region_of_box, region_of_mesh
from fantasytalking.perception.mesh_points import (
    FACE_OVAL,
    LEFT_EYE,
    LIPS_INNER,
    LIPS_OUTER,
    NUM_POINTS,
    RIGHT_EYE,
    TRIANGLES,
)
from fantasytalking.perception.regions import Region, check_image

__all__ = [
    "FACE_OVAL",
    "LEFT_EYE",
    "LIPS_INNER",
    "LIPS_OUTER",
    "NUM_POINTS",
    "RIGHT_EYE",
    "TRIANGLES",
    "FaceMesh",
    "face_mesh",
    "lip_mask",
    "mouth_opening",
    "rigid_align",
    "rigid_restore",
    "track_mesh",
]

_THOROUGH_EVERY = 25


class HasBox(Protocol):
    """Protocol with the attributes of a face that ``face_mesh`` reads."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Bounds x0, y0, x1, y1 in pixels."""

    @property
    def points(self) -> np.ndarray:
        """Points [k, 2] in pixels, beginning with the eyes, from left to right in the image."""


def face_mesh(image: np.ndarray, face: HasBox | None = None) -> FaceMesh:
    """Find the mesh of one face.

    Args:
        image: RGB image uint8 [H, W, 3].
        face: Face to use; None takes the largest one found.

    Returns:
        The mesh; if ``face`` is given, with any score.

    Raises:
        ImageError: ``image`` is not such an array.
        FaceError: No face is given and none is found.
    """
    check_image(image)
    if face is not None:
        return mesh_in_region(image, region_of_box(face.box, face.points[:2]))
    found = find_faces(image)
    if not found:
        height, width = image.shape[:2]
        raise FaceError(f"No face was found in the {width} x {height} image; use one with a face of at least 20 px.")
    return found[0].mesh


def track_mesh(frames: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Track one face through a video: the largest in the first frame that shows one.

    Each frame is cropped around the previous mesh; below a score of 0.5 the face is searched for again. Frames without a face
    repeat the points of the previous frame with one (or, at the beginning, of the first frame with one) and have score 0.

    Args:
        frames: RGB frames uint8 [F, H, W, 3], or an iterable of uint8 [H, W, 3].

    Returns:
        Points float32 [F, 468, 3] as in ``FaceMesh``, and scores float32 [F].

    Raises:
        ImageError: A frame is not such an array.
        FaceError: No frame shows a face.
    """
    if not isinstance(frames, Iterable):
        raise ImageError(
            f"A video is an array [F, H, W, 3] or a list of frames, not {type(frames).__name__}; use read_frames()."
        )
    points: list[np.ndarray | None] = []
    scores: list[float] = []
    last: np.ndarray | None = None
    for index, frame in enumerate(frames):
        check_image(frame)
        mesh = None if last is None else mesh_in_region(frame, region_of_mesh(last))
        if mesh is None or mesh.score < MIN_SCORE:
            # The search for small faces is slow, and a face that disappeared rarely comes back small.
            mesh = _search_again(frame, last, thorough=index % _THOROUGH_EVERY == 0)
        if mesh is None or mesh.score < MIN_SCORE:
            scores.append(0.0)
        else:
            last = mesh.points
            scores.append(mesh.score)
        points.append(last)
    first = next((p for p in points if p is not None), None)
    if first is None:
        raise FaceError(f"None of the {len(points)} frames shows a face; use a video that shows one from the front.")
    return np.stack([first if p is None else p for p in points]), np.array(scores, dtype=np.float32)


def _search_again(frame: np.ndarray, last: np.ndarray | None, thorough: bool) -> FaceMesh | None:
    if last is None:
        found = find_faces(frame, thorough=thorough)
        return found[0].mesh if found else None
    around = region_of_mesh(last)
    found = search_region(frame, Region(around.x, around.y, 1.6 * around.size)) or find_faces(frame, thorough=thorough)
    if not found:
        return None
    return min(found, key=lambda f: math.dist(f.mesh.points[:, :2].mean(axis=0), (around.x, around.y))).mesh


def lip_mask(points: np.ndarray, height: int, width: int, dilate: float = 0.0) -> np.ndarray:
    """Mark the region of the lips and of the mouth between them.

    Args:
        points: Mesh points [468, 2 or 3] in pixels.
        height: Height of the mask in pixels.
        width: Width of the mask in pixels.
        dilate: Distance by which the outline is expanded, as a fraction of the mouth's width (0.2 covers the skin that
            moves with the lips).

    Returns:
        Mask, bool [height, width].

    Raises:
        SettingsError: A size is below 1, or ``dilate`` is negative.
    """
    if height < 1 or width < 1 or dilate < 0:
        raise SettingsError(
            "A lip mask needs height and width of at least 1 and dilate of at least 0, "
            f"not {height}, {width} and {dilate}."
        )
    outline = points[list(LIPS_OUTER), :2].astype(np.float64)
    mask = np.zeros((height, width), dtype=np.uint8)
    # Sixteenths of a pixel: at latent size a mouth is a few pixels wide.
    polygon = np.round(np.clip(outline, -4 * width - 4096, 4 * width + 4096) * 16).astype(np.int32)
    cv2.fillPoly(mask, [polygon], 1, shift=4)
    radius = dilate * float(np.linalg.norm(outline[0] - outline[10]))
    if radius > 0:
        mask = (cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5) <= radius).astype(np.uint8) if mask.any() else mask
    return mask.astype(bool)
