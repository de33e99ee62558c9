"""Contact of the lips: gaps between the lips of a moved mesh become what its expression asks for, whatever the portrait's mouth does.

The portrait's shape is kept exactly and its motion is projected onto a basis, so that a mouth that is closed in the motion could stay
open by what basis and portrait differ in. Here each pair of inner-lip points gets the gap that the expression means, and the lips and
the jaw around them follow smoothly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fantasytalking.perception.mesh_points import INNER_LIP_PAIRS, INNER_LIPS, LIPS_INNER, LIPS_OUTER

__all__ = ["CLOSED_GAP", "LIP_FEATURES", "LipContact", "lip_gaps", "mean_lip_gap"]

CLOSED_GAP = 0.02
"""Gap that the mesh network shows between closed lips, in distances between the eyes (0.01 to 0.04 on footage)."""
LIP_FEATURES = (*LIPS_INNER, *LIPS_OUTER, 152, 148, 377, 1, 2)
"""Points from which a portrait's expression is told: lips, chin and the tip of the nose."""
UPPER_SHARE = 0.35  # share of a change of the gap that the upper lip makes; the jaw makes the rest
UPPER_REACH, LOWER_REACH, BLUR = (
    0.12,
    0.28,
    0.1,
)  # distances over which skin follows the lips, in distances between the eyes
NEAR = 0.02  # the portrait's own gap holds for openings that differ by about this much from its own


def lip_gaps(local: Tensor) -> Tensor:
    """Vertical gaps between the inner lips of pose-free meshes [..., 468, 3] -> [..., 9]."""
    upper, lower = INNER_LIPS
    return local[..., list(lower), 1] - local[..., list(upper), 1]


def mean_lip_gap(local: Tensor) -> Tensor:
    """Mean vertical gap in the middle of the mouth, pose-free meshes [..., 468, 3] (or displacements) -> [...]."""
    upper, lower = (list(side) for side in zip(*INNER_LIP_PAIRS, strict=True))
    return (local[..., lower, 1] - local[..., upper, 1]).mean(-1)


@dataclass(frozen=True)
class LipContact:
    """Sets the gaps of moved meshes.

    Attributes:
        follow: Displacement of every point for a change of one in each pair's gap, [468, 9] (vertical).
    """

    follow: Tensor

    @classmethod
    def of_template(cls, template: Tensor) -> LipContact:
        """Make the weights from a frontal face [468, 3] whose eyes are one unit apart."""
        upper, lower = (template[list(side), :2] for side in INNER_LIPS)
        points = template[:, :2]
        follow = torch.zeros(len(template), len(upper))
        to_upper, to_lower = torch.cdist(points, upper), torch.cdist(points, lower)
        is_upper = to_upper.min(1).values < to_lower.min(1).values
        for distance, reach, share, chosen in (
            (to_upper, UPPER_REACH, -UPPER_SHARE, is_upper),
            (to_lower, LOWER_REACH, 1 - UPPER_SHARE, ~is_upper),
        ):
            blend = torch.softmax(-(distance**2) / (2 * BLUR**2), 1)
            fade = torch.exp(-(distance.min(1).values ** 2) / (2 * reach**2))
            follow[chosen] = (share * fade[:, None] * blend)[chosen]
        for side, share in zip(INNER_LIPS, (-UPPER_SHARE, 1 - UPPER_SHARE), strict=True):
            follow[list(side)] = share * torch.eye(len(side))
        return cls(follow)

    def __call__(self, moved: Tensor, portrait: Tensor, wanted: Tensor, own: Tensor) -> Tensor:
        """Give moved meshes the gaps that their expression means.

        Args:
            moved: Pose-free meshes [F, 468, 3].
            portrait: The portrait's [468, 3].
            wanted: Gaps that the expression of each frame means, [F, 9]; 0 for lips that touch.
            own: The same for the portrait's own expression, [9].

        Returns:
            [F, 468, 3]; a frame with the portrait's own expression keeps the portrait's gaps exactly.
        """
        shown = lip_gaps(portrait)
        middle = float(mean_lip_gap(portrait))
        open_share = min(max((middle - 1.5 * CLOSED_GAP) / (2 * CLOSED_GAP), 0.0), 1.0)
        # Closed lips are as far apart as the photo shows them, or touch; open ones also have the gap that the network shows of closed ones.
        opened = CLOSED_GAP * (wanted / (3 * CLOSED_GAP)).clamp(0, 1)
        base = shown * (1 - open_share) + opened * open_share
        difference = (wanted - own).abs().mean(-1, keepdim=True)
        own_size = own.clamp_min(0).mean().clamp_min(CLOSED_GAP)
        alike = torch.maximum(
            torch.exp(-0.5 * (difference / NEAR) ** 2),
            (wanted.mean(-1, keepdim=True) / own_size).clamp(0, 1) * open_share,
        )
        own_base = shown * (1 - open_share) + CLOSED_GAP * (own / (3 * CLOSED_GAP)).clamp(0, 1) * open_share
        target = (base + wanted + alike * (shown - own_base - own)).clamp_min(0)
        target = torch.maximum(target, torch.minimum(base, shown))
        change = target - lip_gaps(moved)
        result = moved.clone()
        result[..., 1] += change @ self.follow.T
        return result
