"""Flow matching of the embedded model with an emphasis on the opening of the mouth and on its extremes.

In the latents of a talking face, most of the variance is that of the jaw's slow motion; the few frames in which lips meet hardly count.
The opening of the mouth is a linear function of a frame's cells, so the error of the velocity tells the error of the opening. Its
square is added to the loss, and frames with closed or wide-open lips count more.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from fantasytalking.autoencoder.lip_contact import lip_gaps
from fantasytalking.autoencoder.mesh_codec import MeshCodec, wiener
from fantasytalking.perception.mesh_points import MOUTH_CORNER_LEFT, MOUTH_CORNER_RIGHT
from fantasytalking.training.flow_matching import FlowBatch, FlowMatching
from fantasytalking.training.trainer.config import TrainConfig
from fantasytalking.training.trainer.objective import Losses

__all__ = ["ArticulationMatching", "mouth_readout"]

CLOSED_WEIGHT, OPEN_WEIGHT = 4.0, 2.0  # of frames whose lips touch, and of the widest
NOISE = 0.5  # on the cells at which speech is told from them
CLOSED, WIDE = 0.03, 0.16  # openings in distances between the eyes


def mouth_readout(codec: MeshCodec, noise: float = 0.0) -> Tensor:
    """Linear map from a frame's expression cells [2 H W] to opening, gap at both sides and width of the mouth, [4, 2 H W].

    Args:
        codec: The fitted codec.
        noise: Standard deviation of noise on the cells for which the map is the best estimate; 0 gives the exact one.
    """
    gaps = lip_gaps(codec.basis)  # [K, 9]
    width = codec.basis[:, MOUTH_CORNER_LEFT, 0] - codec.basis[:, MOUTH_CORNER_RIGHT, 0]
    measures = torch.stack([gaps[:, 3:6].mean(1), gaps[:, :3].mean(1), gaps[:, 6:].mean(1), width])
    result: Tensor = measures @ wiener(codec.expression_cells, codec.coefficient_std, noise)
    return result


class ArticulationMatching(FlowMatching):
    """Objective of the embedded model's transformer.

    Args:
        config: Configuration of the run.
        codec: The fitted codec.
        weight: Weight of the term, relative to the loss of flow matching.
    """

    parts = ("lips", "rest", "opening")

    def __init__(self, config: TrainConfig, codec: MeshCodec, weight: float) -> None:
        super().__init__(config)
        self.weight = weight
        self.opening = mouth_readout(codec)[:1]
        # Unit rows: an error in the direction of speech counts as much as one in any other direction would, once more.
        self.directions = nn.functional.normalize(mouth_readout(codec, NOISE), dim=1)

    def extended(self, losses: Losses, prediction: Tensor, batch: FlowBatch) -> Losses:
        """Add the error of the mouth's opening and width."""
        latents, target = batch.samples.latents.float(), batch.target
        opening = _along(self.opening, latents)
        error = _along(self.directions, prediction.float() - target.velocity.float()).square()
        weight = 1 + (CLOSED_WEIGHT - 1) * (opening < CLOSED) + (OPEN_WEIGHT - 1) * (opening > WIDE)
        term = (error * weight).mean((1, 2, 3)) / weight.mean((1, 2, 3))
        return Losses(losses.total + self.weight * term, {**losses.parts, "opening": term}, losses.noise)


def _along(directions: Tensor, latents: Tensor) -> Tensor:
    """Expression cells of latents [B, C, f, h, w] along directions [n, 2 h w]: [B, f, s, n]."""
    cells = rearrange(latents[:, : latents.shape[1] // 2], "b (xy s) f h w -> b f s (xy h w)", xy=2)
    result: Tensor = cells @ directions.T.to(cells)
    return result
