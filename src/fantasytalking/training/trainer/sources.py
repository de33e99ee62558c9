"""Sources of training samples, and the order of the samples.

Order and content depend only on seed and step, never on the number of processes or on earlier draws: a batch is one global list of
keys, and its sample i is drawn with its own generator. A resumed run is therefore identical to an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fantasytalking.data.samples import Sample
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.geometry import TIME_STRIDE

Draw = Callable[[np.random.Generator], Sample]


class Source(Protocol):
    """Data that `Trainer` trains on; a source and its objective agree on how a key becomes a sample.

    A source may have an attribute `fingerprint`, a checksum of its data: it is stored in the run folder, and a run is not resumed on
    other data.
    """

    def plan(self, step: int) -> Sequence[Any]:
        """Keys of the global batch of a step; they depend only on seed and step."""
        ...


class SampleSource(Source, Protocol):
    """Source of transformer samples; all keys of a step have the same latent size."""

    def sample(self, key: Any, rng: np.random.Generator) -> Sample:
        """Draw the sample of a key with `rng`, the generator of this sample."""
        ...


@dataclass(frozen=True)
class WindowSource:
    """Source of random windows: every step draws a window length, every sample a window of that length.

    Attributes:
        draws: Window length in frames (4n+1) -> function that draws one sample.
        frames: Window lengths, one of which is drawn for each step; a length listed twice is drawn twice as often.
        batch_tokens: Latent frames per batch; the batch size is this divided by the latent frames of a window, at least 1.
        seed: Seed of the draw of lengths.
        fingerprint: Checksum of the data; None if unknown.
    """

    draws: Mapping[int, Draw]
    frames: tuple[int, ...]
    batch_tokens: int
    seed: int = 0
    fingerprint: str | None = None

    def plan(self, step: int) -> Sequence[int]:
        """Window length of a step, once for each sample."""
        frames = int(np.random.default_rng((self.seed, step)).choice(self.frames))
        return [frames] * max(1, self.batch_tokens // ((frames - 1) // TIME_STRIDE + 1))

    def sample(self, key: int, rng: np.random.Generator) -> Sample:
        """Draw one window of a given length."""
        return self.draws[key](rng)


@dataclass(frozen=True)
class BucketPlan:
    """Batches of a data set whose items have several sizes, epoch by epoch.

    In each epoch the items of a bucket are shuffled and split into batches, and the batches of all buckets are shuffled. Every epoch has
    the same number of batches, so the epoch of a step follows by division.

    Attributes:
        buckets: Size key of each item.
        tokens: Size key -> tokens of one item.
        budget: Tokens per batch; a batch holds `budget // tokens` items, at least one.
        seed: Seed of the order.
        keep_incomplete: Whether the last items of a bucket form a smaller batch; otherwise that epoch leaves them out.

    Raises:
        InputError: There is no item, or no bucket fills a batch and incomplete batches are dropped.
        SettingsError: The budget is below 1.
    """

    buckets: Sequence[Hashable]
    tokens: Mapping[Any, int]
    budget: int
    seed: int = 0
    keep_incomplete: bool = True

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise SettingsError(f"The token budget of a batch must be at least 1, but {self.budget} was given.")
        if not self.buckets:
            raise InputError("There is no training sample to plan batches of; prepare some first.")
        if not self.batches:
            sizes = sorted(self._size(key) for key in set(self.buckets))
            raise InputError(
                f"No size of sample fills a batch (sizes of batches: {sizes}, samples: {len(self.buckets)}); "
                "lower the token budget or keep incomplete batches."
            )

    @property
    def batches(self) -> int:
        """Number of batches in an epoch."""
        full = 0
        for key, members in self._members().items():
            whole, rest = divmod(len(members), self._size(key))
            full += whole + (1 if rest and self.keep_incomplete else 0)
        return full

    def epoch(self, number: int) -> list[list[int]]:
        """Item indices of each batch of an epoch."""
        rng = np.random.default_rng((self.seed, number))
        batches: list[list[int]] = []
        for key, members in self._members().items():
            size = self._size(key)
            order = [members[i] for i in rng.permutation(len(members))]
            cut = [order[i : i + size] for i in range(0, len(order), size)]
            batches += [batch for batch in cut if len(batch) == size or self.keep_incomplete]
        return [batches[i] for i in rng.permutation(len(batches))]

    def __call__(self, step: int) -> list[int]:
        """Item indices of the batch of a step."""
        number, inner = divmod(step, self.batches)
        return self.epoch(number)[inner]

    def _size(self, key: Hashable) -> int:
        return max(1, self.budget // self.tokens[key])

    def _members(self) -> dict[Hashable, list[int]]:
        members: dict[Hashable, list[int]] = {}
        for number, key in enumerate(self.buckets):
            members.setdefault(key, []).append(number)
        return members
