"""Each metric on talking clips: equal clips get the best value there is, and what is made worse is measured as worse."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics import (
    aesthetic,
    csim,
    efid,
    expression_similarity,
    fid,
    fvd,
    identity_consistency,
    iqa_ase,
    mouth_correlation,
    sharpness,
    sync_confidence,
)
from fantasytalking.evaluation.metrics.metric import Metric
from fantasytalking.evaluation.metrics.registry import METRICS
from fantasytalking.evaluation.statistics.frechet import Gaussian, Moments


def changed(clip: Footage, frames: NDArray[np.uint8]) -> Footage:
    return Footage(clip.name, frames, clip.sound, clip.protocol, clip.seconds)


def still(clip: Footage) -> Footage:
    return changed(clip, np.repeat(clip.frames[:1], len(clip.frames), axis=0))


def blurred(clip: Footage, sigma: float) -> Footage:
    return changed(clip, np.stack([np.asarray(cv2.GaussianBlur(f, (0, 0), sigma), np.uint8) for f in clip.frames]))


def noisy(clip: Footage, sigma: float) -> Footage:
    noise = np.random.default_rng(0).normal(0, sigma, clip.frames.shape)
    return changed(clip, np.clip(clip.frames + noise, 0, 255).astype(np.uint8))


def distance(metric: Metric, made: Footage, true: Footage) -> float:
    key = metric.columns[0].key
    first, second = (Moments.of(metric.measure(clip, true).features[key]) for clip in (made, true))
    return Gaussian(*first.gaussian()).distance(*second.gaussian())


def value(metric: Metric, made: Footage, true: Footage) -> float:
    return metric.measure(made, true).values[metric.columns[0].key]


@pytest.mark.parametrize("module", [fid, fvd, efid])
def test_a_set_is_at_distance_zero_from_itself(module: object, calm: Footage) -> None:
    metric = module.proxy()  # type: ignore[attr-defined]
    assert distance(metric, calm, calm) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("module", [fid, fvd])
@pytest.mark.parametrize("worsen", [blurred, noisy])
def test_pictures_that_get_worse_get_further_away(module: object, worsen: object, calm: Footage) -> None:
    metric = module.proxy()  # type: ignore[attr-defined]
    strengths = (1.0, 3.0) if worsen is blurred else (6.0, 25.0)
    near, far = (distance(metric, worsen(calm, k), calm) for k in strengths)  # type: ignore[operator]
    assert 0 < near < far


def test_a_frozen_video_is_further_away_in_time_than_in_pictures(lively: Footage) -> None:
    """FD of videos sees freezing; FD of single pictures sees only that there are fewer different ones."""
    held = changed(lively, lively.frames[np.arange(len(lively.frames)) // 8 * 8])
    metric = fvd.proxy()
    key = metric.columns[0].key
    moving, frozen = (metric.measure(clip, clip).features[key] for clip in (lively, held))
    # The part of the features that is change from one frame to the next.
    change = slice(48, 96)
    assert frozen[:, change].mean() < 0.6 * moving[:, change].mean()
    assert distance(metric, still(lively), lively) > distance(metric, held, lively) > 0


def test_videos_of_fvd_are_cut_from_the_whole_clip_with_their_stride(calm: Footage) -> None:
    assert list(fvd.starts(40, calm.protocol)) == [0, 8, 16, 24]
    assert list(fvd.starts(15, calm.protocol)) == []
    found = fvd.proxy().measure(calm, calm).features["fvd"]
    assert len(found) == (len(calm.frames) - 16) // 8 + 1
    short = changed(calm, calm.frames[:12])
    with pytest.raises(InputError, match="12 frames"):
        fvd.proxy().measure(short, short)


def test_a_still_picture_agrees_with_itself_and_a_talking_face_less(lively: Footage) -> None:
    for metric in (expression_similarity.proxy(), identity_consistency.proxy()):
        assert value(metric, still(lively), lively) > 0.99 > value(metric, lively, lively) > 0.3


def test_the_same_person_has_a_high_csim_and_a_face_that_goes_away_half_of_it(calm: Footage, lively: Footage) -> None:
    metric = csim.proxy()
    assert value(metric, lively, calm) > 0.75
    gone = calm.frames.copy()
    gone[len(gone) // 2 :] = 128
    assert value(metric, changed(calm, gone), calm) == pytest.approx(0.5 * value(metric, calm, calm), abs=0.1)


def test_the_mouth_follows_itself_not_a_still_one_and_less_a_late_one(lively: Footage) -> None:
    metric = mouth_correlation.standard()
    assert value(metric, lively, lively) == pytest.approx(1)
    assert value(metric, still(lively), lively) == 0
    late = [
        value(metric, changed(lively, lively.frames[np.maximum(np.arange(len(lively.frames)) - k, 0)]), lively)
        for k in (1, 4)
    ]
    assert 1 > late[0] > late[1]
    curves = metric.measure(lively, lively).curves
    assert len(curves["mouth"].x) == len(curves["mouth_reference"].y) == len(lively.frames)


def test_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(50), rng.standard_normal(50)
    assert mouth_correlation.correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert mouth_correlation.correlation(a, 3 * a + 1) == pytest.approx(1)
    assert mouth_correlation.correlation(a, np.ones(50)) == 0


def test_blur_is_measured_by_every_picture_metric(calm: Footage) -> None:
    soft, softer = blurred(calm, 1.0), blurred(calm, 3.0)
    assert 1 > value(sharpness.standard(), soft, calm) > value(sharpness.standard(), softer, calm)
    assert (
        value(aesthetic.proxy(), calm, calm)
        > value(aesthetic.proxy(), soft, calm)
        > value(aesthetic.proxy(), softer, calm)
    )
    assert (
        0
        == value(iqa_ase.proxy(), calm, calm)
        < value(iqa_ase.proxy(), soft, calm)
        < value(iqa_ase.proxy(), softer, calm)
    )


def test_sync_finds_by_how_many_frames_a_sound_is_shifted(lively: Footage) -> None:
    metric = sync_confidence.proxy()
    assert lively.sound is not None
    per_frame = 16000 // 25
    found = {}
    for k in (0, 5, -5):
        # A face that lags by k frames: its sound comes k frames earlier.
        sound = np.roll(lively.sound, -k * per_frame)
        shifted = Footage("shifted", lively.frames, sound, lively.protocol)
        shifted.__dict__["track"] = lively.track
        values = metric.measure(shifted, lively).values
        found[k] = values["sync_lag"]
        assert values["sync_offset"] == abs(found[k])
    assert abs(found[5] - found[0] - 5) <= 1 and abs(found[-5] - found[0] + 5) <= 1
    assert found[5] > 0 > found[-5], "the sign says which of the two is late"


def test_sync_needs_sound_a_long_enough_face_and_its_own_rate(lively: Footage) -> None:
    metric = sync_confidence.proxy()
    with pytest.raises(InputError, match="no sound"):
        metric.measure(Footage("mute", lively.frames, None, lively.protocol), lively)
    assert lively.sound is not None
    short = Footage("short", lively.frames[:30], lively.sound[: 30 * 640], lively.protocol)
    with pytest.raises(InputError, match="30 frames in a row and min_track is 50"):
        metric.measure(short, short)
    # "lower min_track in the protocol", followed
    lower = Footage("short", short.frames, short.sound, replace(lively.protocol, min_track=20))
    assert set(metric.measure(lower, lower).values) == {"sync_c", "sync_d", "sync_offset", "sync_lag"}
    fast = Footage("fast", lively.frames, lively.sound, replace(lively.protocol, fps=30.0))
    with pytest.raises(InputError, match="25 frames a second"):
        metric.measure(fast, fast)


def test_no_proxy_has_the_name_of_what_it_stands_for() -> None:
    from fantasytalking.evaluation.metrics.registry import Choice, build

    paper = {"FID", "FVD", "Sync-C", "Sync-D", "ES", "IDC", "SD", "BD", "Aesthetic", "CSIM", "E-FID", "IQA", "ASE"}
    for name in METRICS:
        for column in build(Choice(name, False, "cpu")).columns:
            assert column.label not in paper, column.label
            assert column.proxy or not column.stands_for, column.label
            assert len(column.definition) > 40
