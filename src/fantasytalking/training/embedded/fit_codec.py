"""Fit of the mesh codec to face tracks: template, expression basis, canvas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder.lids import EYES, LID_POINTS
from fantasytalking.autoencoder.lip_contact import CLOSED_GAP, mean_lip_gap
from fantasytalking.autoencoder.mesh_codec import LIDS, MeshCodec
from fantasytalking.autoencoder.rigid import vector_from_rotation
from fantasytalking.data.face_tracks import TRACK_FPS, FaceTrack
from fantasytalking.errors import InputError
from fantasytalking.perception.landmarks import FACE_OVAL, LEFT_EYE, LIPS_INNER, LIPS_OUTER, RIGHT_EYE

LIP_EMPHASIS = 4.0  # weight of lip points in the expression basis: they carry the speech, and there are few of them
RIDGE = 1e-4  # penalty on the weights from shape to expression, relative to the number of frames
LID_STD = 0.3  # of a closure, in a clip with blinks
MOUTH_MAGNIFICATION = 0.55  # exponent of the radial map that enlarges the mouth on the canvas (1: no change)
BLOCK = 24  # frames taken from each clip


def _choose(tracks: Sequence[FaceTrack], per_identity: int, rng: np.random.Generator) -> list[Tensor]:
    """Draw the same number of tracks (with replacement) from each identity; meshes [F, 468, 3] of whole tracks.

    Raises:
        InputError: Every track is shorter than a block.
    """
    by_identity: dict[str, list[FaceTrack]] = {}
    for track in tracks:
        if len(track.points) >= BLOCK:
            by_identity.setdefault(track.info.identity, []).append(track)
    if not by_identity:
        raise InputError(
            f"The mesh codec needs clips of at least {BLOCK / TRACK_FPS:.2f} s with a face, but none of the {len(tracks)} is that long."
        )
    groups = by_identity.values()
    return [torch.from_numpy(group[rng.integers(len(group))].points) for group in groups for _ in range(per_identity)]


def _frames(clips: Sequence[Tensor], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Numbers of `BLOCK` frames of each clip, in order."""
    return [np.sort(rng.choice(len(clip), BLOCK, replace=False)) for clip in clips]


def _frontal(template: Tensor) -> Tensor:
    """Turn a template to face the camera with level eyes, the eyes one unit apart and their midpoint at the origin."""
    right, left = template[list(RIGHT_EYE)].mean(0), template[list(LEFT_EYE)].mean(0)
    if right[0] > left[0]:
        right, left = left, right
    x = left - right
    chin_to_top = template[152] - template[10]
    x = x / x.norm()
    y = chin_to_top - (chin_to_top @ x) * x
    y = y / y.norm()
    z = torch.linalg.cross(x, y)
    result: Tensor = (template - (left + right) / 2) @ torch.stack([x, y, z], 1) / (left - right).norm()
    return result


def _fit_template(codec: MeshCodec, blocks: Tensor, rounds: int = 6) -> Tensor:
    """Fit the template by generalised Procrustes, where points that move within a clip lose weight; returns pose-free blocks."""
    n, b = blocks.shape[:2]
    start = blocks[:, 0]
    start = (start - start.mean(1, keepdim=True)) / (start - start.mean(1, keepdim=True)).norm(dim=(1, 2), keepdim=True)
    codec.template.copy_(_frontal(start.mean(0)))
    for _ in range(rounds):
        local = codec.local_shape(blocks.flatten(0, 1))[0].unflatten(0, (n, b))
        variance = local.var(1).sum(-1).mean(0)
        codec.weights.copy_(1 / (variance + 0.25 * variance.median()))
        codec.template.copy_(_frontal(local.mean((0, 1))))
    result: Tensor = codec.local_shape(blocks.flatten(0, 1))[0].unflatten(0, (n, b))
    return result


