"""The fit of a rigid motion with scale, of arrays and of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fantasytalking.autoencoder.rigid import rotation_from_vector
from fantasytalking.errors import SettingsError
from fantasytalking.perception.alignment import fit_similarity
from tests.training.synthetic import own_mesh


def test_the_similarity_fit_finds_a_known_transform() -> None:
    mesh = torch.from_numpy(own_mesh())
    rotation = rotation_from_vector(torch.tensor([[0.2, -0.5, 0.1], [0.0, 0.0, 2.0]]))
    scale, shift = torch.tensor([2.5, 0.4]), torch.tensor([[10.0, -3.0, 7.0], [0.0, 50.0, 1.0]])
    points = scale[:, None, None] * torch.einsum("fij,vj->fvi", rotation, mesh) + shift[:, None]
    weights = torch.rand(468, generator=torch.Generator().manual_seed(0))
    found_scale, found_rotation, found_shift = fit_similarity(mesh, points, weights)
    assert torch.allclose(found_scale, scale, rtol=1e-4)
    assert torch.allclose(found_rotation, rotation, atol=1e-4)
    assert torch.allclose(found_shift, shift, atol=2e-2)


def test_the_similarity_fit_never_mirrors_a_face() -> None:
    mesh = torch.from_numpy(own_mesh())
    _, rotation, _ = fit_similarity(mesh, mesh * torch.tensor([-1.0, 1.0, 1.0]), torch.ones(468))
    assert torch.linalg.det(rotation) == pytest.approx(1.0, abs=1e-4)


def test_points_without_weight_do_not_move_the_fit() -> None:
    mesh = torch.from_numpy(own_mesh())
    weights = torch.ones(468)
    weights[200:] = 0
    points = mesh.clone()
    points[200:] += 30
    scale, rotation, shift = fit_similarity(mesh, points, weights)
    assert torch.allclose(scale * mesh @ rotation.T + shift, mesh, atol=1e-2)


def test_arrays_and_tensors_give_the_same_transform() -> None:
    rng = np.random.default_rng(3)
    source, weights = rng.standard_normal((30, 3)), rng.random(30)
    target = rng.standard_normal((4, 30, 3))
    arrays = [fit_similarity(source, one, weights) for one in target]
    tensors = fit_similarity(torch.from_numpy(source), torch.from_numpy(target), torch.from_numpy(weights))
    for place, found in enumerate(tensors):
        np.testing.assert_allclose(found.numpy(), np.stack([one[place] for one in arrays]), atol=1e-12)


def test_without_weights_every_point_counts_alike() -> None:
    rng = np.random.default_rng(4)
    source, target = rng.standard_normal((2, 9, 2))
    for found, expected in zip(fit_similarity(source, target), fit_similarity(source, target, np.ones(9)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_points_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"one N and D, not \(4, 3\) and \(5, 3\)"):
        fit_similarity(np.zeros((4, 3)), np.zeros((5, 3)))
    with pytest.raises(SettingsError, match="some positive values"):
        fit_similarity(torch.zeros(4, 3), torch.zeros(4, 3), torch.zeros(4))
