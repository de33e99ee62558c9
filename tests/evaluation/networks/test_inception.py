"""FID's Inception at full width with random weights; pytorch-fid's and torch-fidelity's own networks agree to the last bit
(docs/metric-networks.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.errors import CheckpointError, ImageError
from fantasytalking.evaluation.networks.inception import Inception, InceptionFeatures, load, resize_like_tensorflow
from tests.evaluation.networks.random_weights import pictures, randomise

SIDE = 75


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(randomise(Inception()).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def network(file: Path) -> InceptionFeatures:
    return load(file)


def test_it_has_the_published_names_sizes_and_classes() -> None:
    state = Inception().state_dict()
    # 94 convolutions with their norms and one linear layer, as in the file of 2015
    assert sum(name.endswith("conv.weight") for name in state) == 94
    assert sum(value.numel() for name, value in state.items() if name.endswith(("weight", "bias"))) == 23_850_960
    assert state["fc.weight"].shape == (1008, 2048)
    assert state["Mixed_6b.branch7x7dbl_5.conv.weight"].shape == (192, 128, 1, 7)
    assert state["Mixed_7c.branch3x3dbl_3b.bn.running_var"].shape == (384,)


def test_a_picture_becomes_2048_numbers_whatever_the_batch(network: InceptionFeatures) -> None:
    images = pictures(3, 40, 60)
    found = network.features(images, side=SIDE)
    assert found.shape == (3, 2048) and found.dtype == np.float32
    assert (found.std(0) > 0).mean() > 0.3  # many random ReLUs are dead
    np.testing.assert_allclose(network.features(images, batch=1, side=SIDE), found, rtol=1e-4, atol=1e-4)


def test_pools_of_the_2015_network_leave_the_padding_out_and_the_last_takes_the_maximum(
    network: InceptionFeatures,
) -> None:
    ones = torch.ones(1, 2048, 3, 3)
    ones[..., 1, 1] = 5
    seen: list[torch.Tensor] = []
    for block in (network.network.Mixed_7b, network.network.Mixed_7c):
        x = ones[:, : block.branch_pool.conv.in_channels]
        handle = block.branch_pool.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        block(x)
        handle.remove()
    torch.testing.assert_close(seen[0][0, 0, 0, 0], torch.tensor((3 + 5) / 4))
    assert seen[1].eq(5).all()


def test_the_two_packages_resize_differently_and_both_are_kept() -> None:
    ramp = torch.arange(8.0).repeat(8, 1)[None, None]
    corner = resize_like_tensorflow(ramp, 16)[0, 0, 0]
    torch.testing.assert_close(corner[:6], torch.tensor([0, 0.5, 1, 1.5, 2, 2.5]))
    assert corner[-1] == 7
    centre = torch.nn.functional.interpolate(ramp, (16, 16), mode="bilinear", align_corners=False)[0, 0, 0]
    torch.testing.assert_close(centre[:4], torch.tensor([0, 0.25, 0.75, 1.25]))


def test_what_does_not_fit_is_refused(tmp_path: Path, network: InceptionFeatures) -> None:
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match="does not fit Inception"):
        load(tmp_path / "part.pth")
    torch.save({"network": Inception}, tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match="plain tensors"):
        load(tmp_path / "code.pth")
    with pytest.raises(ImageError, match="uint8"):
        network.features(np.zeros((1, 8, 8, 3), np.float32))  # type: ignore[arg-type]
