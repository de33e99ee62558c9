"""Q-Align's arithmetic around the model, which is too large for a test and is not part of transformers."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from fantasytalking.errors import MissingDependencyError, SettingsError
from fantasytalking.evaluation.networks.qalign import LEVELS, QAlign, level_score, load, square
from tests.evaluation.networks.random_weights import pictures


def test_the_score_is_the_expected_level() -> None:
    assert level_score(np.zeros(5)) == pytest.approx(3)
    for i, value in enumerate((5, 4, 3, 2, 1)):
        assert level_score(np.eye(5)[i] * 100) == pytest.approx(value)
    assert level_score(np.log([0.5, 0.5, 1e-12, 1e-12, 1e-12]) + 1000) == pytest.approx(4.5)
    assert len(LEVELS) == 5 and LEVELS[0] == "excellent"


def test_a_picture_stands_in_the_middle_of_a_square_of_clips_mean_colour() -> None:
    image = pictures(1, 20, 50)[0]
    padded = np.asarray(square(image))
    assert padded.shape == (50, 50, 3)
    np.testing.assert_array_equal(padded[15:35], image)
    assert padded[0, 0].tolist() == padded[-1, -1].tolist() == [122, 116, 104]


def test_each_picture_is_asked_about_once_for_the_task() -> None:
    asked: list[tuple[tuple[int, int], str]] = []

    def logits(image: Image.Image, task: str) -> np.ndarray:
        asked.append((image.size, task))
        return np.eye(5)[len(asked) - 1] * 50

    found = QAlign(logits).scores(pictures(2, 20, 30), "aesthetics")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [5, 4])
    assert asked == [((30, 30), "aesthetics")] * 2
    with pytest.raises(SettingsError, match="quality or aesthetics, not 'beauty'"):
        QAlign(logits).scores(pictures(1, 8, 8), "beauty")


def test_without_pyiqa_a_sentence_says_what_to_install_and_its_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(MissingDependencyError, match=r"non-commercial.*pip install pyiqa"):
        load()
