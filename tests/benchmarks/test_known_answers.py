"""Each damage does what its name says, and the judge reports a metric that does not follow."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from known_answers import CONTROL, DAMAGES, blur, freeze, judge, late, noise, row_name, swap


def clips() -> list[np.ndarray]:
    """Two clips of noise, with the number of each frame in its red channel."""
    made = []
    for seed, frames in ((0, 12), (1, 7)):
        clip = np.random.default_rng(seed).integers(0, 255, (frames, 64, 64, 3)).astype(np.uint8)
        clip[..., 0] = np.arange(frames)[:, None, None] + 100 * seed
        made.append(clip)
    return made


def numbers(frames: np.ndarray) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


def test_freezing_holds_frames_and_lateness_repeats_the_first() -> None:
    first, second = clips()
    assert numbers(freeze(first, 3, 0, [])) == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9]
    assert numbers(late(first, 2, 0, [])) == [0, 0, *range(10)]
    assert len(late(second, 50, 1, [])) == len(second)


def test_a_share_of_the_clips_shows_the_next_one() -> None:
    every = clips()
    assert numbers(swap(every[0], 0.5, 0, every)) == [100, 101, 102, 103, 104, 105, 106, 106, 106, 106, 106, 106]
    assert swap(every[1], 0.5, 1, every) is every[1]
    assert numbers(swap(every[1], 1.0, 1, every)) == list(range(7))


def test_blur_and_noise_grow_with_their_strength_and_keep_the_clip() -> None:
    frames = np.full((3, 256, 256, 3), 128, np.uint8)
    spread = [float(noise(frames, sigma, 0, []).std()) for sigma in (4, 12, 36)]
    np.testing.assert_allclose(spread, (4, 12, 36), rtol=0.05)
    sharp = clips()[0]
    assert [float(blur(sharp, s, 0, [])[..., 1].std()) for s in (8, 16)] == sorted(
        (float(blur(sharp, s, 0, [])[..., 1].std()) for s in (8, 16)), reverse=True
    )
    assert np.array_equal(noise(frames, 4, 0, []), noise(frames, 4, 0, [])), "the same noise every time"


def report(wrong: str = "") -> SimpleNamespace:
    """A report in which every column moves as expected, except at the last strength of one damage."""
    methods = [SimpleNamespace(name=CONTROL, summary=cells(0))]
    for damage in DAMAGES:
        for place, strength in enumerate(damage.strengths, 1):
            step = 0 if damage.name == wrong and place == len(damage.strengths) else place
            methods.append(SimpleNamespace(name=row_name(damage, strength), summary=cells(step, damage.moves)))
    keys = {key for damage in DAMAGES for key in damage.moves}
    return SimpleNamespace(methods=methods, columns=[SimpleNamespace(key=k, label=k.upper()) for k in keys])


def cells(step: int, moves: dict[str, int] | None = None) -> dict[str, SimpleNamespace]:
    keys = {key for damage in DAMAGES for key in damage.moves}
    return {key: SimpleNamespace(value=float((moves or {}).get(key, 0) * step)) for key in keys}


def test_the_judge_accepts_what_follows_by_rank_and_nothing_else() -> None:
    assert all(row["by_rank"] for row in judge(report()))  # type: ignore[arg-type]
    bad = [row for row in judge(report("freeze")) if not row["by_rank"]]  # type: ignore[arg-type]
    assert {row["damage"].split(" (")[0] for row in bad} == {"freeze"}
    assert len(bad) == len(next(d for d in DAMAGES if d.name == "freeze").moves)
