"""Deep3DFaceRecon's regressor with random weights; torchvision's ResNet-50 agrees to the last bit (docs/metric-networks.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.errors import CheckpointError, InputError
from fantasytalking.evaluation.networks.deep3d import STANDARD, Deep3D, Regressor, align, five_points, load
from tests.evaluation.networks.random_weights import pictures, randomise


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Deep3D:
    path = tmp_path_factory.mktemp("weights") / "epoch_20.pth"
    # as their training script saved it: the network beside the state of its optimiser
    torch.save(
        {"net_recon": randomise(Regressor()).state_dict(), "opt_00": {"state": {}, "param_groups": [{"lr": 1e-4}]}},
        path,
    )
    return load(path)


def test_it_is_a_resnet_50_with_seven_heads_of_257_together() -> None:
    state = Regressor().state_dict()
    backbone = sum(v.numel() for n, v in state.items() if n.startswith("backbone") and n.endswith(("weight", "bias")))
    assert backbone == 23_508_032
    assert state["backbone.layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert [state[f"final_layers.{i}.weight"].shape[0] for i in range(7)] == [80, 64, 80, 3, 27, 2, 1]


def test_expressions_are_the_second_head(network: Deep3D) -> None:
    frames = pictures(2, 120, 100)
    meshes = np.random.default_rng(0).uniform(30, 70, (2, 468, 3))
    found = network.expressions(frames, meshes)
    aligned = np.stack([align(f, p) for f, p in zip(frames, five_points(meshes), strict=True)])
    assert found.shape == (2, 64)
    with torch.inference_mode():
        features = network.network.backbone(torch.from_numpy(aligned).permute(0, 3, 1, 2).float() / 255)
        expected = network.network.final_layers[1](features).flatten(1)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-3)
    assert network.coefficients(aligned).shape == (2, 257)


def test_the_crop_brings_the_five_points_where_the_mean_face_has_them() -> None:
    """102 pixels to a unit, its origin in the middle; the original cuts at whole pixels of the resized picture."""
    expected = STANDARD[:, :2] * [102, -102] + 112
    for scale, shift in ((40.0, (150, 130)), (90.0, (170, 160))):
        points = STANDARD[:, :2] * [scale, -scale] + shift
        frame = np.zeros((300, 320, 3), np.uint8)
        for x, y in points:
            frame[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3] = 255
        crop = align(frame, points)
        assert crop.shape == (224, 224, 3)
        for x, y in expected:
            spot = crop[round(y) - 12 : round(y) + 13, round(x) - 12 : round(x) + 13, 0].astype(float)
            rows, columns = np.mgrid[: spot.shape[0], : spot.shape[1]]
            assert np.allclose([(rows * spot).sum() / spot.sum(), (columns * spot).sum() / spot.sum()], 12, atol=3)


def test_the_one_at_the_pictures_left_comes_first() -> None:
    mesh = np.zeros((1, 468, 3))
    mesh[0, 33], mesh[0, 263], mesh[0, 4], mesh[0, 61], mesh[0, 291] = (
        [x, y, 9] for x, y in ((1, 2), (30, 2), (15, 9), (5, 20), (25, 20))
    )
    points = five_points(mesh)
    assert points.shape == (1, 5, 2)
    assert points[0, 0, 0] < points[0, 1, 0]
    np.testing.assert_array_equal(points[0, 2:], [[15, 9], [5, 20], [25, 20]])


def test_what_does_not_fit_is_refused(network: Deep3D, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 frames needs a face mesh; 1 were given"):
        network.expressions(pictures(2, 50, 50), np.zeros((1, 468, 3)))
    torch.save(randomise(torch.nn.Linear(2, 2)).state_dict(), tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "bare.pth")
