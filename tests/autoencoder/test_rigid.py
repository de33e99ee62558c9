"""Rotations and motions in the plane."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fantasytalking.autoencoder.rigid import rotation_from_vector, similarity_2d, vector_from_rotation
from fantasytalking.perception.alignment import fit_similarity


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 0.4, 1.5, 3.0])
def test_a_rotation_vector_survives_the_way_to_a_matrix_and_back(angle: float) -> None:
    axis = torch.nn.functional.normalize(torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]]), dim=-1)
    vectors = angle * axis
    matrices = rotation_from_vector(vectors)
    assert torch.allclose(matrices @ matrices.transpose(1, 2), torch.eye(3).expand(3, 3, 3), atol=1e-5)
    assert torch.allclose(vector_from_rotation(matrices), vectors, atol=2e-3 if angle > 2 else 2e-5)


def test_a_turn_about_the_vertical_axis_turns_the_nose_sideways() -> None:
    matrix = rotation_from_vector(torch.tensor([0.0, 0.3, 0.0]))
    # z points away from the camera, so the nose is at negative z
    assert torch.allclose(
        matrix @ torch.tensor([0.0, 0.0, -1.0]), torch.tensor([-np.sin(0.3), 0, -np.cos(0.3)]).float()
    )


def test_a_plane_similarity_is_found() -> None:
    points = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
    matrix, shift = 2 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]), np.array([3, -1])
    found, moved = similarity_2d(points, (points @ matrix.T + shift).astype(np.float32))
    assert np.allclose(found, matrix, atol=1e-4)
    assert np.allclose(moved, shift, atol=1e-4)


def test_the_closed_form_in_the_plane_is_the_general_fit() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.standard_normal((2, 20, 2)).astype(np.float32)
    matrix, shift = similarity_2d(source, target)
    scale, rotation, translation = fit_similarity(source.astype(np.float64), target.astype(np.float64))
    np.testing.assert_allclose(matrix, scale * rotation, atol=1e-5)
    np.testing.assert_allclose(shift, translation, atol=1e-5)
