"""The perceptual distance, with random weights in the layout of the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from fantasytalking.training.embedded.perceptual_distance import PerceptualDistance

WIDTH = 8


def weights(path: Path) -> Path:
    """The first seven layers of a narrow MobileNetV2."""
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def layer(name: str, shape: tuple[int, ...]) -> None:
        state[f"{name}.weight"] = torch.randn(shape) * (2 / (shape[1] * shape[2] ** 2)) ** 0.5
        state[f"{name}.bias"] = torch.full(shape[:1], 0.1)

    layer("features.0.0", (WIDTH, 3, 3, 3))
    for number in range(1, 7):
        at, wide = f"features.{number}.conv.", WIDTH * (1 if number == 1 else 6)
        if number > 1:
            layer(at + "0", (wide, WIDTH, 1, 1))
        depthwise, project = (0, 3) if number == 1 else (3, 6)
        layer(f"{at}{depthwise}", (wide, 1, 3, 3))
        layer(f"{at}{project}", (WIDTH, wide, 1, 1))
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def distance(tmp_path_factory: pytest.TempPathFactory) -> PerceptualDistance:
    return PerceptualDistance(weights(tmp_path_factory.mktemp("weights") / "mobilenet.safetensors"))


def pictures() -> torch.Tensor:
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return F.interpolate(coarse, scale_factor=4.0, mode="bilinear")


def test_equal_pictures_have_no_distance_and_others_more_the_more_they_differ(distance: PerceptualDistance) -> None:
    x = pictures()
    assert distance(x, x).abs().max() == 0
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    near, far = distance(x, x + 0.05 * noise), distance(x, x + 0.5 * noise)
    assert near.shape == (2,)
    assert (near > 0).all()
    assert (near < far).all()


def test_features_are_taken_at_half_a_quarter_and_an_eighth_of_the_size(distance: PerceptualDistance) -> None:
    assert [tuple(f.shape[2:]) for f in distance.features(pictures())] == [(16, 16), (8, 8), (4, 4)]


def test_the_gradient_reaches_the_picture_and_not_the_weights(distance: PerceptualDistance) -> None:
    x = pictures().requires_grad_()
    distance(x, pictures().flip(-1)).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert not [p for p in distance.parameters() if p.requires_grad]


def test_the_bundled_weights_see_a_blur_of_the_mouth_and_more_of_it_more() -> None:
    """What the painter is trained with; a hundred times what rounding could make."""
    x = pictures()
    soft, softer = (F.interpolate(F.avg_pool2d(x, k), scale_factor=float(k), mode="bilinear") for k in (2, 8))
    near, far = PerceptualDistance()(x, soft), PerceptualDistance()(x, softer)
    assert near.min() > 0.01
    assert (near < far).all()
