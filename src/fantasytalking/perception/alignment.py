"""Similarity transforms between point sets: scale, rotation and translation by weighted least squares (Umeyama 1991).

Letters: N points, D coordinates (2 or 3), F frames.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fantasytalking.errors import SettingsError
from fantasytalking.perception.mesh_points import NUM_POINTS, RIGID_POINTS

__all__ = ["fit_similarity", "rigid_align", "rigid_restore"]

if TYPE_CHECKING:
    from torch import Tensor

# Not imported here: a tensor can only come from a program that has imported torch, and faces are found without it.
Array = TypeVar("Array", np.ndarray, "Tensor")


def _torch() -> Any:
    return sys.modules["torch"]


def fit_similarity(source: Array, target: Array, weights: Array | None = None) -> tuple[Array, Array, Array]:
    """Find s, R, t that minimise ``sum_n w_n |s R p_n + t - q_n|^2``, without reflection.

    Takes NumPy arrays or PyTorch tensors, all of one kind and type, and computes in their precision.

    Args:
        source: p, [..., N, D] for arrays, [N, D] for tensors.
        target: q, [N, D] or [..., N, D].
        weights: w, [N], not negative, at least D of them positive; None weights all points alike.

    Returns:
        scale [...], rotation [..., D, D], translation [..., D].

    Raises:
        SettingsError: The shapes do not fit together, or no weight is positive.
    """
    p: Any = source
    q: Any = target
    if p.ndim < 2 or tuple(p.shape[-2:]) != tuple(q.shape[-2:]):
        raise SettingsError(
            f"A fit needs source and target points [..., N, D] of one N and D, not {tuple(p.shape)} and {tuple(q.shape)}."
        )
    library: Any = np if isinstance(p, np.ndarray) else _torch()
    w = library.ones_like(p[(0,) * (p.ndim - 2)][:, 0]) if weights is None else weights
    if tuple(w.shape) != tuple(p.shape[-2:-1]) or w.min() < 0 or w.sum() <= 0:
        raise SettingsError(
            f"Weights need shape {tuple(p.shape[-2:-1])}, no negative and some positive values; got {tuple(w.shape)}."
        )
    w = (w / w.sum())[:, None]
    p_mean, q_mean = (w * p).sum(axis=-2, keepdims=True), (w * q).sum(axis=-2, keepdims=True)
    p, q = p - p_mean, q - q_mean
    u, singular, vt = library.linalg.svd(_covariance(q, p, w))
    # The last singular direction is turned where the best orthogonal matrix would be a mirror.
    sign = library.ones_like(singular)
    sign[..., -1] = library.sign(library.linalg.det(u @ vt))
    rotation = (u * sign[..., None, :]) @ vt
    scale = (singular * sign).sum(axis=-1) / (w * p**2).sum(axis=(-1, -2)).clip(min=1e-12)
    translation = q_mean[..., 0, :] - scale[..., None] * _turned(rotation, p_mean)
    return scale, rotation, translation


def _covariance(q: Any, p: Any, w: Any) -> Any:
    """Weighted ``q^T p``, [..., D, D]."""
    # Each library's own product and order: another one changes the last bits, and with them every generated video.
    if not isinstance(q, np.ndarray):
        return _torch().einsum("...vi,vj->...ij", q * w, p)
    return np.swapaxes(q, -1, -2) @ (w * p)


def _turned(rotation: Any, mean: Any) -> Any:
    """``R mean``, [..., D]; mean [..., 1, D]."""
    if not isinstance(rotation, np.ndarray):
        return _torch().einsum("...ij,j->...i", rotation, mean[0])
    return (rotation @ np.swapaxes(mean, -1, -2))[..., 0]


def rigid_align(points: np.ndarray, template: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Take head pose and size out of face meshes: move each frame onto a template, all frames at once.

    The fit is to the points that speech and expression hardly move (``RIGID_POINTS``).

    Args:
        points: [F, 468, 3] in pixels.
        template: [468, 3], for instance one frame of the same person.

    Returns:
        aligned float32 [F, 468, 3] = scale * points @ rotation^T + translation, in the template's coordinates; scale
        float32 [F]; rotation float32 [F, 3, 3]; translation float32 [F, 3].

    Raises:
        SettingsError: The arrays have other shapes.
    """
    points, template = np.asarray(points), np.asarray(template)
    if points.ndim != 3 or points.shape[1:] != (NUM_POINTS, 3) or template.shape != (NUM_POINTS, 3):
        raise SettingsError(
            f"Meshes need shape [F, {NUM_POINTS}, 3] and a template [{NUM_POINTS}, 3], "
            f"not {points.shape} and {template.shape}."
        )
    weights = np.zeros(NUM_POINTS)
    weights[list(RIGID_POINTS)] = 1
    scale, rotation, translation = fit_similarity(points.astype(np.float64), template.astype(np.float64), weights)
    aligned = scale[:, None, None] * (points @ np.swapaxes(rotation, -1, -2)) + translation[:, None]
    return (
        aligned.astype(np.float32),
        scale.astype(np.float32),
        rotation.astype(np.float32),
        translation.astype(np.float32),
    )


def rigid_restore(aligned: np.ndarray, scale: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Undo ``rigid_align``: give meshes their head pose and size back.

    Args:
        aligned: [F, N, 3] in the template's coordinates.
        scale: [F].
        rotation: [F, 3, 3].
        translation: [F, 3].

    Returns:
        float32 [F, N, 3] = (aligned - translation) @ rotation / scale, in pixels.
    """
    result: np.ndarray = (((aligned - translation[:, None]) @ rotation) / scale[:, None, None]).astype(np.float32)
    return result
