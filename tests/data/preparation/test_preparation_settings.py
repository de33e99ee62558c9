"""Limits of the preparation's knobs."""

from __future__ import annotations

from typing import Any

import pytest

from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.errors import SettingsError


def test_the_defaults_are_valid_and_come_back_from_their_dict() -> None:
    settings = PreparationSettings()
    assert PreparationSettings(**settings.as_dict()) == settings
    assert settings.min_confidence == 0.9  # the paper's


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_seconds": 0}, "min_seconds is a number from 0.5 to 600, but 0 was given"),
        ({"max_seconds": 1}, "max_seconds is a number from 2 to 600"),
        ({"min_confidence": 90}, "min_confidence is a number from 0 to 1"),
        ({"min_speech": float("nan")}, "min_speech is a number"),
        ({"max_side": 10}, "max_side"),
        ({"sync": "fix"}, "sync is one of correct, drop, off, but 'fix'"),
        ({"window_frames": 80}, "multiple of 4 plus 1, but it is 80"),
        ({"windows": 1.5}, "windows is a whole number"),
        ({"model": ""}, "model is empty"),
    ],
)
def test_a_bad_value_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PreparationSettings(**changes)
