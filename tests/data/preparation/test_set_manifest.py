"""What is worked out over all clips at the end of a preparation."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
import torch

from fantasytalking.data.motion_dataset import IntensityScale
from fantasytalking.data.preparation.set_manifest import describe_model, leaks, percentiles


def row(
    key: str, split: str, face: list[float], motion: list[list[float]] | None = None, kept: bool = True
) -> dict[str, Any]:
    unit = np.array(face, "<f4") / np.linalg.norm(face)
    found = {"key": key, "split": split, "kept": kept}
    if kept:
        found |= {
            "_embedding": base64.b64encode(unit.astype("<f4").tobytes()).decode(),
            "_motion": motion or [[0.0, 0.0]],
        }
    return found


def test_a_training_clip_of_a_validation_face_is_found() -> None:
    rows = [
        row("a", "train", [1, 0, 0]),
        row("b", "train", [0, 1, 0.2]),
        row("c", "train", [0, 0, 1], kept=False),
        row("d", "val", [0, 1, 0]),
        row("e", "val", [0, 0, 1]),
    ]
    found = leaks(rows)
    assert found.keys() == {"b"}
    assert found["b"] == pytest.approx(1 / np.hypot(1, 0.2), abs=1e-6)
    assert leaks(rows[:3]) == {} == leaks(rows[3:])


def test_percentiles_are_those_of_the_training_clips_windows() -> None:
    raw = np.random.default_rng(0).random((50, 2)).tolist()
    rows = [row("a", "train", [1], raw[:20]), row("b", "train", [1], raw[20:]), row("c", "val", [1], [[9.0, 9.0]])]
    found = percentiles(rows)
    assert found is not None and [len(values) for values in found.values()] == [21, 21]
    assert found["w_face"][10] == pytest.approx(np.median([face for face, _ in raw]), abs=1e-6)
    assert max(found["w_body"]) < 1
    scale = IntensityScale.from_percentiles(**found)
    assert scale(torch.tensor([found["w_face"][20], found["w_body"][0]])).tolist() == [1.0, 0.0]
    assert percentiles(rows[2:]) is None


def test_a_set_knows_the_speech_encoder_of_its_model_but_not_the_transformer() -> None:
    described = describe_model("embedded")
    assert described["frame_rate"] == 25.0 and described["encoders"] == {"audio_encoder": "WhisperEncoder"}
    assert set(described["weights"]) == {"audio_encoder/config.json", "audio_encoder/model.safetensors"}
    assert describe_model("owner/name")["weights"] == {}
