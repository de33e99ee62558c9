"""Measures of a face mesh: opening of mouth and eyes, and the angles of the head. Plain geometry, without a network.

Letters: F frames. Meshes have 468 points, x right, y down, z away from the camera, all in pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import SettingsError
from fantasytalking.perception.alignment import fit_similarity
from fantasytalking.perception.mesh_points import (
    CHIN,
    FOREHEAD_TOP,
    INNER_LIP_PAIRS,
    LEFT_EYE_INNER,
    LEFT_EYE_OUTER,
    LEFT_LID_PAIRS,
    NUM_POINTS,
    RIGHT_EYE_INNER,
    RIGHT_EYE_OUTER,
    RIGHT_LID_PAIRS,
    RIGID_POINTS,
)

__all__ = ["CLOSED_LIPS", "eye_distance", "eye_opening", "head_angles", "lip_gap", "lip_opening", "mouth_opening"]

CLOSED_LIPS = 0.04
"""Largest `lip_opening` that counts as lips that meet. Of 45 real clips, the least opening (1st percentile) is 0.006 to 0.051, 0.016 in the
median: the mesh network never puts the inner lips onto each other."""

# The points of `RIGID_POINTS`, in their order, on the frontal face of the embedded model (mean over its training clips), made
# symmetric: eyes (centres) one unit apart, top of the forehead and chin equally far from the camera.
_FRONTAL = np.array(
    [
        *((0.0, -0.87, -0.12), (-0.55, -0.81, 0.0), (0.55, -0.81, 0.0), (-0.93, -0.53, 0.36)),
        *((0.93, -0.53, 0.36), (-0.78, -0.69, 0.17), (0.78, -0.69, 0.17), (-1.03, -0.33, 0.53)),
        *((1.03, -0.33, 0.53), (-1.1, 0.14, 0.86), (1.1, 0.14, 0.86), (-1.09, 0.38, 0.91)),
        *((1.09, 0.38, 0.91), (-0.98, 0.11, 0.3), (0.98, 0.11, 0.3), (-0.83, 0.28, 0.06)),
        *((0.83, 0.28, 0.06), (-0.71, 0.0, 0.09), (-0.28, 0.02, 0.0), (0.28, 0.02, 0.0)),
        *((0.71, 0.0, 0.09), (0.0, -0.1, -0.26), (0.0, 0.02, -0.33), (0.0, 0.12, -0.42)),
        *((0.0, 0.22, -0.52), (0.0, 0.33, -0.61), (0.0, 0.46, -0.66), (-0.26, 0.68, -0.27)),
        *((0.26, 0.68, -0.27),),
    ]
)


def lip_gap(points: np.ndarray) -> np.ndarray:
    """Mean distance [...] of three pairs of inner-lip points, in the unit of the points [..., 468, 2 or 3]."""
    upper, lower = (points[..., [pair[k] for pair in INNER_LIP_PAIRS], :] for k in (0, 1))
    result: np.ndarray = np.linalg.norm(upper - lower, axis=-1).mean(axis=-1)
    return result


def eye_distance(points: np.ndarray) -> np.ndarray:
    """Distance [...] between the outer corners of the eyes, in the unit of the points [..., 468, 2 or 3].

    Neither speech nor expression changes it, and with three coordinates a turned head does not either. The centres of the eyes are
    0.70 of it apart.
    """
    corners = points[..., RIGHT_EYE_OUTER, :] - points[..., LEFT_EYE_OUTER, :]
    return np.asarray(np.linalg.norm(corners, axis=-1))


def mouth_opening(points: np.ndarray) -> np.ndarray:
    """Measure the opening of the mouth, independently of size and (with three coordinates) of head pose.

    Args:
        points: Mesh points [..., 468, 2 or 3] in pixels.

    Returns:
        Mean gap [...] between three pairs of inner-lip points, divided by the height of the face (forehead to chin): 0 for a
        closed mouth, about 0.3 for a wide-open one.
    """
    height = np.linalg.norm(points[..., FOREHEAD_TOP, :] - points[..., CHIN, :], axis=-1)
    result: np.ndarray = lip_gap(points) / np.maximum(height, 1e-6)
    return result


def lip_opening(points: np.ndarray) -> np.ndarray:
    """Measure the opening of the mouth by the distance of the eyes, which the falling chin does not lengthen.

    Args:
        points: Mesh points [..., 468, 2 or 3] in pixels.

    Returns:
        Mean gap [...] between three pairs of inner-lip points over the distance between the outer corners of the eyes: 0.01 to 0.04 for
        closed lips, 0.06 to 0.3 in vowels. See `CLOSED_LIPS`.
    """
    result: np.ndarray = lip_gap(points) / np.maximum(eye_distance(points), 1e-6)
    return result


def eye_opening(points: np.ndarray) -> np.ndarray:
    """Measure the opening of both eyes, independently of size and (with three coordinates) of head pose.

    Args:
        points: Mesh points [..., 468, 2 or 3] in pixels.

    Returns:
        [..., 2]: mean gap between three pairs of lid points over the width of the eye, of the person's right eye and of the left one;
        about 0.3 for an open eye. The mesh network follows lids only in part: an eye that is closed has 0.12 to 0.27.
    """
    found = []
    for lids, outer, inner in (
        (RIGHT_LID_PAIRS, RIGHT_EYE_OUTER, RIGHT_EYE_INNER),
        (LEFT_LID_PAIRS, LEFT_EYE_OUTER, LEFT_EYE_INNER),
    ):
        upper, lower = (points[..., [pair[k] for pair in lids], :] for k in (0, 1))
        width = np.linalg.norm(points[..., outer, :] - points[..., inner, :], axis=-1)
        found.append(np.linalg.norm(upper - lower, axis=-1).mean(axis=-1) / np.maximum(width, 1e-6))
    return np.stack(found, axis=-1)


def head_angles(points: np.ndarray) -> NDArray[np.float64]:
    """Measure where a head is turned, from the points that speech and expression hardly move.

    The points are fitted to a frontal face by a similarity in space. People differ from that face, most in pitch, by some degrees;
    changes over time do not depend on it.

    Args:
        points: Mesh points [..., 468, 3] in pixels.

    Returns:
        [..., 3] yaw, pitch and roll in degrees: positive where the nose points to the right in the picture, where it points up, and
        where the head is tilted clockwise on the screen. Applied in this order to the head's own axes.

    Raises:
        SettingsError: The array has another shape.
    """
    points = np.asarray(points, np.float64)
    if points.shape[-2:] != (NUM_POINTS, 3):
        raise SettingsError(f"Head angles need meshes [..., {NUM_POINTS}, 3], not {points.shape}.")
    chosen = points[..., list(RIGID_POINTS), :].reshape(-1, len(RIGID_POINTS), 3)
    rotation = np.swapaxes(fit_similarity(chosen, _FRONTAL)[1], -1, -2)  # frontal face -> frame
    nose = -rotation[..., :, 2]  # where the axis that points at the camera goes
    yaw = np.arctan2(nose[..., 0], -nose[..., 2])
    pitch = np.arcsin(np.clip(-nose[..., 1], -1, 1))
    roll = np.arctan2(rotation[..., 1, 0], rotation[..., 1, 1])
    angles: NDArray[np.float64] = np.degrees(np.stack([yaw, pitch, roll], axis=-1))
    return angles.reshape(*points.shape[:-2], 3)
