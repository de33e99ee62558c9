"""Articulation on openings that are drawn: what is closed, open, as wide or at rest by construction is measured as that."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys

import numpy as np
import pytest

from fantasytalking.errors import InputError, MissingDependencyError
from fantasytalking.evaluation import phone_times
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.articulation import (
    articulation,
    opening_at_rest,
    silent_frames,
    spread_ratio,
    standard,
)
from fantasytalking.evaluation.speech_targets import Phone, phone_targets, syllable_targets

FPS = 25.0
SYLLABLES = [(0.52, "pa"), (1.12, "ba"), (1.72, "ma"), (2.32, "da")]


def spoken(closed: float, opened: float, frames: int = 75, late: int = 0) -> np.ndarray:
    """An opening that is `closed` in the frame of each bilabial and its neighbours, and `opened` elsewhere."""
    opening = np.full(frames, opened)
    for time, name in SYLLABLES:
        place = round(time * FPS) + late
        if name[0] in "pbm":
            opening[place - 1 : place + 2] = closed
    return opening


def test_lips_that_meet_at_every_bilabial_and_open_at_every_vowel() -> None:
    found = articulation(spoken(0.03, 0.15), FPS, syllable_targets(SYLLABLES))
    assert found.closed == 1
    assert found.contrast == pytest.approx(0.12)
    np.testing.assert_allclose(found.closures, 0.03)
    np.testing.assert_allclose(found.vowels, 0.15)
    assert len(found.closures) == 3 and len(found.vowels) == 4


@pytest.mark.parametrize(("late", "closed"), [(-3, 1), (0, 1), (3, 1), (4, 0), (-4, 0)])
def test_lips_may_meet_two_frames_before_or_after_the_onset(late: int, closed: float) -> None:
    # three frames are closed, so a shift by 3 leaves one within two frames of the onset
    assert articulation(spoken(0.03, 0.15, late=late), FPS, syllable_targets(SYLLABLES)).closed == closed


def test_lips_that_stay_a_little_open_do_not_count_as_closed() -> None:
    opening = spoken(0.041, 0.15)
    opening[round(0.52 * FPS)] = 0.04
    assert articulation(opening, FPS, syllable_targets(SYLLABLES)).closed == pytest.approx(1 / 3)


def test_a_still_mouth_has_no_contrast() -> None:
    assert articulation(np.full(75, 0.1), FPS, syllable_targets(SYLLABLES)).contrast == pytest.approx(0)


def test_a_frame_without_a_face_counts_for_nothing() -> None:
    opening = spoken(0.03, 0.15)
    opening[round(0.52 * FPS) - 2 : round(0.52 * FPS) + 3] = np.nan
    found = articulation(opening, FPS, syllable_targets(SYLLABLES))
    assert np.isnan(found.closures[0]) and found.closed == 1 and found.contrast == pytest.approx(0.12)
    with pytest.raises(
        InputError, match="Of 3 bilabials and 4 vowels in the speech, 0 and 0 fall on frames that show the face"
    ):
        articulation(np.full(75, np.nan), FPS, syllable_targets(SYLLABLES))
    with pytest.raises(InputError, match="Of 0 bilabials and 1 vowels in the speech, 0 and 1 fall"):
        articulation(np.full(75, 0.1), FPS, syllable_targets([(0.5, "la")]))


def test_phones_give_closures_and_vowels() -> None:
    phones = [
        Phone("b", 0.40, 0.48),
        Phone("i", 0.48, 0.60),
        Phone("t", 0.6, 0.7),
        Phone("ʌ", 0.7, 0.71),
        Phone("m", 0.71, 0.9),
    ]
    targets = phone_targets(phones)
    np.testing.assert_allclose(targets.closures, [(0.40, 0.48), (0.71, 0.9)])
    np.testing.assert_allclose(targets.vowels, [(0.48, 0.60), (0.7, 0.71)])
    opening = np.full(30, 0.1)
    opening[22] = 0.01  # 0.88 s, within the m
    opening[[12, 13, 14, 15]] = 0.2
    found = articulation(opening, FPS, targets)
    np.testing.assert_allclose(found.closures, (0.1, 0.01))
    np.testing.assert_allclose(found.vowels, (0.2, 0.1))  # the second is shorter than a frame


def test_the_spread_is_a_ratio_to_the_true_one() -> None:
    true = np.sin(np.arange(50)) * 0.05 + 0.1
    assert spread_ratio(0.5 * true + 0.3, true) == pytest.approx(0.5)
    with pytest.raises(InputError, match="lips of the real clip are still"):
        spread_ratio(true, np.full(50, 0.1))


def test_rest_is_looked_at_inside_of_pauses_only() -> None:
    silent = np.zeros(50, bool)
    silent[:10] = silent[20:40] = True
    opening = np.full(50, 0.2)
    opening[0:7] = opening[23:37] = 0.02
    assert opening_at_rest(opening, silent, FPS) == pytest.approx(0.02)
    assert opening_at_rest(opening, np.zeros(50, bool), FPS) is None


def test_silence_is_where_no_voice_is_heard_and_it_is_quiet_for_a_while() -> None:
    sound = np.zeros(4 * 16000, np.float32)
    sound[:16000] = (
        0.3  # a second of speech, then a syllable that the detector takes for none, then a gap of 0.2 s in speech
    )
    sound[2 * 16000 : 2 * 16000 + 3200] = 0.3
    sound[48000:] = 0.3
    sound[51200:54400] = 0
    silent = silent_frames(np.array([(0.0, 1.0), (3.0, 4.0)]), sound, 100, FPS)
    expected = np.zeros(100, bool)
    expected[26:50] = expected[55:75] = True
    np.testing.assert_array_equal(silent, expected)
    assert silent_frames(np.zeros((0, 2)), np.zeros(64000, np.float32), 100, FPS).all()


def test_a_clip_against_itself_and_a_still_one(lively: Footage) -> None:
    metric = standard()
    own = metric.measure(dataclasses.replace(lively, onsets=[(0.5, "ba"), (1.2, "ma")]), lively)
    assert own.values["lip_spread"] == pytest.approx(1) and {"lips_closed", "lip_contrast"} <= own.values.keys()
    still = dataclasses.replace(lively, frames=np.repeat(lively.frames[:1], len(lively.frames), axis=0), sound=None)
    found = metric.measure(still, lively)
    assert found.values == {"lip_spread": pytest.approx(0, abs=1e-5)} and found.notes == ()
    turned = metric.measure(lively, still)
    assert "lip_spread" not in turned.values and "lips of the real clip are still" in turned.notes[0]


def test_without_the_recogniser_the_report_says_what_closures_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hama", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    remark = standard().remark
    assert "only in clips with a file of onsets" in remark and 'pip install "fantasytalking[eval]"' in remark
    with pytest.raises(MissingDependencyError, match=re.escape('pip install "fantasytalking[eval]"')):
        phone_times._recogniser.__wrapped__()
