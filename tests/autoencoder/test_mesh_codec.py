"""The arithmetic between face meshes and latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fantasytalking.autoencoder.lids import LID_POINTS, lid_opening
from fantasytalking.autoencoder.lip_contact import lip_gaps, mean_lip_gap
from fantasytalking.autoencoder.mesh_codec import LIDS, POSE_DIMENSIONS, MeshCodec, smooth_over_time
from fantasytalking.perception.landmarks import mouth_opening
from tests.training.synthetic import codec, make_track, own_mesh, tracks


def parameters(frames: int = 9, batch: int = 2, seed: int = 0) -> torch.Tensor:
    """Motion numbers as the training set has them, with open eyes: [batch, frames, P]."""
    fitted = codec()
    std = torch.cat([fitted.coefficient_std, fitted.pose_std])
    numbers = torch.randn(batch, frames, len(std), generator=torch.Generator().manual_seed(seed)) * std
    numbers[..., -LIDS:] = 0
    return numbers


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


def test_the_portrait_with_its_own_expression_is_the_photo() -> None:
    fitted, points = codec(), make_track("y", "person2", frames=60, seed=3).points
    for mesh in torch.from_numpy(points[[0, int(mouth_opening(points).argmax())]]):
        still = fitted.still(mesh)
        assert still.shape == (fitted.coefficients + POSE_DIMENSIONS + LIDS,)
        assert torch.allclose(fitted.points_of(still.expand(3, -1), mesh), mesh.expand(3, -1, -1), atol=1e-2)


def test_zero_latents_close_the_lips_of_an_open_mouth_and_leave_closed_ones() -> None:
    fitted, points = codec(), make_track("y", "person2", frames=60, seed=3).points
    order = mouth_opening(points).argsort()
    shut, wide = (torch.from_numpy(points[i]) for i in (order[0], order[-1]))
    numbers = fitted.from_latents(torch.zeros(1, fitted.channels, 3, fitted.height, fitted.width))
    assert numbers.shape == (1, 9, fitted.coefficients + POSE_DIMENSIONS + LIDS)
    gaps = [mean_lip_gap(fitted.local_shape(fitted.points_of(numbers[0], mesh))[0]) for mesh in (shut, wide)]
    before = [float(mean_lip_gap(fitted.local_shape(mesh)[0])) for mesh in (shut, wide)]
    assert before[1] > 0.1 and gaps[1].abs().max() < 0.01
    assert (gaps[0] - before[0]).abs().max() < 0.02


def test_an_opening_looks_the_same_in_every_portrait() -> None:
    """The mouth opens to what the motion says, whether the portrait's was open or not."""
    fitted, points = codec(), make_track("y", "person2", frames=60, seed=3).points
    order = mouth_opening(points).argsort()
    wanted = torch.tensor([0.05, 0.1, 0.2])
    numbers = torch.zeros(3, fitted.coefficients + POSE_DIMENSIONS + LIDS)
    numbers[:, : fitted.coefficients] = wanted[:, None] * fitted.opening_direction
    for mesh in torch.from_numpy(points[[order[0], order[30], order[-1]]]):
        shown = mean_lip_gap(fitted.local_shape(fitted.points_of(numbers, mesh))[0])
        assert (shown - wanted).abs().max() < 0.04


def test_lids_close_over_both_eyes_and_only_there() -> None:
    fitted, mesh = codec(), torch.from_numpy(own_mesh())
    numbers = fitted.still(mesh).expand(3, -1).clone()
    numbers[1, -LIDS:], numbers[2, -LIDS:] = 0.5, 1.0
    moved = fitted.points_of(numbers, mesh)
    assert torch.allclose(lid_opening(moved), lid_opening(mesh) * torch.tensor([1.0, 0.5, 0.0])[:, None], atol=2e-3)
    assert torch.allclose(lip_gaps(moved), lip_gaps(moved[:1]), atol=1e-3)
    assert torch.allclose(fitted.parameters_of(moved, mesh)[:, -LIDS:], numbers[:, -LIDS:], atol=2e-3)


def test_lids_are_replaced_without_touching_the_rest() -> None:
    fitted, numbers = codec(), parameters(frames=9, batch=1)
    closure = torch.linspace(0, 1, 9)[:, None].expand(-1, 2)
    back = fitted.from_latents(fitted.with_lids(fitted.to_latents(numbers)[0], closure)[None], noise=0.0)[0]
    assert torch.allclose(back[:, -LIDS:], closure, atol=1e-3)
    std = torch.cat([fitted.coefficient_std, fitted.pose_std[:-LIDS]])
    assert ((back - numbers[0])[:, :-LIDS] / std).abs().max() < 2e-2


