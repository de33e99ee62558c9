"""Fitting the mesh codec to tracks."""

from __future__ import annotations

import pytest
import torch

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.errors import InputError
from fantasytalking.perception.landmarks import LIPS_INNER
from fantasytalking.training.embedded.fit_codec import fit_mesh_codec
from tests.training.synthetic import codec, make_track, tracks


def test_the_template_looks_at_the_camera_one_eye_distance_wide() -> None:
    template = codec().template
    eyes = template[[33, 133]].mean(0), template[[263, 362]].mean(0)
    assert abs(float(eyes[0][1] - eyes[1][1])) < 0.05
    assert 0.9 < float(eyes[1][0] - eyes[0][0]) < 1.1
    assert template[152, 1] > template[10, 1] + 1  # y points down
    assert template[1, 2] < template[[33, 263], 2].min()  # and z away from the camera


def test_the_jaw_that_moved_most_is_the_first_coefficient() -> None:
    basis = codec().basis[0]
    moved = basis.norm(dim=-1)
    assert moved[17] > 5 * moved[10]  # below the lower lip against the top of the forehead
    assert codec().coefficient_std.argmax() == 0


def test_points_that_move_weigh_little_in_the_rigid_fit() -> None:
    weights = codec().weights
    assert weights[[14, 17, 87]].max() < weights[[10, 338, 109]].min()


def test_the_basis_analyses_what_it_makes() -> None:
    numbers = torch.randn(5, codec().coefficients)
    displacement = torch.einsum("fk,kvi->fvi", numbers, codec().basis)
    back = torch.einsum("fvi,kvi->fk", displacement, codec().analysis)
    assert torch.allclose(back, numbers, atol=1e-3)


def test_the_canvas_holds_every_point_and_enlarges_the_mouth() -> None:
    made = codec()
    size = torch.tensor([made.width, made.height]) * made.strides.width
    assert made.layout.min() >= 0
    assert (made.layout <= size - 1 + 1e-3).all()
    mouth, face = ((p.max(0).values - p.min(0).values)[0] for p in (made.layout[list(LIPS_INNER)], made.layout))
    own = [(p.max(0).values - p.min(0).values)[0] for p in (made.template[list(LIPS_INNER)], made.template)]
    assert mouth / face > 1.3 * own[0] / own[1]


def test_fitting_is_reproducible() -> None:
    made = MeshCodec(10, 6, 4)
    fit_mesh_codec(made, tracks())
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in codec().state_dict().items())


def test_nothing_in_a_fitted_codec_is_nan() -> None:
    assert all(torch.isfinite(b).all() for b in codec().buffers())


def test_clips_shorter_than_a_block_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"clips of at least 0.96 s .* none of the 2 is that long"):
        fit_mesh_codec(MeshCodec(8, 6, 4), [make_track("a", "a", frames=10), make_track("b", "b", frames=20)])