def _fit_basis(codec: MeshCodec, local: Tensor, closed: Tensor, rng: np.random.Generator) -> Tensor:
    """Fit the basis by PCA of displacements from the clip's closed mouth, lips emphasised; returns coefficients [N, BLOCK, K].

    Lids move on their own (`autoencoder.lids`), so their points have no part in expression.
    """
    emphasis = torch.ones(codec.template.shape[0])
    emphasis[list(LIPS_INNER) + list(LIPS_OUTER)] = LIP_EMPHASIS
    root = emphasis.sqrt()[:, None]
    carried = torch.ones_like(root)
    carried[list(LID_POINTS)] = 0.0
    displacement = ((local - closed[:, None]) * root * carried).flatten(0, 1).flatten(1)
    some = torch.from_numpy(rng.permutation(len(displacement))[:6000])
    _, _, vh = torch.linalg.svd(displacement[some], full_matrices=False)
    components = vh[: codec.coefficients].unflatten(1, (-1, 3))
    codec.analysis.copy_(components * root)
    codec.basis.copy_(components / root)
    return torch.einsum("nbvi,kvi->nbk", local - closed[:, None], codec.analysis)


def _fit_opening(codec: MeshCodec, coefficients: Tensor) -> None:
    """Fit the expression that goes with opening the mouth by one unit: the regression of expression on the opening."""
    flat = coefficients.flatten(0, 1)
    opening = codec.gap_of(flat)
    direction = (flat * opening[:, None]).mean(0) / opening.square().mean()
    codec.opening_direction.copy_(direction / codec.gap_of(direction))


def _fit_portrait(codec: MeshCodec, local: Tensor, coefficients: Tensor) -> None:
    """Fit the ridge regression from the shape of a mouth to its expression, over all people."""
    features = codec.lip_features(local.flatten(0, 1)).double()
    target = coefficients.flatten(0, 1).double()
    penalty = RIDGE * len(features) * torch.eye(features.shape[1], dtype=torch.float64)
    penalty[-1, -1] = 0.0
    weights = torch.linalg.solve(features.T @ features + penalty, features.T @ target)
    codec.portrait_weights.copy_(weights.T.float())


def _fit_layout(codec: MeshCodec, coefficients: Tensor) -> None:
    """Place the mesh on the canvas: frontal, with the mouth half open and magnified so that the lips have cells of their own."""
    std = coefficients.flatten(0, 1).std(0)
    opening = (codec.basis[:, 14, 1] - codec.basis[:, 13, 1]) * std
    jaw = int(opening.abs().argmax())
    shape = codec.template + 1.5 * torch.sign(opening[jaw]) * std[jaw] * codec.basis[jaw]
    mouth = shape[list(LIPS_INNER), :2].mean(0)
    offset = shape[:, :2] - mouth
    radius = offset.norm(dim=1, keepdim=True).clamp_min(1e-6)
    largest = radius[list(FACE_OVAL)].max()
    offset = offset * (radius / largest) ** (MOUTH_MAGNIFICATION - 1)
    size = torch.tensor([codec.width, codec.height]) * codec.strides.width
    low, high = offset.min(0).values, offset.max(0).values
    codec.layout.copy_((offset - low) / (high - low) * (size - 1))


