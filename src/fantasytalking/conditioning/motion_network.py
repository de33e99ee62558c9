"""Embedding of the motion intensities, which is added to the timestep embedding (paper section 3.4).

"An MLP per coefficient, concatenated, a ResNet layer, average pooling": the two embeddings are concatenated as a
sequence of two, the ResNet layer convolves along it, and the pooling averages it away. Sizes are our choice.
Letters: B batch, d width of the timestep embedding.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch import nn

NEUTRAL_INTENSITY = 0.5


class MotionNetwork(nn.Module):
    """Embeds the motion intensities of face and body; an untrained one returns zeros.

    Args:
        dim: Width d of the timestep embedding.
        hidden_dim: Width inside the network.
    """

    def __init__(self, dim: int, hidden_dim: int = 256) -> None:
        super().__init__()
        self.face_mlp = _coefficient_mlp(hidden_dim)
        self.body_mlp = _coefficient_mlp(hidden_dim)
        self.residual = nn.Sequential(
            nn.SiLU(),
            nn.Conv1d(hidden_dim, hidden_dim, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.Conv1d(hidden_dim, hidden_dim, kernel_size=3, padding=1),
        )
        self.out = nn.Linear(hidden_dim, dim)
        self.reset_output()

    def reset_output(self) -> None:
        """Zero the last layer, so that the network adds nothing until it is trained."""
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, motion: torch.Tensor) -> torch.Tensor:
        """Map intensities [B, 2] (face, body) in 0..1 to [B, d]."""
        centred = (motion - NEUTRAL_INTENSITY) * 2
        face, body = self.face_mlp(centred[:, :1]), self.body_mlp(centred[:, 1:])
        pair = rearrange([face, body], "two b d -> b d two")
        pair = pair + self.residual(pair)
        result: torch.Tensor = self.out(reduce(pair, "b d two -> b d", "mean"))
        return result


def _coefficient_mlp(hidden_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(1, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, hidden_dim))
