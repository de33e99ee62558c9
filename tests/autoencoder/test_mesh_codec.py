"""The arithmetic between face meshes and latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fantasytalking.autoencoder.mesh_codec import (
    POSE_DIMENSIONS,
    MeshCodec,
    smooth_over_time,
)
from fantasytalking.perception.landmarks import mouth_opening
from tests.training.synthetic import codec, make_track, own_mesh


def parameters(frames: int = 9, batch: int = 2, seed: int = 0) -> torch.Tensor:
    """Motion numbers as the training set has them, still at frame 0: [batch, frames, P]."""
    fitted = codec()
    std = torch.cat([fitted.coefficient_std, fitted.pose_std])
    numbers = torch.randn(batch, frames, len(std), generator=torch.Generator().manual_seed(seed)) * std
    return numbers - numbers[:, :1]


def test_without_noise_decoding_is_the_exact_inverse() -> None:
    fitted, numbers = codec(), parameters()
    back = fitted.from_latents(fitted.to_latents(numbers), noise=0.0)
    std = torch.cat([fitted.coefficient_std, fitted.pose_std])
    assert ((back - numbers) / std).abs().max() < 2e-2


def test_with_the_default_noise_decoding_is_close() -> None:
    fitted, numbers = codec(), parameters()
    back = fitted.from_latents(fitted.to_latents(numbers))
    mesh = torch.from_numpy(own_mesh())
    apart = fitted.points_of(back[0], mesh) - fitted.points_of(numbers[0], mesh)
    still = fitted.points_of(numbers[0], mesh) - mesh
    assert apart.norm() < 0.1 * still.norm()


def test_zero_latents_are_the_still_portrait() -> None:
    fitted, mesh = codec(), torch.from_numpy(own_mesh())
    numbers = fitted.from_latents(torch.zeros(1, fitted.channels, 3, fitted.height, fitted.width))
    assert numbers.shape == (1, 9, fitted.coefficients + POSE_DIMENSIONS)
    assert torch.allclose(fitted.points_of(numbers[0], mesh), mesh.expand(9, -1, -1), atol=1e-2)


def test_latents_are_laid_out_as_documented() -> None:
    """Channel 4 * part + sub; parts expression dx, expression dy, rigid dx, rigid dy; four frames to a latent frame."""
    fitted, numbers = codec(), parameters(frames=9)
    latents = fitted.to_latents(numbers)
    k, cells = fitted.coefficients, fitted.height * fitted.width
    assert latents.shape == (2, 16, 3, fitted.height, fitted.width)
    for latent_frame, sub, frame in ((0, 0, 0), (0, 3, 0), (1, 0, 1), (1, 3, 4), (2, 2, 7)):
        fields = {
            0: fitted.expression_cells[:cells] @ numbers[1, frame, :k],
            1: fitted.expression_cells[cells:] @ numbers[1, frame, :k],
            2: fitted.pose_cells[:cells] @ numbers[1, frame, k:],
            3: fitted.pose_cells[cells:] @ numbers[1, frame, k:],
        }
        for part, field in fields.items():
            cell = latents[1, 4 * part + sub, latent_frame].flatten()
            assert torch.allclose(cell, field, atol=1e-5), (latent_frame, sub, part)


def test_moving_right_fills_the_rigid_dx_field_alone() -> None:
    fitted = codec()
    numbers = torch.zeros(1, 5, fitted.coefficients + POSE_DIMENSIONS)
    numbers[:, 1:, -2] = 0.1
    latents = fitted.to_latents(numbers)
    assert latents[:, 8:12, 1].abs().min() > 0
    rest = torch.cat([latents[:, :8], latents[:, 12:]], 1)
    assert torch.equal(rest, torch.zeros_like(rest))


def test_latents_of_the_training_set_have_about_unit_variance() -> None:
    latents = codec().to_latents(parameters(frames=201, batch=4))
    assert 0.7 < float(latents[:, :8].std()) < 1.4
    assert 0.7 < float(latents[:, 8:].std()) < 2.0


def test_the_motion_of_one_person_moves_another_and_keeps_its_shape() -> None:
    fitted, mesh = codec(), torch.from_numpy(own_mesh())
    other = torch.from_numpy(make_track("x", "someone", frames=30, seed=7).points)
    numbers = fitted.parameters_of(other, other[0])
    moved = fitted.points_of(numbers, mesh)
    assert torch.allclose(moved[0], mesh, atol=1e-2)
    assert torch.allclose(fitted.parameters_of(moved, mesh), numbers, atol=2e-3)


def test_a_fitted_codec_reconstructs_a_clip_it_has_not_seen() -> None:
    fitted = codec()
    points = torch.from_numpy(make_track("unseen", "person1", frames=41, seed=77).points)
    latents = fitted.to_latents(fitted.parameters_of(points, points[0])[None])
    back = fitted.points_of(fitted.from_latents(latents)[0], points[0])
    # pixels, in the picture: a shift in depth, which no pixel shows, is not among the motion numbers
    assert (back - points)[..., :2].norm(dim=-1).mean() < 0.05
    assert (points - points[0])[..., :2].norm(dim=-1).mean() > 2.0
    assert np.corrcoef(mouth_opening(back.numpy()), mouth_opening(points.numpy()))[0, 1] > 0.98


def test_the_portraits_shape_tells_an_open_mouth_from_a_closed_one() -> None:
    fitted, points = codec(), make_track("y", "person2", frames=60, seed=3).points
    opening = mouth_opening(points)
    wide, shut = (torch.from_numpy(points[i]) for i in (opening.argmax(), opening.argmin()))
    shapes = [fitted.shape_latents(fitted.shape_cells_of(mesh)) for mesh in (wide, shut)]
    assert shapes[0].shape == (16, 1, fitted.height, fitted.width)
    assert torch.equal(shapes[0][0], shapes[0][3])
    assert (shapes[0] - shapes[1]).abs().max() > 0.5


@pytest.mark.parametrize("sigma", [0.4, 0.7, 2.0])
def test_smoothing_takes_out_jitter_and_leaves_what_is_still(sigma: float) -> None:
    noise = torch.randn(200, 4, 3, generator=torch.Generator().manual_seed(0))
    smoothed = smooth_over_time(noise, sigma)
    assert smoothed.shape == noise.shape
    assert 0.1 < float(smoothed.std()) < 0.95
    assert torch.allclose(smooth_over_time(torch.full((20, 3), 5.0), sigma), torch.full((20, 3), 5.0))
    assert torch.equal(smooth_over_time(noise, 0.0), noise)
    assert smooth_over_time(noise[:1], sigma).shape == (1, 4, 3)


def test_the_codec_stays_float32_whatever_its_model_is_cast_to() -> None:
    fitted = MeshCodec(10, 6, 4)
    fitted.load_state_dict(codec().state_dict())
    module = torch.nn.ModuleDict({"codec": fitted, "other": torch.nn.Linear(2, 2)}).to(torch.bfloat16)
    assert module["other"].weight.dtype == torch.bfloat16
    assert {b.dtype for b in fitted.buffers()} == {torch.float32}


def test_inner_products_follow_the_basis_when_weights_are_loaded() -> None:
    fresh = MeshCodec(10, 6, 4)
    assert float(fresh.gram.abs().max()) == 0
    fresh.load_state_dict(codec().state_dict())
    assert torch.equal(fresh.gram, codec().gram)
