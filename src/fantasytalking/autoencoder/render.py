"""Rendering of a moving face: the portrait is warped to each mesh, and the painter adds what the photo does not show of the mouth."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.autoencoder.displacement import smoothstep
from fantasytalking.autoencoder.mouth_crops import (
    crop_bounds,
    crop_scale,
    crop_transform,
    draw_lips,
    lips_in_crop,
    mouth_windows,
    take_crop,
)
from fantasytalking.autoencoder.painter import MouthPainter, stack_input
from fantasytalking.autoencoder.soundness import limit_motion
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.perception.body import person_mask
from fantasytalking.perception.landmarks import mouth_opening
from fantasytalking.system.prefetching import Prefetcher

__all__ = ["CHANGED", "Renderer", "paste", "render", "silhouette", "warper_of"]

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

CHANGED = 0.012  # change of the mouth opening (gap over face height), from which on the mouth is painted in full
RENDER_BATCH = 8  # frames warped and painted at once


@torch.no_grad()
def render(
    image: Pixels,
    mesh: Array,
    moved: Array,
    painter: MouthPainter,
    aside: bool = False,
    warper: PortraitWarper | None = None,
    end: int | None = None,
) -> Iterator[Pixels]:
    """Render a portrait whose face moves.

    Args:
        image: The portrait, [H, W, 3].
        mesh: Its face mesh, [468, 3] in pixels.
        moved: The mesh of each frame, [F, 468, 3] in pixels. Where inner lips or lids coincide, mouth or eye is closed.
        painter: The mouth painter.
        aside: Whether the next frames are warped in further threads, while these are painted.
        warper: What `warper_of` made of the portrait already; None: it is made here.
        end: One past the last frame that is rendered; None: all are. What is the same for all frames does not depend on it.

    Yields:
        uint8 [H, W, 3].
    """
    mesh, moved = mesh.astype(np.float32), moved.astype(np.float32)
    yield from Renderer(image, mesh, painter, _travel(mesh, moved), warper).frames(moved, 0, end, aside)


class Renderer:
    """A portrait ready to be drawn with any mesh, for one stretch of frames after another.

    Args:
        image: The portrait, [H, W, 3].
        mesh: Its face mesh, [468, 3] in pixels.
        painter: The mouth painter.
        travel: Largest displacement of the head to allow for, in pixels. The seam towards the background depends on it, so it is one number
            for all stretches of a video.
        warper: What `warper_of` made of the portrait already; None: it is made here.

    Attributes:
        window: Width and height of the part of the mouth's crop that is painted. It grows where a mouth opens wider and never shrinks.
    """

    def __init__(
        self, image: Pixels, mesh: Array, painter: MouthPainter, travel: float, warper: PortraitWarper | None = None
    ) -> None:
        self._image, self._mesh, self._painter = image, mesh.astype(np.float32), painter
        self._warper = warper or warper_of(image, self._mesh)
        self._warper.field.allow_for(travel)
        self.window = (0, 0)

    @torch.no_grad()
    def frames(self, moved: Array, first: int = 0, end: int | None = None, aside: bool = False) -> Iterator[Pixels]:
        """Draw a stretch of frames. The result does not depend on stretches drawn before, but for `window`.

        Args:
            moved: Meshes [F, 468, 3] in pixels.
            first: First mesh that is drawn; those before it and behind the last are context, by which motion is held back softly.
            end: One past the last mesh that is drawn; None draws to the end. What is the same for all frames does not depend on it.
            aside: Whether the next frames are warped in further threads, while these are painted.

        Yields:
            uint8 [H, W, 3].
        """
        warper = self._warper
        warper.forget()
        moved = limit_motion(warper.field, moved.astype(np.float32))[first:]
        count = -(-len(moved[: None if end is None else max(end - first, 0)]) // RENDER_BATCH)
        if not count:
            return
        mouth = _MouthOf(self._image, self._mesh, warper.field.shown(moved), self._painter, self.window)
        self.window = mouth.windows.width, mouth.windows.height
        moved = moved[: None if end is None else end - first]
        # Three steps, each in a thread of its own, one batch behind the one before: no core waits while another one has work.
        with (
            Prefetcher(lambda i: warper.begin(moved[i * RENDER_BATCH :][:RENDER_BATCH]), int(aside), count) as begun,
            Prefetcher(lambda i: [warper.finish(one) for one in begun.take(i)], int(aside), count) as finished,
        ):
            for number in range(count):
                frames = finished.take(number)
                mouth.paint(frames, number * RENDER_BATCH)
                yield from frames


def warper_of(image: Pixels, mesh: Array) -> PortraitWarper:
    """Everything about a portrait [H, W, 3] and its mesh [468, 3] that does not depend on how it moves."""
    mesh = mesh.astype(np.float32)
    warper = PortraitWarper(image, mesh, silhouette(image, mesh))
    warper.photo  # noqa: B018 - made when it is first asked for
    return warper


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
    """The painter at work on one portrait.

    Args:
        image: The portrait.
        mesh: Its mesh.
        moved: The meshes of all frames, as they are shown [F, 468, 3].
        painter: The mouth painter.
        least: Width and height that the painted windows have at least.
    """

    def __init__(
        self, image: Pixels, mesh: Array, moved: Array, painter: MouthPainter, least: tuple[int, int] = (0, 0)
    ) -> None:
        # a seventh faster on a CPU than channels first
        painter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        side, scale = painter.crop, crop_scale(mesh, painter.crop)
        self.painter, self.scaled = painter, side * scale
        self.needed = smoothstep(np.abs(mouth_opening(moved) - float(mouth_opening(mesh))) / CHANGED)
        own = crop_transform(mesh, side, scale)
        own_lips = lips_in_crop(mesh, own)
        self.transforms = np.stack([crop_transform(points, side, scale) for points in moved])
        lips = np.stack([lips_in_crop(points, t) for points, t in zip(moved, self.transforms, strict=True)])
        # of one size for all frames: a change of size could be seen
        self.windows = mouth_windows(lips, own_lips[None], side, scale, least)
        self.transforms[:, :, 2] -= self.windows.corners
        self.lips = (lips - self.windows.corners[:, None, None]).astype(np.float32)
        self.portrait = take_crop(image, own, (side, side))
        self.inner = draw_lips(own_lips, (side, side), self.scaled)[0]

    def paint(self, frames: list[Pixels], first: int) -> None:
        """Paint the mouths of frames, in place, where they are open otherwise than in the portrait; `first` is their first number."""
        needed = self.needed[first : first + len(frames)]
        which = np.flatnonzero(needed > 0)
        if not len(which):
            return
        size = self.windows.width, self.windows.height
        crops = np.stack([take_crop(frames[i], self.transforms[first + i], size) for i in which])
        masks = np.stack([draw_lips(self.lips[first + i], size, self.scaled) for i in which])
        windows = self.windows._replace(corners=self.windows.corners[first + which])
        portraits, inners = (windows.cut([part] * len(which)) for part in (self.portrait, self.inner))
        painted, opacity = self.painter.paint(stack_input(crops, portraits, masks, inners))
        for i, pixels, mask in zip(which, painted, opacity, strict=True):
            paste(frames[i], pixels, mask * needed[i], self.transforms[first + i])


def paste(frame: Pixels, paint: Pixels, mask: Array, transform: Array) -> None:
    """Blend a painted window into a frame, weighted by the mask, in place."""
    height, width = mask.shape
    x0, y0, x1, y1 = crop_bounds(transform, (width, height), *frame.shape[:2])
    if x1 <= x0 or y1 <= y0:
        return
    inverse = cv2.invertAffineTransform(transform) - np.array([[0, 0, x0], [0, 0, y0]], np.float32)
    size = (x1 - x0, y1 - y0)
    shrink = float(np.hypot(*inverse[0, :2]))
    if shrink < 0.6:  # blur first: warpAffine alone would alias
        paint = cv2.GaussianBlur(paint, (0, 0), 0.45 / shrink)
        mask = cv2.GaussianBlur(mask, (0, 0), 0.45 / shrink)
    pixels = cv2.warpAffine(paint, inverse, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(mask, inverse, size, flags=cv2.INTER_LINEAR)
    frame[y0:y1, x0:x1] = cv2.blendLinear(frame[y0:y1, x0:x1], pixels, 1 - alpha, alpha)
