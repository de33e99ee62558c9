"""The record of what the transformer is told."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition, replace
from fantasytalking.errors import InputError
from tests.tiny import tiny_conditions


def test_a_record_is_frozen_and_a_misspelt_field_is_an_error() -> None:
    conditions = tiny_conditions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        conditions.text = torch.zeros(1)  # type: ignore[misc]
    with pytest.raises(TypeError, match="audoi"):
        replace(conditions, audoi=None)
    assert replace(conditions, audio=None).audio is None and conditions.audio is not None


def test_speech_of_different_lengths_is_joined_with_padding_and_true_lengths() -> None:
    joined = Conditions.cat([tiny_conditions(2, seed=1, tokens=20), tiny_conditions(1, seed=2, tokens=33)])
    assert joined.batch_size == 3 and joined.audio is not None and joined.audio.lengths is not None
    assert joined.audio.features.shape[:2] == (3, 33)
    assert joined.audio.lengths.tolist() == [20, 20, 33]
    assert not joined.audio.features[:2, 20:].any()


def test_parts_without_speech_or_identity_get_rows_of_scale_0() -> None:
    full = tiny_conditions(seed=1)
    joined = Conditions.cat([replace(full, audio=None, identity=None), full])
    assert joined.audio is not None and joined.identity is not None
    assert torch.as_tensor(joined.audio.scale).tolist() == [0, 1]
    assert torch.as_tensor(joined.identity.scale).tolist() == [0, 0.5]
    assert joined.audio.lengths is not None and joined.audio.lengths.tolist() == [0, 37]
    bare = replace(full, audio=None, identity=None)
    assert Conditions.cat([bare, bare]).audio is None


def test_scales_of_numbers_and_tensors_are_joined() -> None:
    one = tiny_conditions(2)
    assert one.audio is not None
    scaled = replace(one, audio=dataclasses.replace(one.audio, scale=torch.tensor([0.25, 2.0])))
    joined = Conditions.cat([one, scaled])
    assert joined.audio is not None
    assert torch.as_tensor(joined.audio.scale).tolist() == [1, 1, 0.25, 2]


def test_what_cannot_be_joined_is_refused() -> None:
    full = tiny_conditions()
    for other, said in (
        (replace(full, text=full.text[:, :3]), "text length"),
        (replace(full, image=None), "`image`"),
        (replace(full, motion=None), "`motion`"),
        (tiny_conditions(clip_mode=True), "one mode"),
        (tiny_conditions(frames=9), "latent frames"),
    ):
        with pytest.raises(InputError, match=said):
            Conditions.cat([full, other])
    with pytest.raises(InputError, match=r"nothing|no conditions"):
        Conditions.cat([])


def test_moving_casts_embeddings_but_neither_positions_nor_scales() -> None:
    conditions = tiny_conditions(2)
    assert conditions.audio is not None
    conditions = replace(conditions, audio=dataclasses.replace(conditions.audio, scale=torch.ones(2)))
    moved = conditions.to("cpu", torch.bfloat16)
    assert moved.audio is not None and moved.audio.ranges is not None and moved.identity is not None
    assert moved.image is not None and moved.motion is not None
    assert moved.text.dtype == moved.image.dtype == moved.audio.features.dtype == torch.bfloat16
    assert moved.identity.embedding.dtype == torch.bfloat16
    assert moved.audio.ranges.dtype == torch.int64
    assert torch.as_tensor(moved.audio.scale).dtype == moved.motion.dtype == torch.float32
    bare = Conditions(torch.zeros(1, 1, 4)).to(dtype=torch.float64)
    assert bare.text.dtype == torch.float64 and bare.audio is None


def test_misshapen_parts_are_refused_by_name() -> None:
    text = torch.zeros(2, 3, 4)
    with pytest.raises(InputError, match="text"):
        Conditions(text[0])
    with pytest.raises(InputError, match="motion"):
        Conditions(text, motion=torch.zeros(2, 3))
    with pytest.raises(InputError, match=r"audio.features"):
        Conditions(text, audio=AudioCondition(torch.zeros(1, 5, 4)))
    with pytest.raises(InputError, match=r"audio.ranges"):
        AudioCondition(torch.zeros(2, 5, 4), torch.zeros(5, 2, dtype=torch.int64))
    with pytest.raises(InputError, match=r"audio.scale"):
        AudioCondition(torch.zeros(2, 5, 4), scale=torch.ones(3))
    with pytest.raises(InputError, match=r"identity.embedding"):
        Conditions(text, identity=IdentityCondition(torch.zeros(1, 5)))
