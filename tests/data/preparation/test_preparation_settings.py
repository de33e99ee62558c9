"""Limits of the preparation's knobs."""

from __future__ import annotations

from typing import Any

import pytest

from fantasytalking.data.preparation.preparation_settings import PreparationSettings, RunSettings
from fantasytalking.errors import SettingsError
from fantasytalking.system.records import describe


def test_the_defaults_are_valid_and_come_back_from_their_dict() -> None:
    settings = PreparationSettings()
    assert PreparationSettings(**settings.as_dict()) == settings
    assert settings.min_confidence == 0.9  # the paper's


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_seconds": 0}, "min_seconds must be a number from 0.5 to 600 .seconds., but 0 was given"),
        ({"max_seconds": 1}, r"max_seconds must be at least min_seconds \(2\), but 1 was given"),
        ({"min_confidence": 90}, "min_confidence must be a number from 0 to 1"),
        ({"min_speech": float("nan")}, "min_speech must be a number from 0 to 1, but nan"),
        ({"max_side": 10}, "max_side must be a whole number from 64 to 4096"),
        ({"sync": "fix"}, "sync must be correct, drop or off, but 'fix' was given"),
        ({"window_frames": 80}, "multiple of 4 plus 1, but it is 80"),
        ({"windows": 1.5}, "windows must be a whole number"),
        ({"quality": True}, "quality must be a whole number from 0 to 51, but True was given"),
        ({"body": "DWPose"}, "body must be bundled or dwpose, but 'DWPose' was given; did you mean 'dwpose'"),
        ({"qualty": 3}, "There is no setting 'qualty'; did you mean 'quality'"),
        ({"model": ""}, "model is empty"),
    ],
)
def test_a_bad_value_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PreparationSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips_per_shard": 0}, "clips_per_shard must be a whole number of at least 1, but 0 was given"),
        ({"workers": -1}, "workers must be a whole number of at least 0 or nothing, but -1 was given"),
        ({"gpus_per_worker": -1.0}, "gpus_per_worker must be a number of at least 0, but -1.0 was given"),
        ({"val_share": 1.0}, "val_share must be a number from 0 to 0.9, but 1.0 was given"),
        ({"identity": "file"}, "identity must be stem or folder, but 'file' was given"),
        ({"workers": 0, "address": "auto"}, "has no use for an address"),
    ],
)
def test_numbers_of_a_run_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        RunSettings(**changes)


@pytest.mark.parametrize("kind", [PreparationSettings, RunSettings])
def test_every_knob_has_help_and_a_default(kind: type[Any]) -> None:
    for known in describe(kind):
        assert known.help.endswith("."), known.name
        assert known.default == getattr(kind(), known.name)
