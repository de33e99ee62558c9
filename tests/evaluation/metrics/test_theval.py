"""THEval's measures against its published formulas, written here once more as its code has them: frame by frame, point by point."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.metrics.theval import eyebrow_dynamics, lip_dynamics, lip_sync, silent_lip_stability
from fantasytalking.perception.landmarks import face_mesh
from tests.perception.pictures import portrait

FPS = 25.0
FRAMES = 60
# The points that the published code lists, in its own words.
LIPS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
)
LEFT_BROW = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
RIGHT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173)
UPPER, LOWER = (191, 80, 81, 82, 13, 312, 311, 310), (95, 88, 178, 87, 14, 317, 402, 318)


@pytest.fixture(scope="module")
def points() -> NDArray[np.float64]:
    """A face whose points tremble, each by itself."""
    mesh = face_mesh(portrait()).points.astype(np.float64)
    return mesh + np.random.default_rng(0).normal(0, 2, (FRAMES, *mesh.shape))


@pytest.fixture(scope="module")
def sound() -> NDArray[np.float32]:
    """A voice that comes and goes, as long as the frames."""
    time = np.arange(round(FRAMES / FPS * 16000)) / 16000
    return (np.sin(2 * np.pi * 200 * time) * (1 + np.sin(2 * np.pi * 3 * time)) / 3).astype(np.float32)


def test_lip_dynamics_are_the_mean_variance_of_all_distances_of_lip_points(points: NDArray[np.float64]) -> None:
    vectors = []
    for frame in points:
        scale = np.linalg.norm(frame[33, :2] - frame[263, :2])
        vectors.append(
            [np.linalg.norm(frame[i, :2] - frame[j, :2]) / scale for i, j in itertools.combinations(sorted(LIPS), 2)]
        )
    assert np.array(vectors).shape == (FRAMES, 780)
    assert lip_dynamics(points) == pytest.approx(float(np.mean(np.var(np.array(vectors), axis=0))))
    assert lip_dynamics(points[:1]) == 0
    beyond = np.concatenate([np.repeat(points[:1], 500, axis=0), points])
    assert lip_dynamics(beyond) == pytest.approx(0, abs=1e-15), "the first 500 frames count"


def test_eyebrow_dynamics_are_the_mean_change_of_the_height_of_both_brows(points: NDArray[np.float64]) -> None:
    changes = []
    before: dict[str, float] = {}
    for frame in points[..., :2]:
        scale = np.linalg.norm(frame[list(LEFT_EYE)].mean(0) - frame[list(RIGHT_EYE)].mean(0))
        for side, brow, eye in (("left", LEFT_BROW, LEFT_EYE), ("right", RIGHT_BROW, RIGHT_EYE)):
            height = float(np.linalg.norm(frame[list(brow)].mean(0) - frame[list(eye)].mean(0)) / scale)
            if side in before:
                changes.append(abs(height - before[side]))
            before[side] = height
    assert eyebrow_dynamics(points) == pytest.approx(sum(changes) / len(changes))
    assert eyebrow_dynamics(points[:1]) == 0


def silent_frames(speech: list[tuple[float, float]]) -> set[int]:
    """Frames of pauses of at least 0.3 s, as the published code finds them; times are in tenths of a second."""
    silent = set(range(FRAMES))
    for start, end in speech:
        for frame in range(int(start * FPS), int(end * FPS) + 1):
            silent.discard(frame)
    kept: set[int] = set()
    run: list[int] = []
    for frame in [*sorted(silent), 10**6]:
        if run and frame != run[-1] + 1:
            if len(run) >= 0.3 * FPS:
                kept.update(run)
            run = []
        run.append(frame)
    return kept


def test_silent_lips_are_stable_by_the_median_deviation_from_their_mean(points: NDArray[np.float64]) -> None:
    speech = [(0.4, 0.8), (0.9, 1.3)]
    openings = []
    for frame in sorted(silent_frames(speech)):
        mesh = points[frame]
        eyes = np.linalg.norm(mesh[33, :2] - mesh[263, :2])
        openings.append(np.mean([abs(mesh[u, 1] - mesh[v, 1]) / eyes for u, v in zip(UPPER, LOWER, strict=True)]))
    expected = float(np.median(np.abs(np.array(openings) - np.mean(openings))))
    seen = np.ones(FRAMES, bool)
    # the detector's own times, which are rounded to tenths
    exact = np.array([(0.44, 0.82), (0.88, 1.262)])
    assert silent_lip_stability(points, seen, exact, FPS) == pytest.approx(expected)
    with pytest.raises(InputError, match=r"seen in 0 frames of pauses of 0.3 s or more"):
        silent_lip_stability(points, seen, np.array([(0.0, 2.4)]), FPS)


def test_lip_sync_is_the_difference_of_scaled_opening_and_loudness_in_speech(
    points: NDArray[np.float64], sound: NDArray[np.float32]
) -> None:
    block = int(0.05 * 16000)
    padded = np.concatenate([np.zeros(block // 2), sound.astype(np.float64), np.zeros(block // 2)])
    loud = [np.sqrt(np.mean(padded[k : k + block] ** 2)) for k in range(0, len(padded) - block + 1, block)]
    times = np.arange(len(loud)) * block / 16000
    spoken = [frame for frame in range(FRAMES) if int(0.4 * FPS) <= frame <= int(1.6 * FPS)]
    opening, volume = [], []
    for frame in spoken:
        mesh = points[frame]
        upper, lower = np.mean([mesh[k, 1] for k in UPPER]), np.mean([mesh[k, 1] for k in LOWER])
        eyes = abs(np.mean([mesh[k, 0] for k in (362, 263)]) - np.mean([mesh[k, 0] for k in (33, 133)]))
        opening.append(abs(upper - lower) / eyes)
        volume.append(np.interp(frame / FPS, times, loud))

    def scaled(values: list[float]) -> NDArray[np.float64]:
        array = np.array(values)
        return np.asarray((array - np.min(array)) / (np.max(array) - np.min(array) + 1e-8))

    expected = float(np.mean(np.abs(scaled(opening) - scaled(volume))))
    seen, speech = np.ones(FRAMES, bool), np.array([(0.4, 1.6)])
    assert lip_sync(points, seen, sound, speech, FPS) == pytest.approx(expected)
    with pytest.raises(InputError, match="Speech is heard in 5% of the frames; lip sync of THEval needs 10%"):
        lip_sync(points, seen, sound, np.array([(0.4, 0.5)]), FPS)


def test_frames_without_a_face_do_not_count(points: NDArray[np.float64], sound: NDArray[np.float32]) -> None:
    seen = np.arange(FRAMES) % 7 != 0
    lost = np.where(seen[:, None, None], points, 0.0)
    speech = np.array([(0.4, 1.6)])
    assert lip_sync(points, seen, sound, speech, FPS) == lip_sync(lost, seen, sound, speech, FPS)
    assert silent_lip_stability(points, seen, speech, FPS) == silent_lip_stability(lost, seen, speech, FPS)
