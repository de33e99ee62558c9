"""Mouth and eyes as slits."""

from __future__ import annotations

import numpy as np

from fantasytalking.autoencoder.openings import EYES, MOUTH, OPENINGS, PlacedOpening
from fantasytalking.perception.mesh_points import LEFT_EYE, LIPS_INNER, RIGHT_EYE
from tests.training.synthetic import open_mouth, own_mesh


def test_edges_run_from_corner_to_corner_and_take_in_the_whole_outline() -> None:
    for opening, outline in zip(OPENINGS, (LIPS_INNER, RIGHT_EYE, LEFT_EYE), strict=True):
        assert opening.upper[0] == opening.lower[0] and opening.upper[-1] == opening.lower[-1]
        assert {*opening.upper, *opening.lower} == {*outline}
        placed = PlacedOpening(opening, own_mesh())
        for edge in (placed.upper, placed.lower, placed.above, placed.below):
            assert edge is None or (np.diff(edge.u) > 0).all()
        assert placed.above.at(np.zeros(1, np.float32)) < placed.upper.at(np.zeros(1, np.float32))
    assert MOUTH.rim == 0 < EYES[0].rim and not MOUTH.is_eye and EYES[1].is_eye


def test_places_go_to_the_openings_own_axes_and_back() -> None:
    placed = PlacedOpening(MOUTH, own_mesh())
    points = own_mesh()[:, :2]
    assert np.allclose(placed.image(placed.local(points)), points, atol=1e-3)
    assert np.allclose(placed.local(points[[MOUTH.upper[0], MOUTH.upper[-1]]])[:, 1], 0, atol=1e-3)


def test_the_gap_is_that_of_the_lips() -> None:
    shut, wide = open_mouth(own_mesh(), np.array([0.0, 0.1], np.float32))
    assert PlacedOpening(MOUTH, wide).gap > PlacedOpening(MOUTH, shut).gap + 0.08 * np.ptp(own_mesh()[:, 1])


def test_a_place_on_an_edge_lies_between_its_two_points() -> None:
    edge = PlacedOpening(MOUTH, own_mesh()).upper
    u = np.linspace(edge.u[0] - 5, edge.u[-1] + 5, 31).astype(np.float32)
    points, weights = edge.shares(u)
    assert np.allclose(weights.sum(1), 1)
    height = dict(zip(edge.points.tolist(), edge.v.tolist(), strict=True))
    meant = [sum(w * height[int(p)] for p, w in zip(*pair, strict=True)) for pair in zip(points, weights, strict=True)]
    assert np.allclose(meant, edge.at(u), atol=1e-4)
