"""The head of a video returns to where the portrait has it."""

from __future__ import annotations

import torch
from torch import Tensor

from fantasytalking.autoencoder.mesh_codec import LIDS, POSE_DIMENSIONS

__all__ = ["SETTLED", "HeadDrift"]

SETTLED = 75
"""Frames, 3 s, in which a lasting turn of the head is let go of: as long as most clips of the training set, so what the model has learned
of a head's motion is left. With 8 s the pitch of the first 10 s of a long video still differs from the later ones by 3 degrees, with 3 s
by 1.5."""

BEGINNING, LEAST = 25, 16
"""Frames from which it is told where the head goes as soon as it leaves the photo's pose, and how many of them there must be."""


class HeadDrift:
    """Where the head of one video has been lately relative to the portrait, and what that leaves of its motion.

    The clips that the model has learned from do not tell where a head is half a minute later. On its own the head goes to where heads
    usually are, whatever the portrait's does: that of the example rises by 4 degrees within a second and by 7 within 20, and stays there.

    Attributes:
        lately: Pose [6] that is taken away: a mean of the poses before, where that of `SETTLED` frames ago weighs 1 / e of the last.
    """

    def __init__(self) -> None:
        self.lately = torch.zeros(POSE_DIMENSIONS)

    def begin(self, motion: Tensor) -> None:
        """Take it for lasting where the head is in the first second of a new video.

        Args:
            motion: Motion numbers [F, P] that `without` is given next; where there are fewer than 16 nothing is told.
        """
        if len(motion) >= LEAST:
            self.lately = motion[:BEGINNING, -LIDS - POSE_DIMENSIONS : -LIDS].mean(0)

    def without(self, motion: Tensor) -> Tensor:
        """Motion numbers [F, P] of the next frames, as they are shown, whose pose [6] has lost its lasting part."""
        poses = motion[:, -LIDS - POSE_DIMENSIONS : -LIDS].clone()
        for pose in poses:
            self.lately = self.lately + (pose - self.lately) / SETTLED
            pose -= self.lately
        return torch.cat([motion[:, : -LIDS - POSE_DIMENSIONS], poses, motion[:, -LIDS:]], -1)
