"""Painted lids."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.autoencoder.lids import close_lids
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.perception.face_measures import eye_opening
from fantasytalking.perception.landmarks import track_mesh
from fantasytalking.perception.mesh_points import LEFT_EYE, RIGHT_EYE
from fantasytalking.pipeline.model_names import embedded_folder
from tests.autoencoder.moved_faces import paint, turned
from tests.training.synthetic import own_mesh

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]
SKIN, WHITE = 150, (250, 250, 250)


def closed(mesh: Array, share: float = 1.0) -> Array:
    return np.asarray(close_lids(torch.from_numpy(mesh)[None], torch.full((1, 2), share))[0].numpy(), np.float32)


def plain_face(side: int = 960) -> tuple[Pixels, Array]:
    """Skin of one colour with white eyes under dark lashes."""
    mesh = own_mesh() * (side / 192)
    image = np.full((side, side, 3), SKIN, np.uint8)
    for outline in (RIGHT_EYE, LEFT_EYE):
        lashes = mesh.copy()
        lashes[list(outline)] -= np.array([0, side / 150, 0], np.float32)
        image = paint(paint(image, lashes, outline, (20, 20, 20)), mesh, outline, WHITE)
    return image, mesh


def test_a_closed_lid_is_skin_down_to_a_dark_line_and_nothing_of_the_eye_shines_through() -> None:
    image, mesh = plain_face()
    moved = closed(mesh)
    frame = PortraitWarper(image, mesh)(moved)[..., 0].astype(int)
    for outline in (RIGHT_EYE, LEFT_EYE):
        inside = paint(np.zeros_like(image), mesh, outline, WHITE)[..., 0] > 0
        assert (image[..., 0][inside] > 200).mean() > 0.95
        assert (frame[inside] > 170).mean() < 0.02
        upper = outline[4]
        x, line = np.round(moved[upper, :2]).astype(int)
        above = frame[int(mesh[upper, 1]) + 3 : line - 12, x]
        assert len(above) >= 5
        assert np.abs(above - SKIN).max() <= 40  # the shade of the lashes
        assert frame[line - 2 : line + 3, x].min() < 100


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_an_eye_that_is_open_is_not_painted_even_where_the_head_turns(share: float) -> None:
    image, mesh = plain_face()
    warper = PortraitWarper(image, mesh)
    for moved in (closed(mesh, share), turned(own_mesh(), 0.15, 0.1) * 5):
        (begun,) = warper.begin(moved[None])
        before, painted = begun.frame.copy(), begun.frame.copy()
        for layer in warper.layers:
            if layer.placed.opening.is_eye:
                affine = np.asarray(layer.around_inverse @ begun.skull[layer.around, :2], np.float32)
                layer.lid.draw(painted, begun.points, affine)
        assert np.array_equal(painted, before)


def test_eyes_that_are_closed_in_the_photo_are_left_alone() -> None:
    image, mesh = plain_face()
    shut = closed(mesh, 0.85)
    warper = PortraitWarper(image, shut)
    for moved in (closed(shut), turned(own_mesh(), 0.1) * 5):
        pulled = moved[:, :2]
        assert all(layer.lid.closure(pulled) == 0 for layer in warper.layers if layer.placed.opening.is_eye)


def test_a_lid_fades_in_as_it_comes_down() -> None:
    image, mesh = plain_face()
    warper = PortraitWarper(image, mesh)
    inside = paint(np.zeros_like(image), mesh, RIGHT_EYE, WHITE)[..., 0] > 0
    white = [(warper(closed(mesh, share))[inside] > 200).mean() for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert all(before > after for before, after in itertools.pairwise(white))
    assert white[-1] < 0.01


def test_the_mesh_network_sees_the_eyes_of_the_example_close() -> None:
    image = np.asarray(Image.open(embedded_folder() / "example" / "portrait.png").convert("RGB"))
    still = [image] * 6
    (mesh, *_), _ = track_mesh(iter(still))
    frame = PortraitWarper(image, mesh)(closed(mesh))
    points, _ = track_mesh(iter([*still, frame, frame]))
    opening = eye_opening(points)
    assert (opening[-1] / opening[5]).max() < 0.8


@pytest.mark.parametrize("shift", [(-70, 0), (60, 0), (0, -60)])
def test_eyes_that_the_frame_cuts_close_without_a_fault(shift: tuple[int, int]) -> None:
    image, mesh = plain_face(192)
    away = mesh + np.array([*shift, 0], np.float32)
    moved = np.roll(image, shift[::-1], (0, 1))
    frame = PortraitWarper(moved, away)(closed(away))
    assert frame.shape == moved.shape
    assert not np.array_equal(frame, moved)
