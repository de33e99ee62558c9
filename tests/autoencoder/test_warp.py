"""Moving a portrait with its mesh."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.perception.landmarks import face_mesh
from tests.pipeline.tiny_pipeline import portrait
from tests.training.synthetic import open_mouth, own_mesh

Pixels = NDArray[np.uint8]


def difference(a: Pixels, b: Pixels) -> NDArray[np.int64]:
    return np.abs(a.astype(np.int64) - b)


@pytest.mark.parametrize("size", [(192, 192), (191, 133), (1301, 1100)])
def test_a_mesh_that_stays_leaves_the_portrait_as_it_is(size: tuple[int, int]) -> None:
    width, height = size
    image = cv2.resize(portrait(), size, interpolation=cv2.INTER_CUBIC)
    mesh = own_mesh() * np.array([width / 192, height / 192, 1], np.float32)
    assert difference(PortraitWarper(image, mesh)(mesh), image).max() <= 1


@pytest.mark.parametrize("factor", [1, 5])
def test_a_shifted_mesh_shifts_the_face_and_leaves_the_far_background(factor: int) -> None:
    rng = np.random.default_rng(0)
    side = 400 * factor
    # a soft pattern shows every wrong pixel, on the face too
    image = cv2.resize(rng.integers(0, 255, (50, 50, 3), np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    mesh = factor * (own_mesh() + np.array([120, 130, 0], np.float32))
    shift = np.array([6.0, 4.0, 0.0], np.float32) * factor
    warper = PortraitWarper(image, mesh)
    moved = warper(mesh + shift)
    face = cv2.fillConvexPoly(np.zeros((side, side), np.uint8), cv2.convexHull(np.round(mesh[:, :2]).astype(int)), 1)
    ys, xs = np.nonzero(face)
    expected = image[ys, xs]
    assert np.percentile(difference(moved[ys + int(shift[1]), xs + int(shift[0])], expected), 99) <= 2
    outermost = np.round(warper.field.surroundings.rings[-1]).astype(int)
    near = cv2.dilate(cv2.fillPoly(np.zeros((side, side), np.uint8), [outermost], 1), np.ones((5, 5), np.uint8))
    assert 0.1 < near.mean() < 0.8
    assert difference(moved, image)[near == 0].max() == 0


def test_between_the_face_and_the_background_nothing_tears() -> None:
    y, x = np.mgrid[:192, :192]
    image = np.repeat(((x + y) / 2).astype(np.uint8)[..., None], 3, 2)  # a ramp: a tear would be a step
    mesh = own_mesh()
    moved = PortraitWarper(image, mesh)(mesh + np.array([5, -3, 0], np.float32)).astype(int)[..., 0]
    assert max(np.abs(np.diff(moved, axis=a)).max() for a in (0, 1)) <= 5


def test_opening_the_mouth_moves_the_chin_and_not_the_forehead() -> None:
    image, mesh = portrait(), own_mesh()
    moved = PortraitWarper(image, mesh)(open_mouth(mesh, np.array([0.1], np.float32))[0])
    changed = difference(moved, image).max(-1) > 8
    brow = int(mesh[9, 1])
    assert not changed[: brow - 10].any()
    assert changed[int(mesh[13, 1]) : int(mesh[152, 1]) + 5].sum() > 100


@pytest.mark.parametrize("crop", [(64, 36, 130, 110), (0, 0, 100, 75), (90, 40, 192, 192), (69, 42, 125, 105)], ids=str)
def test_faces_at_the_border_or_filling_the_picture_move_without_holes(crop: tuple[int, int, int, int]) -> None:
    x0, y0, x1, y1 = crop
    image = portrait()[y0:y1, x0:x1]
    mesh = own_mesh() - np.array([x0, y0, 0], np.float32)
    warper = PortraitWarper(np.ascontiguousarray(image), mesh)
    for shift in (0, 12, -12):
        points = open_mouth(mesh, np.array([0.08], np.float32))[0] + np.array([shift, -shift, 0], np.float32)
        assert all(np.isfinite(warper.backward_map(sheet)).all() for sheet in warper.field(points[None])[0])
        moved = warper(points)
        assert moved.shape == image.shape
        assert moved.dtype == np.uint8
    assert difference(warper(mesh), image).max() <= 1


def test_a_turned_head_stays_a_face() -> None:
    image, mesh = portrait(), own_mesh()
    from tests.training.synthetic import turn_head

    turned = turn_head(
        mesh[None], np.array([[0.0, 0.2, 0.05]], np.float32), np.zeros((1, 2), np.float32), np.ones(1, np.float32)
    )[0]
    found = face_mesh(PortraitWarper(image, mesh)(turned)).points
    apart = np.linalg.norm(found[:, :2] - turned[:, :2], axis=1)
    still = np.linalg.norm(mesh[:, :2] - turned[:, :2], axis=1)
    assert np.median(apart) < 0.6 * np.median(still)


def test_outside_the_silhouette_nothing_moves_however_near_the_head() -> None:
    image, mesh = portrait(), own_mesh()
    person = np.zeros(image.shape[:2], np.float32)
    cv2.fillConvexPoly(person, cv2.convexHull(np.round(mesh[:, :2]).astype(int)), 1.0)
    moved = mesh + np.array([4, -2, 0], np.float32)
    silhouette = cv2.dilate(
        np.maximum(person, cv2.warpAffine(person, np.array([[1, 0, 4], [0, 1, -2]], np.float32), (192, 192))),
        np.ones((27, 27)),
    )
    plain, layered = (PortraitWarper(image, mesh, mask)(moved) for mask in (None, person))
    assert difference(layered, image)[silhouette == 0].max() <= 1
    assert difference(plain, image)[silhouette == 0].max() > 20
    inside = cv2.erode(person, np.ones((7, 7))) > 0
    assert np.percentile(difference(layered, plain)[inside], 99) <= 1
    assert difference(PortraitWarper(image, mesh, person)(mesh), image).max() <= 1


def test_shoulders_follow_less_than_the_crown() -> None:
    warper = PortraitWarper(portrait(), own_mesh())
    shift = np.array([6.0, 0.0, 0.0], np.float32)
    moved = warper.field.surroundings.ring_points(own_mesh() + shift) - warper.field.surroundings.rings
    ring = warper.field.surroundings.rings[3]
    crown, throat = moved[3, ring[:, 1].argmin(), 0], moved[3, ring[:, 1].argmax(), 0]
    assert crown > 1.3 * throat > 0
