"""How wide a mouth must be drawn to be read as wide as it is meant."""

from __future__ import annotations

import numpy as np
import torch

from fantasytalking.autoencoder.lip_contact import mean_lip_gap
from fantasytalking.autoencoder.mesh_autoencoder import MeshAutoencoder
from fantasytalking.autoencoder.opening_readings import FARTHEST, MOST, drawn_openings
from fantasytalking.media.image import load_image
from fantasytalking.perception.landmarks import face_mesh
from fantasytalking.pipeline.model_names import embedded_folder

PORTRAIT = load_image(embedded_folder() / "example" / "portrait.png")


def with_closed_lips(vae: MeshAutoencoder) -> np.ndarray:
    """The example portrait, which smiles, with its lips closed by the model itself."""
    mesh = torch.from_numpy(face_mesh(PORTRAIT).points)
    parameters = vae.codec.still(mesh)[None].clone()
    parameters[:, : vae.codec.coefficients] = 0
    from fantasytalking.autoencoder.render import render

    (frame,) = render(PORTRAIT, mesh.numpy(), vae.codec.points_of(parameters, mesh).numpy(), vae.painter)
    return frame


def test_an_open_mouth_is_drawn_as_it_is_meant_and_a_closed_one_wider_within_limits() -> None:
    vae = MeshAutoencoder.from_pretrained(embedded_folder() / "vae")
    meant, drawn = drawn_openings(PORTRAIT, face_mesh(PORTRAIT).points, vae.codec, vae.painter)
    assert torch.equal(meant, drawn)

    closed = with_closed_lips(vae)
    mesh = face_mesh(closed).points
    assert float(mean_lip_gap(vae.codec.local_shape(torch.from_numpy(mesh))[0])) < 0.07
    meant, drawn = drawn_openings(closed, mesh, vae.codec, vae.painter)
    assert drawn[0] == 0 and (drawn.diff() >= 0).all() and (drawn >= meant).all()
    assert (drawn <= torch.minimum(MOST * meant, meant + FARTHEST) + 1e-6).all()
    assert (drawn > meant + 1e-4).any()
