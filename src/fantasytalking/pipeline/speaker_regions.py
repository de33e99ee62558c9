"""Who is where in a picture of several people: shares of its pixels, and of the video tokens that hear each of them.

Letters: n people, H x W pixels, h and w token rows and columns of a latent frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from einops import reduce
from numpy.typing import NDArray

from fantasytalking.autoencoder.displacement import smoothstep
from fantasytalking.geometry import Strides
from fantasytalking.perception.faces import Face

__all__ = ["place_shares", "token_regions"]

SEAM = 0.5
"""Width of the seam between two people, in sizes of their faces."""
REACH = (1.5, 2.5)
"""Distance from the middle of a face, in sizes of the face, within which a place is that person's, and beyond which it is nobody's: head,
hair and shoulders are within the first. Models made for several people hear in the face only (HunyuanVideo-Avatar, arXiv 2505.20156) or
within a box around each person (MultiTalk, arXiv 2505.22647)."""


def place_shares(faces: Sequence[Face], height: int, width: int) -> NDArray[np.float32]:
    """Share of each person in each place [n, H, W]: 1 at their own face, 0 at the others'; together 1 everywhere.

    Args:
        faces: n faces in pixels.
        height: H.
        width: W.
    """
    away = _away(faces, height, width)
    shares = []
    for number, own in enumerate(away):
        others = np.delete(away, number, 0)
        nearest = others.min(0) if len(others) else own + 2 * SEAM
        shares.append(smoothstep(0.5 + (nearest - own) / (2 * SEAM)))
    stacked = np.stack(shares)
    return np.asarray(stacked / stacked.sum(0), np.float32)


def token_regions(faces: Sequence[Face], height: int, width: int) -> NDArray[np.float32]:
    """Share of each video token that hears each person [n, h, w]; together at most 1, and less where nobody is near.

    Args:
        faces: n faces in pixels.
        height: H, a multiple of stride times patch.
        width: W, the same.
    """
    near, far = REACH
    reached = smoothstep((far - _away(faces, height, width)) / (far - near))
    rows, columns = Strides().token_size(height, width)
    shares = place_shares(faces, height, width) * reached
    return np.asarray(reduce(shares, "n (h down) (w across) -> n h w", "mean", h=rows, w=columns), np.float32)


def _away(faces: Sequence[Face], height: int, width: int) -> NDArray[np.float32]:
    """Distance of each place from the middle of each face, in sizes of that face [n, H, W]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    middles = [((x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)) for x0, y0, x1, y1 in (one.box for one in faces)]
    return np.stack([np.hypot(x - across, y - down) / size for across, down, size in middles])
