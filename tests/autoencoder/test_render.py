"""Rendering of a portrait: warp and painter together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.autoencoder.render import render, silhouette
from fantasytalking.perception.mesh_points import LIPS_OUTER
from tests.autoencoder.moved_faces import close_mouth
from tests.pipeline.tiny_pipeline import portrait
from tests.training.synthetic import open_mouth, own_mesh


def red_painter(crop: int = 256) -> MouthPainter:
    """A painter that paints everything red that it may paint."""
    painter = MouthPainter((8, 8), crop).eval()
    block = painter.fold**2
    with torch.no_grad():
        bias = painter.leave.bias
        assert bias is not None
        bias[:block], bias[block : 3 * block], bias[3 * block :] = 9.0, -9.0, 9.0
    return painter


def is_red(frame: np.ndarray) -> np.ndarray:
    return np.asarray((frame[..., 0] > 200) & (frame[..., 1:] < 60).all(-1))


@pytest.mark.parametrize("crop", [128, 256])
def test_the_mouth_is_painted_where_it_opens_or_closes_and_only_there(crop: int) -> None:
    """Before, a mouth that closed was not painted, and kept the teeth of an open smile."""
    mesh = own_mesh()
    moved = np.stack(
        [mesh, mesh + np.array([3, 0, 0]), open_mouth(mesh, np.array([0.06], np.float32))[0], close_mouth(mesh)]
    )
    frames = list(render(portrait(), mesh, moved.astype(np.float32), red_painter(crop)))
    assert np.array_equal(frames[0], portrait())
    assert [bool(is_red(frame).any()) for frame in frames] == [False, False, True, True]
    for frame, points in zip(frames[2:], moved[2:], strict=True):
        ys, xs = np.nonzero(is_red(frame))
        low, high = points[list(LIPS_OUTER), :2].min(0) - 4, points[list(LIPS_OUTER), :2].max(0) + 4
        assert (low <= [xs.min(), ys.min()]).all() and ([xs.max(), ys.max()] <= high).all()


def test_frames_do_not_depend_on_how_many_are_rendered_at_once() -> None:
    mesh = own_mesh()
    openings = np.linspace(0, 0.06, 10).astype(np.float32)
    moved = open_mouth(mesh, openings)
    together = list(render(portrait(), mesh, moved, red_painter()))
    assert len(together) == 10
    # the ninth begins a batch of its own
    alone = list(render(portrait(), mesh, moved[8:], red_painter()))
    assert np.abs(together[9].astype(int) - alone[1]).max() <= 1


def test_only_a_face_that_belongs_to_a_person_has_a_silhouette() -> None:
    mask = silhouette(portrait(), own_mesh())
    assert mask is not None and mask.shape == (192, 192)
    assert silhouette(np.full((192, 192, 3), 128, np.uint8), own_mesh()) is None
