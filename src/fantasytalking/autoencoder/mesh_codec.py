"""Face motion as a small latent video: the arithmetic of the embedded model's autoencoder.

A frame of a talking face is described by ``K`` expression coefficients (PCA of the pose-free displacement of the 468-point face mesh
from the same person's face with closed lips), six numbers of rigid head motion relative to the portrait, and the closure of both eyes.
They are laid out as displacement fields over a canonical face canvas, four frames to a latent frame, so that the transformer sees an
ordinary latent video of 16 channels:

    channel 4 * part + sub  with part in (expression dx, expression dy, head and lids dx, head and lids dy) and sub in 0..3

The map from coefficients to cells is linear and injective; decoding is its pseudo-inverse, so whatever the transformer
produces is projected onto shapes that a face can take. Expression does not depend on what the portrait's mouth does: zero latents are
the portrait's person with closed lips, and the portrait itself has the expression that `portrait_expression` tells from its mesh.

Letters: B batch, F video frames, f latent frames, V mesh points (468), K expression coefficients, P = K + 8 motion numbers,
H x W cells of the canvas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.autoencoder.interface import first_frame_mask
from fantasytalking.autoencoder.knots import through_knots
from fantasytalking.autoencoder.lids import close_lids, lid_closure
from fantasytalking.autoencoder.lip_contact import CLOSED_GAP, LIP_FEATURES, LipContact, lip_gaps, mean_lip_gap
from fantasytalking.autoencoder.rigid import rotation_from_vector, vector_from_rotation
from fantasytalking.geometry import Strides
from fantasytalking.perception.alignment import fit_similarity
from fantasytalking.perception.mesh_points import NUM_POINTS

POSE_DIMENSIONS = 6  # rotation vector (3), log scale (1), translation x, y (2)
LIDS = 2  # closure of the right and the left eye
CLOSED_SHARE = 0.15  # of a clip's frames, whose lips are taken for closed
KNOTS = 25  # of the map from generated to shown openings
PARTS = 4


def wiener(cells: Tensor, std: Tensor, noise: float) -> Tensor:
    """Linear estimate [P, cells] of x ~ N(0, std^2) from cells @ x + N(0, noise^2); the pseudo-inverse without noise."""
    scaled = cells * std
    gram = scaled.T @ scaled + noise**2 * torch.eye(len(std), device=cells.device)
    result: Tensor = std[:, None] * torch.linalg.solve(gram, scaled.T)
    return result


def smooth_over_time(values: Tensor, sigma: float) -> Tensor:
    """Smooth values [F, ...] over time with a Gaussian.

    Args:
        values: [F, ...].
        sigma: Standard deviation in frames; 0 leaves the values as they are.

    Returns:
        [F, ...]; at both ends the outermost value is repeated for the average.
    """
    if sigma <= 0:
        return values
    reach = max(1, int(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=values.device) / sigma) ** 2)
    flat = F.pad(values.flatten(1).T[:, None], (reach, reach), mode="replicate")
    result: Tensor = F.conv1d(flat, (kernel / kernel.sum())[None, None])[:, 0].T.unflatten(1, values.shape[1:])
    return result


@dataclass(frozen=True)
class MeshMotion:
    """Expression and head pose of face meshes.

    Attributes:
        expression: Coefficients [..., K].
        scale: [...], pixels per unit of the template.
        rotation: [..., 3, 3].
        translation: [..., 3] in pixels.
    """

    expression: Tensor
    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def __getitem__(self, index: slice | int) -> MeshMotion:
        return MeshMotion(self.expression[index], self.scale[index], self.rotation[index], self.translation[index])

    def pose_relative_to(self, portrait: MeshMotion) -> Tensor:
        """Head motion [F, 6] of F frames relative to one portrait."""
        turn = vector_from_rotation(self.rotation @ portrait.rotation.T)
        zoom = torch.log(self.scale / portrait.scale)[:, None]
        shift = (self.translation - portrait.translation)[:, :2] / portrait.scale
        return torch.cat([turn, zoom, shift], -1)


class MeshCodec(nn.Module):
    """Linear, invertible map between face meshes relative to a portrait and a latent video.

    Every array is a buffer, filled by `training.embedded.fit_codec.fit_mesh_codec` from the training split and stored with the
    weights. ``template`` is a frontal face whose eyes are one unit apart; x right, y down, z away from the camera.

    The arithmetic is float32 on the CPU, whatever device or type the model around it is moved to: it is small, it needs the
    precision, and the meshes come from NumPy.

    Args:
        coefficients: K.
        height: H.
        width: W.
        stride: Canvas pixels per cell.
    """

    template: Tensor
    weights: Tensor
    analysis: Tensor
    basis: Tensor
    layout: Tensor
    coefficient_std: Tensor
    expression_cells: Tensor
    pose_cells: Tensor
    shape_cells: Tensor
    pose_std: Tensor
    portrait_weights: Tensor
    opening_direction: Tensor
    opening_knots: Tensor
    pose_gain: Tensor

    def __init__(self, coefficients: int = 24, height: int = 8, width: int = 8, stride: int = 16) -> None:
        super().__init__()
        self.coefficients, self.height, self.width = coefficients, height, width
        self.strides = Strides(height=stride, width=stride)
        cells = 2 * height * width
        self.register_buffer("template", torch.zeros(NUM_POINTS, 3))
        self.register_buffer("weights", torch.ones(NUM_POINTS))  # of the points in the rigid fit: still points count
        self.register_buffer("analysis", torch.zeros(coefficients, NUM_POINTS, 3))  # displacement -> coefficients
        self.register_buffer("basis", torch.zeros(coefficients, NUM_POINTS, 3))  # coefficients -> displacement
        self.register_buffer("layout", torch.zeros(NUM_POINTS, 2))  # mesh points on the canvas, canvas pixels
        self.register_buffer("coefficient_std", torch.ones(coefficients))
        self.register_buffer("expression_cells", torch.eye(cells, coefficients))  # coefficients -> cells, scaled
        self.register_buffer("pose_cells", torch.eye(cells, POSE_DIMENSIONS + LIDS))
        self.register_buffer("shape_cells", torch.zeros(cells, 2 * NUM_POINTS))  # portrait shape -> cells, scaled
        self.register_buffer("pose_std", torch.ones(POSE_DIMENSIONS + LIDS))
        # shape of a portrait's mouth -> its expression
        self.register_buffer("portrait_weights", torch.zeros(coefficients, 3 * len(LIP_FEATURES) + 1))
        self.register_buffer("opening_direction", torch.zeros(coefficients))  # expression that opens the mouth by 1
        # openings as generated and as shown, and gains of head motion: chosen on training clips after training
        self.register_buffer("opening_knots", torch.linspace(-0.2, 1.0, KNOTS).expand(2, -1).clone())
        self.register_buffer("pose_gain", torch.ones(POSE_DIMENSIONS))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return self  # see the class: .to(), .half() and .cuda() of the model end here

    @property
    def channels(self) -> int:
        """Number of latent channels: `PARTS` fields for each frame of a group."""
        return PARTS * self.strides.time

    @property
    def audio_channels(self) -> Tensor:
        """Channels that speech guides, [C]: 1 for those of expression, 0 for those of head pose, which is weakly correlated with speech.

        Guidance of all channels would make the lips follow better, and the head shake.
        """
        half = self.channels // 2
        return torch.cat([torch.ones(half), torch.zeros(half)])

    @property
    def gram(self) -> Tensor:
        """Inner products of the basis [K, K]: the mean over points of their squared displacement is c^T gram c."""
        return torch.einsum("kvi,lvi->kl", self.basis, self.basis) / NUM_POINTS

    def local_shape(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take head pose out of meshes.

        Args:
            points: [..., V, 3] in pixels.

        Returns:
            local [..., V, 3] in template units, scale [...] (pixels per unit), rotation [..., 3, 3], translation [..., 3] (pixels).
        """
        scale, rotation, translation = fit_similarity(self.template, points, self.weights)
        centred = points - translation[..., None, :]
        local = torch.einsum("...ji,...vj->...vi", rotation, centred) / scale[..., None, None]
        return local, scale, rotation, translation

    def describe(self, points: Tensor) -> MeshMotion:
        """Split meshes [..., V, 3] in pixels into expression and pose, each mesh on its own."""
        local, scale, rotation, translation = self.local_shape(points)
        expression = torch.einsum("...vi,kvi->...k", local - self.template, self.analysis)
        return MeshMotion(expression, scale, rotation, translation)

    def lip_features(self, local: Tensor) -> Tensor:
        """What a portrait's expression is told from: pose-free meshes [..., V, 3] -> [..., 3 n + 1]."""
        chosen = (local - self.template)[..., list(LIP_FEATURES), :].flatten(-2)
        return F.pad(chosen, (0, 1), value=1.0)

    def gap_of(self, expression: Tensor) -> Tensor:
        """Opening of the mouth that expressions [..., K] mean, in distances between the eyes: [...]; 0 for closed lips."""
        return expression @ mean_lip_gap(self.basis)

    def expression_of(self, local: Tensor) -> Tensor:
        """Tell the expression of pose-free meshes [..., V, 3], each on its own, [..., K]: what opens or shapes a mouth, not whose it is.

        The opening itself is measured and not told from experience: lips that show a gap are that far from closed.
        """
        told = self.lip_features(local) @ self.portrait_weights.T
        measured = (mean_lip_gap(local) - 1.5 * CLOSED_GAP).clamp_min(0)
        return told + (measured - self.gap_of(told))[..., None] * self.opening_direction

    def clip_expression(self, local: Tensor) -> Tensor:
        """Expression [F, K] of the frames of one clip, from pose-free meshes [F, V, 3]: relative to its own most closed frames.

        In a clip that never closes its mouth the most closed frames are open by as much as the mesh shows.
        """
        closed = self.closed_mouth(local)
        opening = (mean_lip_gap(closed) - 1.5 * CLOSED_GAP).clamp_min(0)
        return torch.einsum("fvi,kvi->fk", local - closed, self.analysis) + opening * self.opening_direction

    @staticmethod
    def closed_mouth(local: Tensor) -> Tensor:
        """Mean pose-free mesh [V, 3] of the most closed frames of a clip [F, V, 3]."""
        gaps = mean_lip_gap(local)
        result: Tensor = local[gaps <= torch.quantile(gaps[:20000], CLOSED_SHARE)].mean(0)
        return result

    def portrait_expression(self, reference: Tensor) -> Tensor:
        """Expression [K] of a portrait's mesh [V, 3] in pixels."""
        return self.expression_of(self.local_shape(reference)[0])

    def parameters_of(self, points: Tensor, reference: Tensor) -> Tensor:
        """Motion numbers [F, P] of meshes [F, V, 3] with the portrait's mesh [V, 3], all of one person and in pixels."""
        frames, portrait = self.describe(points), self.describe(reference)
        expression = frames.expression - portrait.expression + self.portrait_expression(reference)
        return torch.cat([expression, frames.pose_relative_to(portrait), lid_closure(points, reference)], -1)

    def still(self, reference: Tensor) -> Tensor:
        """Motion numbers [P] of the still portrait, mesh [V, 3] in pixels."""
        return F.pad(self.portrait_expression(reference), (0, POSE_DIMENSIONS + LIDS))

    def points_of(self, parameters: Tensor, reference: Tensor) -> Tensor:
        """Inverse of `parameters_of`: motion numbers [F, P] and the portrait's mesh [V, 3] -> meshes [F, V, 3] in pixels.

        The portrait's own shape is kept exactly; only the motion is projected onto the basis. Lips meet where the motion closes them.
        """
        k = self.coefficients
        local0, scale0, rotation0, translation0 = self.local_shape(reference)
        expression, own = parameters[:, :k], self.expression_of(local0)
        local = local0 + torch.einsum("fk,kvi->fvi", expression - own, self.basis)
        pairs = lip_gaps(self.basis)
        local = LipContact.of_template(self.template)(
            local, local0, (expression @ pairs).clamp_min(0), (own @ pairs).clamp_min(0)
        )
        local = close_lids(local, parameters[:, k + POSE_DIMENSIONS :].clamp(0, 1))
        turn = rotation_from_vector(parameters[:, k : k + 3]) @ rotation0
        scale = scale0 * torch.exp(parameters[:, k + 3])
        shift = F.pad(parameters[:, k + 4 : k + 6] * scale0, (0, 1))
        return scale[:, None, None] * torch.einsum("fij,fvj->fvi", turn, local) + (translation0 + shift)[:, None, :]

    def shown(self, parameters: Tensor, gains: tuple[float, float] = (1.0, 1.0)) -> Tensor:
        """Motion numbers [..., P] as they are shown: openings and head motion as large as on the training clips, times two gains."""
        return self._calibrated(parameters, self._knots(gains[0]), gains[1] * self.pose_gain)

    def unshown(self, parameters: Tensor, gains: tuple[float, float] = (1.0, 1.0)) -> Tensor:
        """Inverse of `shown`, where it has one: what the transformer is given of frames that have been shown."""
        return self._calibrated(parameters, self._knots(gains[0]).flip(0), 1 / (gains[1] * self.pose_gain))

    def _knots(self, gain: float) -> Tensor:
        """Knots of the map of openings, those of parted lips enlarged."""
        x, y = self.opening_knots
        return torch.stack([x, torch.where(y > 0, gain * y, y)])

    def _calibrated(self, parameters: Tensor, knots: Tensor, gain: Tensor) -> Tensor:
        k, end = self.coefficients, self.coefficients + POSE_DIMENSIONS
        opened = self.with_openings(parameters, knots[0], knots[1])
        return torch.cat([opened[..., :k], opened[..., k:end] * gain, opened[..., end:]], -1)

    def with_openings(self, parameters: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Motion numbers [..., P] whose openings are mapped through rising knots (x, y), lips and jaw together."""
        k = self.coefficients
        opening = self.gap_of(parameters[..., :k])
        change = (through_knots(opening, x, y) - opening)[..., None] * self.opening_direction
        return torch.cat([parameters[..., :k] + change, parameters[..., k:]], -1)

    def with_lids(self, latents: Tensor, closure: Tensor) -> Tensor:
        """Latents [C, f, H, W] with other lids: closure of both eyes [F, 2] instead of what the latents have."""
        parameters = self.from_latents(latents[None], noise=0.0)[0]
        change = torch.zeros_like(parameters)
        change[:, -LIDS:] = closure - parameters[:, -LIDS:]
        return latents + self.to_latents(change[None])[0].to(latents)

    def to_latents(self, parameters: Tensor) -> Tensor:
        """Lay motion numbers [B, F, P], F = 4 f - 3, out as latents [B, 16, f, H, W]; frame 0 fills its group by repetition."""
        k, group = self.coefficients, self.strides.time
        first = repeat(parameters[:, :1], "b 1 p -> b s p", s=group - 1)
        grouped = rearrange(torch.cat([first, parameters], 1), "b (f s) p -> b f s p", s=group)
        expression = grouped[..., :k] @ self.expression_cells.T
        pose = grouped[..., k:] @ self.pose_cells.T
        fields = torch.stack([expression, pose], -2)  # b f s part (xy h w)
        return rearrange(
            fields, "b f s part (xy h w) -> b (part xy s) f h w", xy=2, h=self.height, w=self.width
        ).contiguous()

    def from_latents(self, latents: Tensor, noise: float = 0.05) -> Tensor:
        """Inverse of `to_latents`: [B, 16, f, H, W] -> [B, 4 f - 3, P].

        The most probable motion for latents with Gaussian error of standard deviation `noise` (Wiener): rare, fine components are
        not amplified by the noise that the transformer leaves. With `noise` 0 it is the exact inverse.
        """
        fields = rearrange(
            latents.float(), "b (part xy s) f h w -> b f s part (xy h w)", part=2, xy=2, s=self.strides.time
        )
        expression = fields[..., 0, :] @ wiener(self.expression_cells, self.coefficient_std, noise).T
        pose = fields[..., 1, :] @ wiener(self.pose_cells, self.pose_std, noise).T
        grouped = rearrange(torch.cat([expression, pose], -1), "b f s p -> b (f s) p")
        return grouped[:, self.strides.time - 1 :]

    def condition(self, shape: Tensor, latents: Tensor, given: int = 1) -> Tensor:
        """Make image latents: mask of the given frames, the portrait's shape, and on given frames their motion added to it.

        Args:
            shape: The portrait's cells, from `shape_cells_of`.
            latents: [C, f, H, W], of which only the first `given` latent frames are read.
            given: Number of given latent frames, at least 1; the first shows the portrait with its own expression.

        Returns:
            [4 + C, f, H, W].
        """
        mask = first_frame_mask(1, latents.shape[1], self.height, self.width, self.strides.time, given)[0].to(latents)
        shown = self.shape_latents(shape).to(latents).expand(-1, latents.shape[1], -1, -1)
        return torch.cat([mask, shown + mask[:1] * latents])

    def shape_cells_of(self, points: Tensor) -> Tensor:
        """Pose-free shape with closed lips, and pose, of meshes [..., V, 3] as cells [..., part, 2 H W] (see `shape_latents`)."""
        local, _, rotation, _ = self.local_shape(points)
        local = local - torch.einsum("...k,kvi->...vi", self.expression_of(local), self.basis)
        shape = (local - self.template)[..., :2].transpose(-1, -2).flatten(-2) @ self.shape_cells.T
        turn = F.pad(vector_from_rotation(rotation), (0, POSE_DIMENSIONS + LIDS - 3))
        return torch.stack([shape, turn @ self.pose_cells.T], -2)

    def shape_latents(self, cells: Tensor) -> Tensor:
        """Lay a portrait's shape out for the transformer: cells from `shape_cells_of`, [part, 2 H W] -> latents [16, 1, H, W].

        Without it a displacement says nothing about the mouth: a portrait may smile or be open-mouthed already.
        """
        return repeat(
            cells, "part (xy h w) -> (part xy s) 1 h w", xy=2, h=self.height, w=self.width, s=self.strides.time
        ).contiguous()
