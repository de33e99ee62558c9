"""A new mouth in a filmed frame: nothing else changes, and it opens as it is meant to, whatever the filmed one does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fantasytalking.autoencoder.dub_areas import dub_outline
from fantasytalking.autoencoder.dubbed_mouth import DubbedMouth
from fantasytalking.autoencoder.mesh_autoencoder import MeshAutoencoder
from fantasytalking.perception.landmarks import face_mesh
from fantasytalking.pipeline.model_names import embedded_folder
from tests.pipeline.tiny_pipeline import portrait

Frames = list[tuple[NDArray[np.uint8], NDArray[np.float32]]]


@pytest.fixture(scope="module")
def filmed() -> tuple[DubbedMouth, Frames]:
    """The portrait's mouth, closed to wide open, as if it had been filmed so, and what makes it anew."""
    vae = MeshAutoencoder.from_pretrained(embedded_folder() / "vae")
    picture = portrait(224)
    mesh = face_mesh(picture).points.astype(np.float32)
    mouth = DubbedMouth(vae.codec, vae.painter, mesh[None])
    own, frames = mouth.expression_of(mesh), []
    for opening in (0.0, 0.1, 0.25):
        wider = own + (opening - vae.codec.gap_of(own)) * vae.codec.opening_direction
        frame = mouth(picture, mesh, wider)
        frames.append((frame, face_mesh(frame).points.astype(np.float32)))
    mouth = DubbedMouth(vae.codec, vae.painter, np.stack([at for _, at in frames]))
    mouth.calibrate(frames)
    return mouth, frames


def test_outside_the_area_no_pixel_changes_and_without_a_share_none_at_all(filmed: tuple[DubbedMouth, Frames]) -> None:
    mouth, frames = filmed
    frame, mesh = frames[1]
    expression = mouth.expression_of(mesh) + 0.2 * mouth.codec.opening_direction
    made = mouth(frame, mesh, expression)
    inside = np.zeros(frame.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.round(dub_outline(mesh) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    np.testing.assert_array_equal(made[inside == 0], frame[inside == 0])
    assert np.abs(made[inside > 0].astype(int) - frame[inside > 0]).mean() > 1
    np.testing.assert_array_equal(mouth(frame, mesh, expression, share=0.0), frame)


def test_the_new_mouth_opens_as_meant_whether_the_filmed_one_was_open_or_closed(
    filmed: tuple[DubbedMouth, Frames],
) -> None:
    mouth, frames = filmed
    old = [float(mouth.opening_of(mesh)) for _, mesh in frames]
    assert old[2] - old[0] > 0.12
    for meant in (0.0, 0.12):
        expression = torch.zeros(mouth.codec.coefficients) + meant * mouth.codec.opening_direction
        made = [mouth(frame, mesh, expression) for frame, mesh in frames]
        read = [float(mouth.opening_of(face_mesh(one).points.astype(np.float32))) for one in made]
        assert np.ptp(read) < 0.045
        assert np.abs(np.array(read) - meant).max() < 0.05
