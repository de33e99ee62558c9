"""How wide a mouth must be drawn in one portrait to be read as wide as it is meant.

The mesh network, whose readings the motion is learned from, reads the same opening differently in different faces: behind a beard or
between thin lips, half of it. So a portrait's mouth is drawn at a few openings, these are read, and the map from drawn to read is
inverted. Without it, portraits with closed mouths would mumble.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder.lip_contact import mean_lip_gap
from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.autoencoder.render import render
from fantasytalking.perception.mesh_network import mesh_in_region, region_of_mesh

__all__ = ["DRAWN", "drawn_openings", "inverse_readings"]

DRAWN = (0.0, 0.06, 0.12, 0.2, 0.32, 0.46)
"""Openings that are tried, in distances between the eyes."""
OPEN = 0.07
"""Gap between the lips of a portrait from which on its openings are read as they are drawn (50 training portraits)."""
FACE = 224
"""Height of the face in pixels at which they are tried; the network itself looks at 192."""
MOST, FARTHEST = 3.0, 0.17
"""An opening is drawn at most this many times, and by this much, wider than it is meant."""


def drawn_openings(
    image: NDArray[np.uint8], mesh: NDArray[np.float32], codec: MeshCodec, painter: MouthPainter
) -> tuple[Tensor, Tensor]:
    """Rising knots of the map from openings as meant to openings as drawn, both [6], in distances between the eyes.

    Args:
        image: The portrait [H, W, 3].
        mesh: Its mesh [468, 3] in pixels.
        codec: The fitted codec.
        painter: The mouth painter.
    """
    drawn = torch.tensor(DRAWN)
    if float(mean_lip_gap(codec.local_shape(torch.from_numpy(mesh))[0])) > OPEN:
        return drawn, drawn
    scale = min(1.0, FACE / max(float(np.ptp(mesh[:, 1])), 1.0))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        mesh = (scale * mesh).astype(np.float32)
    portrait = torch.from_numpy(mesh)
    own = codec.portrait_expression(portrait)
    motion = codec.still(portrait).expand(len(drawn), -1).clone()
    motion[:, : codec.coefficients] = own + (drawn - codec.gap_of(own))[:, None] * codec.opening_direction
    moved = codec.points_of(motion, portrait).numpy()
    frames = render(image, mesh, moved, painter)
    meshes = [mesh_in_region(frame, region_of_mesh(at)).points for frame, at in zip(frames, moved, strict=True)]
    gaps = mean_lip_gap(codec.local_shape(torch.from_numpy(np.stack(meshes)))[0])
    return drawn, inverse_readings(gaps - gaps[0])


def inverse_readings(read: Tensor) -> Tensor:
    """Openings to draw so that those of `DRAWN` are read.

    Args:
        read: What is read where the openings of `DRAWN` are drawn [6], in distances between the eyes.

    Returns:
        Rising openings [6].
    """
    drawn = torch.tensor(DRAWN)
    # a little slope keeps the inverse defined where the network sees no difference
    rising = torch.cummax(read, 0).values + 1e-3 * drawn
    wanted = torch.from_numpy(np.interp(drawn.numpy(), rising.numpy(), drawn.numpy()).astype(np.float32))
    widest = torch.minimum(MOST * drawn, drawn + FARTHEST)
    return torch.cummax(torch.minimum(torch.maximum(wanted, drawn), widest), 0).values
