"""Similarity transforms between point sets: rotation, scale, translation by weighted least squares (Umeyama 1991)."""

import numpy as np

from fantasytalking.errors import SettingsError
from fantasytalking.perception.mesh_points import NUM_POINTS, RIGID_POINTS


def similarity(
    points: np.ndarray, template: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds s, R, t that minimise sum_n w_n |s R p_n + t - q_n|^2, without reflection.

    Args:
        points: [..., N, D] p, D = 2 or 3.
        template: [N, D] or [..., N, D] q.
        weights: [N] w, not negative, at least D of them positive; None weights all alike.

    Returns:
        scale [...], rotation [..., D, D], translation [..., D], float64.

    Raises:
        SettingsError: for shapes that do not fit together, or weights of which none is positive.
    """
    p, q = np.asarray(points, dtype=np.float64), np.asarray(template, dtype=np.float64)
    if p.ndim < 2 or p.shape[-2:] != q.shape[-2:]:
        raise SettingsError(f"Points [..., N, D] and template [..., N, D] must agree, not {p.shape} and {q.shape}.")
    w = np.ones(p.shape[-2]) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != p.shape[-2:-1] or w.min() < 0 or w.sum() <= 0:
        raise SettingsError(
            f"Weights need shape {p.shape[-2:-1]}, no negative and some positive values; got {w.shape}."
        )
    w = (w / w.sum())[:, None]
    p_mean, q_mean = (w * p).sum(axis=-2, keepdims=True), (w * q).sum(axis=-2, keepdims=True)
    p, q = p - p_mean, q - q_mean
    u, singular, vt = np.linalg.svd(np.swapaxes(q, -1, -2) @ (w * p))
    # The last singular direction is turned where the best orthogonal matrix would be a mirror.
    sign = np.ones_like(singular)
    sign[..., -1] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * sign[..., None, :]) @ vt
    scale = (singular * sign).sum(axis=-1) / np.maximum((w * p**2).sum(axis=(-1, -2)), 1e-12)
    translation = q_mean[..., 0, :] - scale[..., None] * (rotation @ np.swapaxes(p_mean, -1, -2))[..., 0]
    return scale, rotation, translation


def rigid_align(
    points: np.ndarray, template: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Takes head pose and size out of face meshes: moves each frame onto a template, all frames at once.

    Args:
        points: [F, 468, 3] in pixels.
        template: [468, 3], for instance one frame of the same person.
        weights: [468], not negative; None weights the points that speech and expression hardly move (``RIGID_POINTS``).

    Returns:
        aligned float32 [F, 468, 3] = scale * points @ rotation^T + translation, in the template's coordinates; scale
        float32 [F]; rotation float32 [F, 3, 3]; translation float32 [F, 3].

    Raises:
        SettingsError: for other shapes.
    """
    points, template = np.asarray(points), np.asarray(template)
    if points.ndim != 3 or points.shape[1:] != (NUM_POINTS, 3) or template.shape != (NUM_POINTS, 3):
        raise SettingsError(
            f"Meshes need shape [F, {NUM_POINTS}, 3] and a template [{NUM_POINTS}, 3], "
            f"not {points.shape} and {template.shape}."
        )
    if weights is None:
        weights = np.zeros(NUM_POINTS)
        weights[list(RIGID_POINTS)] = 1
    scale, rotation, translation = similarity(points, template, weights)
    aligned = scale[:, None, None] * (points @ np.swapaxes(rotation, -1, -2)) + translation[:, None]
    return (
        aligned.astype(np.float32),
        scale.astype(np.float32),
        rotation.astype(np.float32),
        translation.astype(np.float32),
    )


def rigid_restore(aligned: np.ndarray, scale: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Undoes ``rigid_align``: gives meshes their head pose and size back.

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