def test_shown_openings_follow_the_calibrated_map_and_come_back() -> None:
    fitted = MeshCodec(10, 6, 4)
    fitted.load_state_dict(codec().state_dict())
    numbers = parameters(frames=5, batch=1)[0]
    assert torch.allclose(fitted.shown(numbers), numbers, atol=1e-5)
    fitted.opening_knots[1] = 0.5 * fitted.opening_knots[0]
    fitted.pose_gain[:] = 1.5
    k, changed = fitted.coefficients, fitted.shown(numbers)
    opening = fitted.gap_of(numbers[:, :k])
    inside = (opening > -0.2) & (opening < 1.0)
    assert torch.allclose(fitted.gap_of(changed[:, :k])[inside], 0.5 * opening[inside], atol=1e-4)
    assert torch.allclose(changed[:, k : k + POSE_DIMENSIONS], 1.5 * numbers[:, k : k + POSE_DIMENSIONS])
    assert torch.allclose(fitted.unshown(changed)[inside], numbers[inside], atol=1e-3)


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
    numbers = torch.zeros(1, 5, fitted.coefficients + POSE_DIMENSIONS + LIDS)
    numbers[:, 1:, fitted.coefficients + 4] = 0.1
    latents = fitted.to_latents(numbers)
    assert latents[:, 8:12, 1].abs().min() > 0
    rest = torch.cat([latents[:, :8], latents[:, 12:]], 1)
    assert torch.equal(rest, torch.zeros_like(rest))


def test_latents_of_the_training_set_have_about_unit_variance() -> None:
    fitted = codec()
    spoken = [fitted.clip_expression(fitted.local_shape(torch.from_numpy(track.points))[0]) for track in tracks()]
    numbers = parameters(frames=201, batch=4)
    latents = fitted.to_latents(numbers)
    of_speech = fitted.to_latents(F.pad(torch.stack(spoken)[:, :97], (0, POSE_DIMENSIONS + LIDS)))
    assert 0.7 < float(of_speech[:, :8].square().mean().sqrt()) < 1.4  # about closed lips, not about the mean
    assert 0.7 < float(latents[:, 8:].std()) < 2.0


def test_the_motion_of_one_person_moves_another_and_keeps_its_shape() -> None:
    fitted, mesh = codec(), torch.from_numpy(own_mesh())
    other = torch.from_numpy(make_track("x", "someone", frames=30, seed=7).points)
    numbers = fitted.parameters_of(other, other[0])
    numbers = torch.cat([numbers[:, :-LIDS] + (fitted.still(mesh) - numbers[0])[:-LIDS], numbers[:, -LIDS:]], 1)
    moved = fitted.points_of(numbers, mesh)
    assert torch.allclose(moved[0], mesh, atol=1e-2)
    turned = slice(fitted.coefficients, fitted.coefficients + POSE_DIMENSIONS)
    assert torch.allclose(fitted.parameters_of(moved, mesh)[:, turned], numbers[:, turned], atol=4e-3)


def test_a_fitted_codec_reconstructs_a_clip_it_has_not_seen() -> None:
    fitted = codec()
    points = torch.from_numpy(make_track("unseen", "person1", frames=41, seed=77).points)
    latents = fitted.to_latents(fitted.parameters_of(points, points[0])[None])
    back = fitted.points_of(fitted.from_latents(latents)[0], points[0])
    # pixels, in the picture: a shift in depth, which no pixel shows, is not among the motion numbers; and lids move on their own
    carried = [point for point in range(len(back[0])) if point not in LID_POINTS]
    assert (back - points)[:, carried, :2].norm(dim=-1).mean() < 0.05
    assert (points - points[0])[..., :2].norm(dim=-1).mean() > 2.0
    assert np.corrcoef(mouth_opening(back.numpy()), mouth_opening(points.numpy()))[0, 1] > 0.98


def test_the_portraits_shape_is_that_of_closed_lips() -> None:
    fitted, points = codec(), make_track("y", "person2", frames=60, seed=3).points
    order = mouth_opening(points).argsort()
    shut, wide = (torch.from_numpy(points[i]) for i in (order[0], order[-1]))
    shapes = [fitted.shape_latents(fitted.shape_cells_of(mesh)) for mesh in (wide, shut)]
    assert shapes[0].shape == (16, 1, fitted.height, fitted.width)
    assert torch.equal(shapes[0][0], shapes[0][3])
    told = fitted.gap_of(torch.stack([fitted.portrait_expression(mesh) for mesh in (wide, shut)]))
    assert told[0] > 0.1 and told[1].abs() < 0.03


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
