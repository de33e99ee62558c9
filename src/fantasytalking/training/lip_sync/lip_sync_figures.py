"""Figures of how well a sync measure separates clips in sync from shifted ones, as in docs/lip-sync.md.

A measure gives the cost of a stretch of the mouth against a stretch of the sound. Figures are computed per clip and then averaged over
clips, so that long clips do not count more than short ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fantasytalking.perception.lip_sync import MAX_OFFSET, MIN_OVERLAP

Cost = Callable[[int, int, int], float]
"""Type of a measure: (first mouth frame, frames, first speech frame) -> cost; lower is better."""
WINDOWS = (10, 25, 50, 100, 0)
"""Window lengths in frames at 25 fps; 0 is the whole clip."""
SHIFTS = tuple(k for k in range(-MAX_OFFSET, MAX_OFFSET + 1) if k)


@dataclass(frozen=True)
class ClipMeasure:
    """Measure applied to one clip.

    Attributes:
        name: Name of the clip.
        frames: Length of the clip in frames.
        cost: Cost of the mouth against the clip's own sound.
        foreign: Cost of the same mouth against the sound of another clip, or None.
    """

    name: str
    frames: int
    cost: Cost
    foreign: Cost | None = None


def distance_cost(mouth: NDArray[np.float32], speech: NDArray[np.float32]) -> Cost:
    """Make a cost of the mean Euclidean distance between embeddings [F, d]."""

    def cost(m: int, frames: int, s: int) -> float:
        return float(np.linalg.norm(mouth[m : m + frames] - speech[s : s + frames], axis=1).mean())

    return cost


def correlation_cost(opening: NDArray[np.float32], predicted: NDArray[np.float32]) -> Cost:
    """Make a cost of the negative correlation of two curves [F]; 0 if one of them is constant."""

    def cost(m: int, frames: int, s: int) -> float:
        a, b = opening[m : m + frames], predicted[s : s + frames]
        return -float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 1e-6 and np.ptp(b) > 1e-6 else 0.0

    return cost


def curve(cost: Cost, start: int, frames: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cost over offsets within a stretch, by the rules of `sync_curve`."""
    largest = min(MAX_OFFSET, frames - max(MIN_OVERLAP, -(-frames // 3)))
    offsets = range(-largest, largest + 1)
    values = [cost(start + max(0, k), frames - abs(k), start + max(0, -k)) for k in offsets]
    return np.array(offsets), np.array(values)


def _starts(total: int, frames: int) -> list[int]:
    """First frames of windows that are half a window apart."""
    return list(range(0, total - frames + 1, max(1, frames // 2)))


def pair_wins(clip: ClipMeasure, frames: int) -> dict[int, list[float]]:
    """Map |shift| -> 1.0 or 0.0 for each window and sign: whether the window in sync had the lower cost; 0 frames take the whole clip."""
    wins: dict[int, list[float]] = {abs(k): [] for k in SHIFTS}
    if frames == 0:
        for k in SHIFTS:
            length = clip.frames - abs(k)
            m, s = max(0, k), max(0, -k)
            if length >= MIN_OVERLAP:
                # Both costs use the same frames of the mouth.
                wins[abs(k)].append(float(clip.cost(m, length, m) < clip.cost(m, length, s)))
        return wins
    for start in _starts(clip.frames, frames):
        own = clip.cost(start, frames, start)
        for k in SHIFTS:
            if 0 <= start - k <= clip.frames - frames:
                wins[abs(k)].append(float(own < clip.cost(start, frames, start - k)))
    return wins


def pairwise_accuracy(clips: Sequence[ClipMeasure], frames: int) -> tuple[dict[int, float], int, int]:
    """Share of windows that have a lower cost in sync than against shifted sound.

    Returns:
        |shift| -> accuracy, mean over clips; the number of clips that are long enough for every shift; the number of their windows.
    """
    per_clip, windows = [], 0
    for clip in clips:
        wins = pair_wins(clip, frames)
        if all(wins.values()):
            per_clip.append({k: float(np.mean(w)) for k, w in wins.items()})
            windows += 1 if frames == 0 else len(_starts(clip.frames, frames))
    if not per_clip:
        return {}, 0, 0
    by_shift = {k: float(np.mean([row[k] for row in per_clip])) for k in per_clip[0]}
    return by_shift, len(per_clip), windows


def offset_accuracy(clips: Sequence[ClipMeasure], frames: int, within: int = 1) -> float:
    """Share of windows whose minimum cost lies within `within` frames of offset 0; mean over clips."""
    per_clip = []
    for clip in clips:
        length = clip.frames if frames == 0 else frames
        hits = []
        for start in _starts(clip.frames, length) if length <= clip.frames else []:
            offsets, values = curve(clip.cost, start, length)
            hits.append(float(abs(int(offsets[values.argmin()])) <= within))
        if hits:
            per_clip.append(float(np.mean(hits)))
    return float(np.mean(per_clip)) if per_clip else float("nan")


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Probability that a positive value exceeds a negative one; ties count half."""
    if not len(positive) or not len(negative):
        return float("nan")
    ordered = np.sort(np.asarray(negative, float))
    below, upto = (np.searchsorted(ordered, positive, side) for side in ("left", "right"))
    return float(np.mean((below + upto) / 2) / len(ordered))


def standing_out(clips: Sequence[ClipMeasure], frames: int) -> tuple[float, float]:
    """Compute two areas under the ROC curve, pooled over all windows of all clips.

    Returns:
        The area for the score (median cost over offsets minus cost) of windows in sync against that of windows shifted by 1 to 15 frames,
        and the area for the confidence (median minus minimum cost) with the own sound against that with another clip's.
    """
    own, shifted, native, foreign = [], [], [], []
    for clip in clips:
        length = clip.frames if frames == 0 else frames
        for start in _starts(clip.frames, length) if length <= clip.frames else []:
            offsets, values = curve(clip.cost, start, length)
            standing = np.median(values) - values
            own.append(float(standing[offsets == 0][0]))
            shifted.extend(standing[offsets != 0].tolist())
            native.append(float(standing.max()))
            if clip.foreign is not None:
                other = curve(clip.foreign, start, length)[1]
                foreign.append(float(np.median(other) - other.min()))
    return area_under_curve(own, shifted), area_under_curve(native, foreign)


def figures(clips: Sequence[ClipMeasure], windows: Sequence[int] = WINDOWS) -> list[dict[str, float]]:
    """Make a row for each window length: accuracy at |shift| 1, 2, 3, 5, 10, 15 and on average, offset accuracy, both areas."""
    rows = []
    for frames in windows:
        by_shift, used, count = pairwise_accuracy(clips, frames)
        if not by_shift:
            continue
        in_step, native = standing_out(clips, frames)
        row: dict[str, float] = {"frames": frames, "clips": used, "windows": count}
        row["pairwise"] = float(np.mean(list(by_shift.values())))
        row |= {f"shift_{k}": by_shift[k] for k in (1, 2, 3, 5, 10, 15)}
        row |= {"within_1": offset_accuracy(clips, frames), "auc_shifted": in_step, "auc_foreign": native}
        rows.append(row)
    return rows
