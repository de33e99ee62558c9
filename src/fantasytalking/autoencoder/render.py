"""Rendering of a moving face: the portrait is warped to each mesh, and the painter adds what the photo does not show of the mouth."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.autoencoder.displacement import smoothstep
from fantasytalking.autoencoder.interface import to_uint8
from fantasytalking.autoencoder.painter import (
    MouthPainter,
    crop_bounds,
    crop_transform,
    draw_masks,
    painter_input,
    take_crop,
)
from fantasytalking.autoencoder.soundness import limit_motion
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.perception.body import person_mask
from fantasytalking.perception.landmarks import mouth_opening
from fantasytalking.system.execution_device import execution_device

__all__ = ["render", "silhouette"]

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

CHANGED = 0.012  # change of the mouth opening (gap over face height), from which on the mouth is painted in full
RENDER_BATCH = 8  # frames warped and painted at once


@torch.no_grad()
def render(image: Pixels, mesh: Array, moved: Array, painter: MouthPainter) -> Iterator[Pixels]:
    """Render a portrait whose face moves.

    Args:
        image: The portrait, [H, W, 3].
        mesh: Its face mesh, [468, 3] in pixels.
        moved: The mesh of each frame, [F, 468, 3] in pixels. Where inner lips or lids coincide, mouth or eye is closed.
        painter: The mouth painter.

    Yields:
        uint8 [H, W, 3].
    """
    mesh, moved = mesh.astype(np.float32), moved.astype(np.float32)
    warper = PortraitWarper(image, mesh, silhouette(image, mesh), _travel(mesh, moved))
    moved = limit_motion(warper.field, moved)
    mouth = _MouthOf(image, mesh, painter)
    for start in range(0, len(moved), RENDER_BATCH):
        batch = moved[start : start + RENDER_BATCH]
        frames = warper.frames(batch)
        mouth.paint(frames, warper.field.shown(batch))
        yield from frames


def silhouette(image: Pixels, mesh: Array) -> Array | None:
    """Mask of the person [H, W], 0..1; None where the network does not take the face for part of a person (as in some drawings)."""
    mask = person_mask(image)
    height, width = mask.shape
    inside = np.round(mesh[:, :2]).astype(int)
    inside = inside[((inside >= 0) & (inside < (width, height))).all(1)]
    if not len(inside) or (mask[inside[:, 1], inside[:, 0]] > 0.5).mean() < 0.97:
        return None
    return np.asarray(mask, np.float32)


def _travel(mesh: Array, moved: Array) -> float:
    """Largest displacement of the face as a whole in pixels."""
    shift = moved[:, :, :2].mean(1) - mesh[:, :2].mean(0)
    return float(np.hypot(*shift.T).max(initial=0.0))


class _MouthOf:
    """The painter at work on one portrait."""

    def __init__(self, image: Pixels, mesh: Array, painter: MouthPainter) -> None:
        # a seventh faster on a CPU than channels first
        painter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        self.painter, self.side = painter, painter.crop
        own = crop_transform(mesh, self.side)
        self.portrait, self.inner = take_crop(image, own, self.side), draw_masks(mesh, own, self.side)[0]
        self.opening = float(mouth_opening(mesh))

    def paint(self, frames: list[Pixels], moved: Array) -> None:
        """Paint the mouths of frames, in place, where they are open otherwise than in the portrait."""
        needed = smoothstep(np.abs(mouth_opening(moved) - self.opening) / CHANGED)
        which = np.flatnonzero(needed > 0)
        if not len(which):
            return
        transforms = [crop_transform(moved[i], self.side) for i in which]
        crops = np.stack([take_crop(frames[i], t, self.side) for i, t in zip(which, transforms, strict=True)])
        masks = np.stack([draw_masks(moved[i], t, self.side) for i, t in zip(which, transforms, strict=True)])
        portraits, inners = (np.stack([x] * len(which)) for x in (self.portrait, self.inner))
        weight = next(self.painter.parameters())
        inputs = painter_input(crops, portraits, masks, inners).to(execution_device(self.painter), weight.dtype)
        paint, alpha = self.painter(inputs.contiguous(memory_format=torch.channels_last))
        painted, opacity = to_uint8(paint), alpha[:, 0].float().cpu().numpy() * needed[which, None, None]
        for i, pixels, mask, transform in zip(which, painted, opacity, transforms, strict=True):
            _paste(frames[i], pixels, mask, transform)


def _paste(frame: Pixels, paint: Pixels, mask: Array, transform: Array) -> None:
    """Blend a painted crop into a frame, weighted by the mask, in place."""
    side = paint.shape[0]
    x0, y0, x1, y1 = crop_bounds(transform, side, *frame.shape[:2])
    if x1 <= x0 or y1 <= y0:
        return
    inverse = cv2.invertAffineTransform(transform) - np.array([[0, 0, x0], [0, 0, y0]], np.float32)
    size = (x1 - x0, y1 - y0)
    shrink = float(np.hypot(*inverse[0, :2]))
    if shrink < 0.6:  # blur first: warpAffine alone would alias
        paint = cv2.GaussianBlur(paint, (0, 0), 0.45 / shrink)
        mask = cv2.GaussianBlur(mask, (0, 0), 0.45 / shrink)
    pixels = cv2.warpAffine(paint, inverse, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(mask, inverse, size, flags=cv2.INTER_LINEAR)[..., None]
    patch = frame[y0:y1, x0:x1].astype(np.float32)
    frame[y0:y1, x0:x1] = np.round(patch + alpha * (pixels.astype(np.float32) - patch)).astype(np.uint8)
