"""Random draws of a run: functions of the seed and the part of the run, and within a step of the step and the sample's index.

No part draws from the global random states of torch, NumPy and Python: a resumed run skips parts, and they would be in another state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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


def part_seed(seed: int, part: str) -> int:
    """Seed of a part of a run, 63 bits.

    Args:
        seed: Seed of the run.
        part: Name of the part.
    """
    state = np.random.SeedSequence((seed, *part.encode())).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


@contextmanager
def seeded(seed: int, part: str, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's global generators for a block, and give them back as they were.

    For what takes no generator: the initial weights of a module, dropout.

    Args:
        seed: Seed of the run.
        part: Name of the part of the run, such as "painter".
        device: CUDA device whose generator is seeded as well; None seeds the CPU's alone.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # Not torch.manual_seed, which also seeds every other device, for good.
        torch.default_generator.manual_seed(part_seed(seed, part))
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(part_seed(seed, part))
        yield


def undrawn() -> AbstractContextManager[None]:
    """Give torch's global generator back as it was after a block that builds a module only to load its weights."""
    return torch.random.fork_rng(devices=[])


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
