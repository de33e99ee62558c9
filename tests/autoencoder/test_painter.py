"""The mouth painter."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.autoencoder.mouth_crops import CROP, crop_transform, draw_lips, lips_in_crop, take_crop
from fantasytalking.autoencoder.painter import INPUT_CHANNELS, MouthPainter, painter_input, stack_input
from tests.pipeline.tiny_pipeline import portrait
from tests.training.synthetic import open_mouth, own_mesh


def stacked() -> NDArray[np.uint8]:
    """The painter's input for the example portrait with an open mouth, as bytes: [1, 256, 256, 10]."""
    mesh = open_mouth(own_mesh(), np.array([0.08], np.float32))[0]
    transform = crop_transform(mesh)
    crop, masks = take_crop(portrait(), transform), draw_lips(lips_in_crop(mesh, transform), (CROP, CROP), CROP)
    return stack_input(crop[None], crop[None], masks[None], masks[None, 0])


def inputs() -> torch.Tensor:
    """The same as the network takes it: [1, 10, 256, 256]."""
    return painter_input(stacked())


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


def test_bytes_are_painted_as_pictures_are() -> None:
    net = painter().eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    window = np.concatenate([stacked()[:, 64:192, 32:224], stacked()[:, 32:160, 16:208]])
    with torch.no_grad():
        paint, mask = net(painter_input(window))
    pixels, opacity = net.paint(window)
    assert pixels.shape == (2, 128, 192, 3) and opacity.shape == (2, 128, 192)
    assert np.abs((paint.permute(0, 2, 3, 1).numpy() + 1) * 127.5 - pixels).max() <= 0.51
    assert np.allclose(opacity, mask[:, 0].numpy(), atol=1e-5)
    assert len(np.unique(pixels)) > 50 and opacity.std() > 0.1


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
