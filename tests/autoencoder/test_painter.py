"""The mouth painter and its crop."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from fantasytalking.autoencoder.painter import (
    CROP,
    INPUT_CHANNELS,
    MouthPainter,
    crop_transform,
    draw_masks,
    painter_input,
    take_crop,
)
from fantasytalking.perception.landmarks import LIPS_INNER
from tests.pipeline.tiny_pipeline import portrait
from tests.training.synthetic import open_mouth, own_mesh, turn_head


def inputs() -> torch.Tensor:
    """The painter's input for the example portrait with an open mouth: [1, 10, 128, 128]."""
    mesh = open_mouth(own_mesh(), np.array([0.08], np.float32))[0]
    transform = crop_transform(mesh)
    crop, masks = take_crop(portrait(), transform), draw_masks(mesh, transform)
    return painter_input(crop[None], crop[None], masks[None], masks[None, 0])


def painter() -> MouthPainter:
    torch.manual_seed(0)
    return MouthPainter((8, 8, 16))


def test_an_untrained_painter_shows_the_warp() -> None:
    x = inputs()
    paint, mask = painter()(x)
    assert paint.shape == (1, 3, CROP, CROP)
    assert mask.shape == (1, 1, CROP, CROP)
    assert torch.allclose(paint, x[:, :3])
    assert torch.allclose(x[:, :3] + mask * (paint - x[:, :3]), x[:, :3])


def test_the_mask_is_zero_outside_the_mouth_region_whatever_the_weights() -> None:
    net, x = painter(), inputs()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    _, mask = net(x)
    outside = x[:, 9:10] == 0
    assert outside.float().mean() > 0.4
    assert mask[outside].abs().max() == 0
    assert mask.max() > 0


def test_the_gradient_reaches_every_layer_once_the_last_one_has_moved() -> None:
    net, x = painter(), inputs()
    torch.nn.init.normal_(net.leave.weight, std=0.1)
    for name, weight in net.named_parameters():
        if name.endswith("second.weight"):
            torch.nn.init.normal_(weight, std=0.1)
    paint, mask = net(x)
    (paint.square().mean() + mask.mean()).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_the_first_step_already_has_a_gradient() -> None:
    net, x = painter(), inputs()
    paint, mask = net(x)
    (x[:, :3] + mask * (paint - x[:, :3]) - x[:, :3].flip(-1)).abs().mean().backward()
    assert net.leave.weight.grad is not None
    assert net.leave.weight.grad.abs().sum() > 0


def test_the_crop_holds_the_mouth_level_and_centred_however_the_head_is_turned() -> None:
    for roll in (0.0, 0.5, -0.5):
        vector = np.array([[0, 0, roll]], np.float32)
        mesh = turn_head(own_mesh()[None], vector, np.zeros((1, 2), np.float32), np.ones(1, np.float32))[0]
        transform = crop_transform(mesh)
        points = mesh[:, :2] @ transform[:, :2].T + transform[:, 2]
        assert np.abs(points[list(LIPS_INNER)].mean(0) - CROP / 2).max() < CROP / 8
        assert abs(points[33, 1] - points[263, 1]) < 0.05 * CROP
        assert np.allclose(
            transform[:, :2] @ transform[:, :2].T, np.eye(2) * np.linalg.det(transform[:, :2]), atol=1e-4
        )


def test_the_crop_of_a_large_portrait_looks_like_that_of_a_small_one() -> None:
    small, mesh = portrait(), own_mesh()
    large = cv2.resize(small, (960, 960), interpolation=cv2.INTER_CUBIC)
    a = take_crop(small, crop_transform(mesh)).astype(float)
    # pixel centres: x becomes 5 (x + 1/2) - 1/2
    b = take_crop(large, crop_transform(5 * mesh + np.array([2, 2, 0], np.float32))).astype(float)
    assert np.abs(a - b).mean() < 4


def test_opening_the_mouth_grows_the_inner_mask_and_does_not_zoom() -> None:
    shut, wide = open_mouth(own_mesh(), np.array([0.0, 0.1], np.float32))
    masks = [draw_masks(mesh, crop_transform(mesh)) for mesh in (shut, wide)]
    assert masks[0].shape == (3, CROP, CROP)
    assert masks[1][0].sum() > 1.5 * masks[0][0].sum()
    scales = [np.linalg.det(crop_transform(mesh)[:, :2]) for mesh in (shut, wide)]
    assert np.isclose(*scales)


def test_inputs_are_stacked_in_the_documented_order() -> None:
    x = inputs()
    assert x.shape == (1, INPUT_CHANNELS, CROP, CROP)
    assert torch.equal(x[:, :3], x[:, 3:6])
    assert torch.equal(x[:, 6], x[:, 8])  # inner mouth of the frame and of the portrait
    inner, lips, region = x[0, 6], x[0, 7], x[0, 9]
    assert ((inner + lips) <= 1.01).all()
    assert region[inner > 0.5].min() > 0.9


def test_it_sees_256_pixels_at_the_cost_of_few_weights_and_the_first_models_still_load() -> None:
    net, first = MouthPainter(), MouthPainter(crop=128)
    assert sum(p.numel() for p in net.parameters()) <= 1_300_000
    assert first.enter.weight.shape == (32, 40, 3, 3)  # of the first version's weights
    x = torch.zeros(1, INPUT_CHANNELS, 128, 128)
    assert first(x)[0].shape == (1, 3, 128, 128)
    # the narrower crop of new models shows the mouth larger by more than the pixels tell
    scales = [np.linalg.norm(crop_transform(own_mesh(), side)[0, :2]) for side in (128, 256)]
    assert scales[1] > 2.5 * scales[0]
