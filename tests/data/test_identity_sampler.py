"""People are drawn before their clips."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from fantasytalking.data.identity_sampler import IdentitySampler


@dataclass(frozen=True)
class Clip:
    identity: str
    frames: int
    kind: str = "real"

    def __len__(self) -> int:
        return self.frames


CLIPS = [Clip("b", 100), Clip("a", 300), Clip("a", 100), Clip("c", 100, "generated")]


def test_identities_count_by_the_root_of_their_footage_and_clips_by_their_length() -> None:
    sampler = IdentitySampler(CLIPS, 0.5)
    assert sampler.names == ["a", "b", "c"]
    assert sampler.weights == pytest.approx(np.array([20, 10, 5]) / 35)
    rng = np.random.default_rng(0)
    drawn = Counter(sampler.draw(rng) for _ in range(3500))
    assert drawn[CLIPS[1]] == pytest.approx(1500, rel=0.1)
    assert drawn[CLIPS[2]] == pytest.approx(500, rel=0.15)
    assert drawn[CLIPS[3]] == pytest.approx(500, rel=0.15)


def test_a_draw_is_a_pure_function_of_the_generator() -> None:
    sampler = IdentitySampler(CLIPS, 1.0)
    first, again = (np.random.default_rng(3) for _ in range(2))
    assert [sampler.draw(first) for _ in range(20)] == [sampler.draw(again) for _ in range(20)]


def test_without_clips_there_is_no_identity() -> None:
    assert IdentitySampler([], 1.0).names == []
