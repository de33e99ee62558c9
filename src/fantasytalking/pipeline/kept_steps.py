"""The sampling of a long video as a whole, kept beside its output while it lasts: an interrupted run goes on after its last kept step.

Letters: B samples, C latent channels, f latent frames, h and w latent rows and columns.
"""

from __future__ import annotations

import time

from torch import Tensor

from fantasytalking.pipeline.unfinished_run import UnfinishedRun

__all__ = ["KeptSteps"]

_SHARE = 0.05
"""Share of the time of sampling that storing latents may take."""


class KeptSteps:
    """The steps that are finished: after some of them, and after the last one, the latents are stored.

    Args:
        unfinished: Folder of the run; None in a process that shares the work and stores nothing.
        seed: Seed of the run, for people who look.

    Attributes:
        done: Number of steps that are kept.
        count: Number of all steps; 0 until the sampling begins.
    """

    def __init__(self, unfinished: UnfinishedRun | None, seed: int) -> None:
        self._unfinished, self._seed = unfinished, seed
        self._keeps_each = False
        self._next = 0.0
        self.done, self.count = unfinished.steps if unfinished is not None else 0, 0

    def begin(self, noise: Tensor, count: int, keeps_each: bool) -> tuple[int, Tensor]:
        """Where the sampling begins: the number of steps that are done, and the latents after them.

        Args:
            noise: [B, C, f, h, w] that an uninterrupted run begins with.
            count: Number of all steps.
            keeps_each: Whether a sampling can go on from the latents after any step; otherwise only those after the last one are kept.
        """
        self.count, self._keeps_each = count, keeps_each
        if not self.done or self._unfinished is None:
            return 0, noise
        return self.done, self._unfinished.load_state()["latents"].to(noise)

    def keep(self, done: int, latents: Tensor) -> None:
        """Store the latents after a step, unless that would take too large a share of the time.

        Args:
            done: Number of steps that are done.
            latents: [B, C, f, h, w].

        Raises:
            OutputError: The disk is full.
        """
        if self._unfinished is None:
            return
        start = time.monotonic()
        if done < self.count and (not self._keeps_each or start < self._next):
            return
        self._unfinished.sampled(latents, done, self._seed)
        self.done = done
        end = time.monotonic()
        self._next = end + (end - start) / _SHARE
