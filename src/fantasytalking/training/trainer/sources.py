"""Sources of training samples, and the order in which they come.

Order and content are pure functions of seed and step, never of the number of processes or of what was drawn before: a batch is one
global list of keys, and its sample i is drawn with a generator of its own. That is what makes a resumed run equal to one that was
never stopped.
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
    """Data that `Trainer` trains on. How a key becomes a sample is between a source and the objective that it is used with.

    A source may have an attribute `fingerprint`, a checksum of its data: it is kept in the run folder, and a run is not resumed on
    other data.
    """

    def plan(self, step: int) -> Sequence[Any]:
        """Keys of the global batch of a step; a pure function of seed and step."""
        ...


class SampleSource(Source, Protocol):
    """Samples of the transformer; the keys of a step are all of one latent size."""

    def sample(self, key: Any, rng: np.random.Generator) -> Sample:
        """The sample of a key; `rng` is this sample's own."""
        ...


@dataclass(frozen=True)
class WindowSource:
    """Random windows: every step draws a window length, every sample a window of that length.

    Attributes:
        draws: window length in frames (4n+1) -> function that draws one sample.
        frames: lengths; each step takes one of them, more often if it is listed more often.
        batch_tokens: latent frames a batch; the batch size is this divided by a window's latent frames, at least 1.
        seed: of the lengths.
        fingerprint: checksum of the data; None: unknown.
    """

    draws: Mapping[int, Draw]
    frames: tuple[int, ...]
    batch_tokens: int
    seed: int = 0
    fingerprint: str | None = None

    def plan(self, step: int) -> Sequence[int]:
        """Window lengths, all the same."""
        frames = int(np.random.default_rng((self.seed, step)).choice(self.frames))
        return [frames] * max(1, self.batch_tokens // ((frames - 1) // TIME_STRIDE + 1))

    def sample(self, key: int, rng: np.random.Generator) -> Sample:
        """One window of a length."""
        return self.draws[key](rng)


@dataclass(frozen=True)
class BucketPlan:
    """Batches of a data set with fixed items of several sizes, epoch by epoch.

    In an epoch each bucket's items are shuffled and cut into batches, and the batches of all buckets are shuffled. Every epoch has
    equally many batches, so that a step's epoch is a division.

    Attributes:
        buckets: of every item, the key of its size.
        tokens: bucket key -> tokens of one item.
        budget: tokens a batch; a batch holds `budget // tokens` items, at least one.
        seed: of the order.
        keep_incomplete: whether the last items of a bucket make a smaller batch; otherwise they wait for another epoch's shuffle.

    Raises:
        InputError: there is no item, or no bucket fills a batch and incomplete ones are dropped.
        SettingsError: the budget is below 1.
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
        """Batches of an epoch."""
        full = 0
        for key, members in self._members().items():
            whole, rest = divmod(len(members), self._size(key))
            full += whole + (1 if rest and self.keep_incomplete else 0)
        return full

    def epoch(self, number: int) -> list[list[int]]:
        """Item numbers of each batch of an epoch."""
        rng = np.random.default_rng((self.seed, number))
        batches: list[list[int]] = []
        for key, members in self._members().items():
            size = self._size(key)
            order = [members[i] for i in rng.permutation(len(members))]
            cut = [order[i : i + size] for i in range(0, len(order), size)]
            batches += [batch for batch in cut if len(batch) == size or self.keep_incomplete]
        return [batches[i] for i in rng.permutation(len(batches))]

    def __call__(self, step: int) -> list[int]:
        """Item numbers of a step's batch."""
        number, inner = divmod(step, self.batches)
        return self.epoch(number)[inner]

    def _size(self, key: Hashable) -> int:
        return max(1, self.budget // self.tokens[key])

    def _members(self) -> dict[Hashable, list[int]]:
        members: dict[Hashable, list[int]] = {}
        for number, key in enumerate(self.buckets):
            members.setdefault(key, []).append(number)
        return members
