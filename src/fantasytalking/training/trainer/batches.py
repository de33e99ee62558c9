"""How a global batch is dealt to processes and forward passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fantasytalking.data.samples import Batch
from fantasytalking.training.trainer.flops import sample_flops
from fantasytalking.training.trainer.random_draws import StepDraws


@dataclass(frozen=True)
class Part:
    """What one forward pass sees of a global batch.

    Attributes:
        batch: collated samples.
        draws: of these samples.
        weight: factor of the sum of their losses; 0 for a filler that keeps the processes in step.
    """

    batch: Batch
    draws: StepDraws
    weight: float

    def operations(self, model: Mapping[str, Any], trained: float) -> float:
        """Floating point operations of one of the samples' training step, by formula.

        Args:
            model: configuration of the transformer.
            trained: share of its weights that train.
        """
        conditions, (frames, height, width) = self.batch.conditions, self.batch.latents.shape[2:]
        text = conditions.text.shape[1]
        speech = 0 if conditions.audio is None else conditions.audio.features.shape[1]
        image = 0 if conditions.image is None else conditions.image.shape[1]
        clip_level = conditions.audio is not None and conditions.audio.ranges is None
        return sample_flops(model, (frames, height, width), text, speech, image, clip_level).training(trained)


def shares(count: int, processes: int, accumulate: int, rank: int) -> list[list[int]]:
    """Rows of a global batch that one process takes, one list a forward pass.

    Every process gets equally many lists, some of them empty where there are fewer rows than passes; passes that nobody needs are left
    out.
    """
    pieces = processes * accumulate

    def rows(process: int, number: int) -> list[int]:
        i = process * accumulate + number
        return list(range(count * i // pieces, count * (i + 1) // pieces))

    needed = [n for n in range(accumulate) if any(rows(process, n) for process in range(processes))]
    return [rows(rank, n) for n in needed]
