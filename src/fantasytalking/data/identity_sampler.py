"""Drawing by identity: people are drawn before their clips, so that a person with much footage does not crowd out the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

__all__ = ["IdentityClip", "IdentitySampler"]


class IdentityClip(Protocol):
    """A clip that can be drawn; its length is its number of frames."""

    @property
    def identity(self) -> str:
        """Name of the person that it shows."""
        ...

    @property
    def kind(self) -> str:
        """Either "real" or "generated"."""
        ...

    def __len__(self) -> int: ...


Clip = TypeVar("Clip", bound=IdentityClip)


class IdentitySampler(Generic[Clip]):
    """Draws an identity by the square root of its footage, then one of its clips by length.

    The square root lets identities with more footage count more, but not in proportion.

    Args:
        clips: Clips to draw from.
        generated_weight: How often an identity of generated footage is drawn, relative to a real one with as much footage.

    Attributes:
        groups: Clips of each identity.
        names: Identities in alphabetical order.
        weights: Probability of each identity, in the order of `names`.
    """

    def __init__(self, clips: Iterable[Clip], generated_weight: float) -> None:
        self.groups: dict[str, list[Clip]] = {}
        for clip in clips:
            self.groups.setdefault(clip.identity, []).append(clip)
        self.names = sorted(self.groups)
        weights = [_weight(self.groups[name], generated_weight) for name in self.names]
        self.weights = np.array(weights) / max(np.sum(weights), 1e-9)

    def draw(self, rng: np.random.Generator) -> Clip:
        """One random clip; takes two numbers from `rng`."""
        group = self.groups[self.names[rng.choice(len(self.names), p=self.weights)]]
        lengths = np.array([len(clip) for clip in group], float)
        return group[rng.choice(len(group), p=lengths / lengths.sum())]


def _weight(group: Sequence[IdentityClip], generated_weight: float) -> float:
    share = generated_weight if group[0].kind == "generated" else 1.0
    return float(share * sum(len(clip) for clip in group) ** 0.5)
