"""The motion of a segment goes on where that of the segment before has stopped."""

from __future__ import annotations

import torch
from torch import Tensor

from fantasytalking.autoencoder.interface import CONTINUED_FRAMES
from fantasytalking.autoencoder.mesh_codec import LIDS, POSE_DIMENSIONS

__all__ = ["EXPRESSION_FRAMES", "POSE_FRAMES", "SegmentJoin"]

POSE_FRAMES = 25.0
"""Frames in which what separates the head of two segments falls to a third."""
EXPRESSION_FRAMES = 6.0
"""The same for the expression, which speech tells anew at once."""
STEPS = 3
"""Steps behind a frame from whose mean its speed is told."""
SLOWING = 0.5
"""Step from the last frame of a segment to the first of the next one, over the steps before: segments end in pauses, where people come to
rest."""


class SegmentJoin:
    """Joins the motion of a video's segments.

    A model that is given the last frames of a segment begins the next ones near them, but not at them: over three minutes of the
    embedded model the face moves 1.7 times as fast at a seam as it usually does. What separates both is added to the frames behind the
    seam, and fades out.

    Attributes:
        last: Motion [n, P] of the last frames, as joined; none before the first segment.
    """

    def __init__(self) -> None:
        self.last = torch.zeros(0, 0)

    def joined(self, motion: Tensor, given: int) -> Tensor:
        """Join a segment.

        Args:
            motion: Motion numbers [F, P] of its frames, as they are shown.
            given: Frames of them that are the last ones of the segment before; 0 for a video's first segment.

        Returns:
            Those of its new frames, [F - given, P].
        """
        new = motion[given:]
        before = self.last if len(self.last) else motion[:given]
        if len(before) and len(new):
            steps = before[-STEPS - 1 :].diff(dim=0)
            step = SLOWING * steps.mean(0) if len(steps) else torch.zeros_like(before[-1])
            gap = before[-1] + step - new[0]
            gap[-LIDS:] = 0.0  # blinks are drawn for the whole video
            frames = torch.full_like(gap, EXPRESSION_FRAMES)
            frames[-LIDS - POSE_DIMENSIONS : -LIDS] = POSE_FRAMES
            new = new + gap * torch.exp(-torch.arange(len(new))[:, None] / frames)
        self.last = torch.cat([before, new])[-STEPS - 1 :]
        return new

    def begun(self, motion: Tensor) -> Tensor:
        """The same for the beginning of a video that continues another one, whose given frames are shown: [F, P] -> [F, P]."""
        return torch.cat([motion[:CONTINUED_FRAMES], self.joined(motion, CONTINUED_FRAMES)])