def _fit_cells(codec: MeshCodec, local: Tensor, coefficients: Tensor, pose_std: Tensor) -> None:
    """Fit the linear maps to cells: Gaussian means of point displacements, scaled to about unit variance."""
    stride = codec.strides.width
    ys, xs = torch.meshgrid(torch.arange(codec.height), torch.arange(codec.width), indexing="ij")
    centres = (torch.stack([xs, ys], -1).flatten(0, 1) + 0.5) * stride
    distance = torch.cdist(centres.float(), codec.layout)
    gather = torch.softmax(-(distance**2) / (2 * (0.6 * stride) ** 2), 1)  # [HW, V]
    cells = torch.cat([gather @ codec.basis[:, :, axis].T for axis in (0, 1)])  # [2HW, K]
    codec.coefficient_std.copy_(coefficients.flatten(0, 1).std(0))
    std = (coefficients.flatten(0, 1) @ cells.T).std(0)
    cells = (
        cells / std.sqrt()[:, None]
    )  # halfway between equal weight for all cells and unscaled displacements, where the mouth dominates
    codec.expression_cells.copy_(cells / (coefficients.flatten(0, 1) @ cells.T).square().mean().sqrt())
    x, y, z = (gather @ codec.template).unbind(1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    # Displacement of a point under small rotations about x, y, z, zoom and shift.
    jacobian_x = torch.stack([zero, z, -y, x, one, zero], 1)
    jacobian_y = torch.stack([-z, zero, x, y, zero, one], 1)
    jacobian = torch.cat([jacobian_x, jacobian_y])
    lids = torch.stack(
        [torch.cat([torch.zeros(len(gather)), gather[:, list(upper)].sum(1)]) for (upper, _), _ in EYES], 1
    )
    # What the lids add must not look like a turn of the head. PyTorch's default driver begins with pivots that it has not initialised,
    # and rounds differently from call to call.
    turns = torch.linalg.lstsq(jacobian, lids, driver="gels").solution
    jacobian = torch.cat([jacobian, lids - jacobian @ turns], 1)
    jacobian = jacobian / jacobian.norm(dim=0) * (len(jacobian) / jacobian.shape[1]) ** 0.5
    codec.pose_std.copy_(torch.cat([pose_std, torch.full((LIDS,), LID_STD)]))
    codec.pose_cells.copy_(jacobian / codec.pose_std)
    block = torch.block_diag(gather, gather)
    flat = local[:, 0] - torch.einsum("nk,kvi->nvi", codec.expression_of(local[:, 0]), codec.basis)
    shape = (flat - codec.template)[..., :2].transpose(1, 2).flatten(1) @ block.T
    codec.shape_cells.copy_(block / shape.std(0)[:, None].clamp_min(1e-4))


@torch.no_grad()
def fit_mesh_codec(codec: MeshCodec, tracks: Sequence[FaceTrack], per_identity: int = 6, seed: int = 0) -> None:
    """Fill the buffers of `codec` from tracks of the training split, with equal weight for each identity.

    Args:
        codec: Codec whose sizes set the number of coefficients and cells.
        tracks: Tracks in pixels; only `points` and `info.identity` are read.
        per_identity: Number of blocks of `BLOCK` frames from each identity.
        seed: Seed of the choice of frames.

    Raises:
        InputError: No track is as long as a block.
    """
    rng = np.random.default_rng(seed)
    clips = _choose(tracks, per_identity, rng)
    chosen = _frames(clips, rng)
    blocks = torch.stack([clip[torch.from_numpy(frames)] for clip, frames in zip(clips, chosen, strict=True)])
    local = _fit_template(codec, blocks)
    closed = torch.stack([codec.closed_mouth(codec.local_shape(clip)[0]) for clip in clips])
    coefficients = _fit_basis(codec, local, closed, rng)
    _fit_opening(codec, coefficients)
    rest = (mean_lip_gap(closed) - 1.5 * CLOSED_GAP).clamp_min(0)
    coefficients = coefficients + rest[:, None, None] * codec.opening_direction
    _fit_portrait(codec, local, coefficients)
    _fit_layout(codec, coefficients)
    _, scale, rotation, translation = codec.local_shape(blocks)
    turn = vector_from_rotation(rotation @ rotation[:, :1].transpose(-1, -2))
    zoom = torch.log(scale / scale[:, :1])[..., None]
    shift = (translation - translation[:, :1])[..., :2] / scale[:, :1, None]
    pose = torch.cat([turn, zoom, shift], -1)[:, 1:].flatten(0, 1)
    _fit_cells(codec, local, coefficients, pose.std(0))
