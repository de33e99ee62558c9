"""Random draws of a training step, which depend only on the seed, the step and the index of the sample in the global batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fantasytalking.data.condition_dropout import Dropout
from fantasytalking.flow import shifted


def generator_for(*key: int) -> torch.Generator:
    """Torch generator seeded by several integers."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def sample_sigmas(batch: int, shift: float, generator: torch.Generator) -> Tensor:
    """Draw noise levels [B] in (0, 1): uniform, one from each of B equal strata (less variance), then shifted as at inference."""
    u = (torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)) / batch
    return shifted(u, shift)


def sample_rng(seed: int, step: int, index: int) -> np.random.Generator:
    """Generator with which a source draws sample `index` of a step's global batch."""
    return np.random.default_rng((seed, step, index))


@dataclass(frozen=True)
class StepDraws:
    """Draws for all samples of a global batch, or for some of them.

    Attributes:
        seed: Seed of the run.
        step: Global step.
        rows: Indices of the samples in the global batch.
        sigma: Noise levels [B], one from each stratum over the global batch.
        kept: Draws of the condition dropout [B, 3]: 0 where reference, audio or text is dropped, 1 elsewhere.
        lips: Draws p [B] in 0..1 that decide whether the lip mask applies.
    """

    seed: int
    step: int
    rows: Sequence[int]
    sigma: Tensor
    kept: Tensor
    lips: Tensor

    @classmethod
    def draw(
        cls, seed: int, step: int, count: int, shift: float, dropout: Dropout, rows: Sequence[int] | None = None
    ) -> StepDraws:
        """Draw for a global batch of `count` samples and keep those of `rows`; None keeps all."""
        generator = generator_for(seed, step)
        sigma = sample_sigmas(count, shift, generator)
        probabilities = torch.tensor([dropout.reference, dropout.audio, dropout.text])
        kept = (torch.rand(count, 3, generator=generator) >= probabilities).float()
        lips = torch.rand(count, generator=generator)
        index = list(range(count) if rows is None else rows)
        return cls(seed, step, index, sigma[index], kept[index], lips[index])

    def noise(self, shape: Sequence[int]) -> Tensor:
        """Gaussian noise [B, *shape], each sample with its own generator."""
        return torch.stack(
            [torch.randn(tuple(shape), generator=generator_for(self.seed, self.step, i, 1)) for i in self.rows]
        )
