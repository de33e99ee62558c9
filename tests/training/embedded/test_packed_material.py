"""The material of the transformer in one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.data.motion_dataset import Augmentation
from fantasytalking.errors import InputError
from fantasytalking.training.embedded.embedded_recipes import TINY_TRANSFORMER
from fantasytalking.training.embedded.packed_material import load_packed, packed_fingerprint, save_packed
from fantasytalking.training.embedded.train_embedded import make_dataset
from fantasytalking.training.embedded.training_tracks import CANVAS, Material, load_material
from tests.training.synthetic import write_cache


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return load_material(write_cache(tmp_path_factory.mktemp("packed") / "tracks"), coefficients=10)


def test_a_packed_material_gives_the_samples_of_its_tracks_to_half_precision(
    material: Material, tmp_path: Path
) -> None:
    path = tmp_path / "material.bin"
    save_packed(material, path, "data")
    packed, fingerprint = load_packed(path, 10, CANVAS)
    assert fingerprint == packed_fingerprint(path) == "data"
    assert packed.speech_dim == material.speech_dim
    assert all(torch.equal(v, packed.codec.state_dict()[n]) for n, v in material.codec.state_dict().items())
    assert torch.equal(packed.intensity.percentiles, material.intensity.percentiles)
    for split in ("train", "val"):
        own, theirs = getattr(material, split), getattr(packed, split)
        assert [(t.name, t.identity, t.kind, t.first) for t in own] == [
            (t.name, t.identity, t.kind, t.first) for t in theirs
        ]
        sets = [make_dataset(m, getattr(m, split), 9, TINY_TRANSFORMER, Augmentation()) for m in (material, packed)]
        for seed in range(8 if split == "train" else 0):  # mirrored ones among them
            a, b = (data.draw(np.random.default_rng(seed)) for data in sets)
            assert a.name == b.name
            for one, other in ((a.latents, b.latents), (a.condition, b.condition), (a.audio, b.audio)):
                assert one is not None and other is not None
                torch.testing.assert_close(other, one, atol=2e-2, rtol=2e-3)
            assert a.identity is not None and b.identity is not None and torch.equal(a.identity, b.identity)
            assert a.motion is not None and torch.allclose(a.motion, b.motion, atol=0.02)  # type: ignore[arg-type]
    sizes = [one.stat().st_size for one in (path, path.with_suffix(".json"))]
    frames = sum(len(track) for track in material.train)
    assert sizes[0] < 4200 * frames and sizes[1] < 200  # 5.6 KB a frame are the mesh alone


def test_a_missing_or_damaged_file_is_one_sentence(material: Material, tmp_path: Path) -> None:
    path = tmp_path / "material.bin"
    with pytest.raises(InputError, match=r"no packed material .*material.bin; run the part measure of this run first"):
        load_packed(path, 10, CANVAS)
    with pytest.raises(InputError, match=r"no checksum .*material.json; run the part measure"):
        packed_fingerprint(path)
    save_packed(replace(material, val=[]), path, "data")
    whole = bytearray(path.read_bytes())
    for damaged in (whole[: len(whole) // 2], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], b"no arrays"):
        path.write_bytes(bytes(damaged))
        with pytest.raises(InputError, match=r"material.bin (cannot be read|is damaged)") as caught:
            load_packed(path, 10, CANVAS)
        assert "\n" not in str(caught.value)
    path.with_suffix(".json").write_text("[1, ")
    with pytest.raises(InputError, match=r"material.json"):
        packed_fingerprint(path)
