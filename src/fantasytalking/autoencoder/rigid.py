"""Rotations of heads, and the rigid motion of a head in the image plane. The fit of meshes in space is `perception.alignment`'s."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.perception.alignment import fit_similarity
from fantasytalking.perception.mesh_points import RIGID_POINTS

__all__ = ["rotation_from_vector", "similarity_2d", "vector_from_rotation", "whole_motion"]

Array = NDArray[np.float32]


def rotation_from_vector(vector: Tensor) -> Tensor:
    """Rodrigues' formula: rotation vectors [..., 3] (radians) -> matrices [..., 3, 3]."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    result: Tensor = torch.linalg.matrix_exp(skew)
    return result


def vector_from_rotation(matrix: Tensor) -> Tensor:
    """Inverse of `rotation_from_vector` for angles below pi: [..., 3, 3] -> [..., 3] (radians)."""
    cosine = ((matrix.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)
    angle = torch.arccos(cosine)
    axis = torch.stack(
        [
            matrix[..., 2, 1] - matrix[..., 1, 2],
            matrix[..., 0, 2] - matrix[..., 2, 0],
            matrix[..., 1, 0] - matrix[..., 0, 1],
        ],
        -1,
    )
    # angle / (2 sin angle) -> 1/2 as the angle vanishes
    factor = torch.where(angle > 1e-4, angle / (2 * torch.sin(angle).clamp_min(1e-8)), torch.full_like(angle, 0.5))
    return axis * factor[..., None]


def similarity_2d(source: Array, target: Array) -> tuple[Array, Array]:
    """Least-squares ``target ~ source @ matrix.T + shift`` with matrix = scale * rotation, in closed form.

    In the plane no singular value decomposition is needed: with centred points s and t, ``a = sum s . t / sum s . s`` and
    ``b = sum s x t / sum s . s`` give ``matrix = [[a, -b], [b, a]]``.

    Args:
        source: [N, 2], not all in one place.
        target: [N, 2].

    Returns:
        matrix [2, 2] and shift [2].
    """
    mean_s, mean_t = source.mean(0), target.mean(0)
    s, t = source - mean_s, target - mean_t
    a = (s * t).sum() / (s * s).sum()
    b = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / (s * s).sum()
    matrix = np.array([[a, -b], [b, a]], np.float32)
    return matrix, (mean_t - matrix @ mean_s).astype(np.float32)


def whole_motion(mesh: Array, moved: Array) -> Array:
    """Meshes that move with the skull as the moved ones do, without any expression.

    Args:
        mesh: [468, 3].
        moved: [F, 468, 3].

    Returns:
        [F, 468, 3].
    """
    fixed = list(RIGID_POINTS)
    target = moved[:, fixed]
    scale, rotation, shift = fit_similarity(np.broadcast_to(mesh[fixed], target.shape), target)
    turned = np.einsum("fij,vj->fvi", rotation, mesh) * scale[:, None, None] + shift[:, None]
    return np.asarray(turned, np.float32)
