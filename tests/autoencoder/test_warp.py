"""Moving a portrait with its mesh."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.perception.landmarks import face_mesh
from fantasytalking.perception.mesh_points import LEFT_EYE, LIPS_INNER, RIGHT_EYE
from tests.autoencoder.moved_faces import blink, close_mouth, paint, turned
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


def like(image: Pixels, colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Pixels whose colour is nearer to one than to anything in a face."""
    return np.asarray(difference(image, np.array(colour)).max(-1) < 110)


def large() -> tuple[Pixels, NDArray[np.float32]]:
    """The example portrait five times as large, with its mesh."""
    size = (960, 960)
    mesh = own_mesh() * 5
    mesh[:, :2] += 2  # pixel centres: x becomes 5 (x + 1/2) - 1/2
    return np.asarray(cv2.resize(portrait(), size, interpolation=cv2.INTER_CUBIC), np.uint8), mesh


def test_lips_that_meet_leave_nothing_of_the_teeth_between_them() -> None:
    """Before: the teeth were squashed into a jagged line."""
    image, mesh = large()
    green = (0, 255, 0)
    image = paint(image, mesh, LIPS_INNER, green)
    assert like(image, green).sum() > 1000
    warper = PortraitWarper(image, mesh)
    assert like(warper(close_mouth(mesh)), green).sum() <= 0.03 * like(image, green).sum()
    head = turned(mesh, 0.15, 0.05)
    assert like(warper(close_mouth(head)), green).sum() <= 0.03 * like(image, green).sum()


def test_teeth_keep_their_size_when_the_mouth_opens() -> None:
    """Before: they were stretched with it."""
    image, mesh = large()
    green = (0, 255, 0)
    image = paint(image, mesh, LIPS_INNER, green)
    opened = PortraitWarper(image, mesh)(open_mouth(mesh, np.array([0.1], np.float32))[0])
    assert like(opened, green).sum() < 1.8 * like(image, green).sum()


def test_lids_come_down_over_an_eye_that_stays_as_it_is() -> None:
    """Before: the eye was squashed beneath the lid, down to a line."""
    image, mesh = large()
    blue = (0, 0, 255)
    for outline in (RIGHT_EYE, LEFT_EYE):  # a wide iris; lashes at the edge go down with the lid
        gap = float(np.linalg.norm(mesh[outline[12], :2] - mesh[outline[4], :2]))
        centre = np.round((mesh[outline[12], :2] + mesh[outline[4], :2]) / 2).astype(int).tolist()
        image = np.asarray(cv2.ellipse(image, centre, (int(1.2 * gap), int(0.25 * gap)), 0, 0, 360, blue, -1), np.uint8)
    warper = PortraitWarper(image, mesh)
    whole = like(image, blue).sum()
    assert like(warper(blink(mesh)), blue).sum() <= 0.08 * whole
    # partly shut, what is still seen of the iris is where it was
    pattern = image.copy()
    ys, xs = np.nonzero(like(image, blue))
    pattern[ys, xs] = np.stack([0 * ys, 0 * ys, np.where((ys // 6) % 2, 255, 200)], -1)
    half = PortraitWarper(pattern, mesh)(blink(mesh, 0.3))
    seen = like(half, blue)
    assert 0.2 * whole < seen.sum() < 0.8 * whole
    for outline in (RIGHT_EYE, LEFT_EYE):  # and below the shade of the lashes
        shaded = np.round(mesh[outline[4], :2] + 0.65 * (mesh[outline[12], :2] - mesh[outline[4], :2])).astype(int)
        seen[: shaded[1], shaded[0] - 80 : shaded[0] + 80] = False
    assert seen.sum() > 100
    assert np.percentile(difference(half, pattern)[seen], 75) <= 2


def test_a_lid_is_stretched_evenly_between_brow_and_lashes() -> None:
    """Only the points of the edge move here; before, the strip of skin next to them was stretched alone."""
    image, mesh = large()
    shaded = np.repeat((np.arange(960) % 256).astype(np.uint8)[:, None, None], 960, 1).repeat(3, 2)
    frame = PortraitWarper(shaded, mesh).begin(blink(mesh)[None])[0].frame  # without the painted lid
    x = int(mesh[159, 0])
    rows = slice(int(mesh[52, 1]) + 8, int(mesh[145, 1]) - 4)
    slope = np.diff(frame[rows, x, 0].astype(float))
    assert image.shape == frame.shape
    assert slope.min() >= 0  # 1 where nothing is stretched
    assert np.percentile(np.convolve(slope, np.ones(6) / 6, "valid"), 5) > 0.25


@pytest.mark.parametrize("yaw", [-0.55, 0.55])
def test_a_turned_head_moves_without_single_wrong_pixels(yaw: float) -> None:
    """On a ramp every flipped triangle is a step."""
    mesh = turned(own_mesh(), yaw)
    y, x = np.mgrid[:192, :192]
    image = np.repeat(((x + y) / 2).astype(np.uint8)[..., None], 3, 2)
    warper = PortraitWarper(image, mesh)
    for more in (-0.25, 0.25):
        moved = warper(turned(own_mesh(), yaw + more)).astype(int)[..., 0]
        second = [np.abs(np.diff(moved, 2, axis=a)).max() for a in (0, 1)]
        assert max(second) <= 6


@pytest.mark.parametrize("shift", [(-8, 0), (8, 0), (0, 8)])
def test_a_face_cut_by_the_frame_leaves_no_streaks_at_its_edge(shift: tuple[int, int]) -> None:
    """Before: the outermost column or row was repeated inwards."""
    rng = np.random.default_rng(0)
    x0, y0, x1, y1 = (75, 60, 105, 110)
    image = rng.integers(0, 255, (y1 - y0, x1 - x0, 3), np.uint8)
    mesh = own_mesh() - np.array([x0, y0, 0], np.float32)
    moved = PortraitWarper(image, mesh)(mesh + np.array([*shift, 0], np.float32)).astype(int)
    for edge in (moved, moved[:, ::-1], moved.swapaxes(0, 1), moved[::-1].swapaxes(0, 1)):
        assert np.abs(edge[:, 0] - edge[:, 3]).mean() > 20
