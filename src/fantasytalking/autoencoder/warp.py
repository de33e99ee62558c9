"""Warp of a portrait by its face mesh: its pixels move.

The displacement of every pixel is worked out from the mesh (`displacement`), inverted (`inversion`), and the photo is sampled there, so
the result is as sharp as the photo and smooth wherever the mesh is. Mouth and eyes are slits (`openings`): an upper and a lower sheet
move apart or meet, and between them shows what moves with the skull, the teeth or the eyeball. Only a closing lid is painted (`lid_skin`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import ClassVar, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.displacement import FaceField
from fantasytalking.autoencoder.enlarged_photo import EnlargedPhoto
from fantasytalking.autoencoder.inversion import inverse_displacement, looked_up
from fantasytalking.autoencoder.lid_skin import LidSkin
from fantasytalking.autoencoder.mouth_inside import mouth_inside
from fantasytalking.autoencoder.openings import REACH, PlacedOpening
from fantasytalking.autoencoder.rigid import whole_motion

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]

SPARE = 6  # grid steps that an opening's part of the raster is larger than its first frame needs


class Begun(NamedTuple):
    """A frame without its openings.

    Attributes:
        frame: [H, W, 3], on which the upper sheet is drawn everywhere.
        points: The mesh as it is shown [468, 3].
        sheets: Displacement of both sheets on the raster [2, 2, h, w].
        skull: The mesh moved without expression [468, 3].
    """

    frame: Pixels
    points: Array
    sheets: Array
    skull: Array


class PortraitWarper:
    """Warp of one portrait.

    Args:
        image: [H, W, 3] uint8 RGB.
        mesh: [468, 3] the portrait's face mesh in pixels.
        person: [H, W], 0 (background) to 1 (person); None where it is unknown: the background near the head moves with it then.
    """

    field_kind: ClassVar[type[FaceField]] = FaceField

    def __init__(self, image: Pixels, mesh: Array, person: Array | None = None) -> None:
        self.image = image
        self.field = self.field_kind(mesh, image.shape[0], image.shape[1], person)
        self.mesh = self.field.mesh
        self.layers = [_Layer(self, placed) for placed in self.field.openings]
        self.upper = _Inverse(is_smooth=True)

    def forget(self) -> None:
        """Forget the last frame, so that the next one does not depend on it."""
        for inverse in (self.upper, *(layer.lower for layer in self.layers)):
            inverse.forget()

    @cached_property
    def photo(self) -> EnlargedPhoto:
        """The part of the photo that moves, ready to be sampled."""
        return EnlargedPhoto(self.image, self.field.raster.box)

    def begin(self, moved: Array) -> list[Begun]:
        """Begin frames for some of the meshes [F, 468, 3] (pixels): everything but the openings, which `finish` adds.

        Each map is found from the one before, so that frames are begun one after another, by one thread.
        """
        shown = self.field.shown(moved)
        motions = zip(shown, self.field(moved), whole_motion(self.mesh, shown), strict=True)
        return [Begun(self._upper(sheets), points, sheets, skull) for points, sheets, skull in motions]

    def finish(self, begun: Begun) -> Pixels:
        """Draw mouth and eyes into a frame [H, W, 3] that `begin` began; one after another, by one thread, which may be another one."""
        for layer in self.layers:
            layer.draw(begun.frame, begun.points, begun.sheets, begun.skull)
        return begun.frame

    def frames(self, moved: Array) -> list[Pixels]:
        """Move the portrait to each of the meshes [F, 468, 3] (pixels): F frames [H, W, 3]."""
        return [self.finish(begun) for begun in self.begin(moved)]

    def motions(self, moved: Array) -> Iterator[tuple[Array, Array]]:
        """Mesh as it is shown [468, 3] and displacement of both sheets on the raster [2, 2, h, w], for each of the meshes [F, 468, 3]."""
        shown = self.field.shown(moved)
        return zip(shown, self.field(moved), strict=True)

    def __call__(self, points: Array) -> Pixels:
        """Move the portrait so that its mesh lies at `points` [468, 3] (pixels): [H, W, 3] uint8."""
        return self.frames(points[None])[0]

    def backward_map(self, sheet: Array) -> Array:
        """Displacement from each pixel of the raster's box to where it came from, [2, h, w] in pixels, for a sheet's displacement."""
        raster = self.field.raster
        x0, y0, x1, y1 = raster.box
        scale = raster.scale[:, None, None]
        back = self.upper(sheet * scale) / scale
        if back.shape[1:] == (y1 - y0, x1 - x0):
            return back
        # the displacement and not the map: a resize repeats its border
        return np.stack([cv2.resize(plane, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR) for plane in back])

    def _upper(self, sheets: Array) -> Pixels:
        x0, y0, x1, y1 = self.field.raster.box
        result = self.image.copy()
        result[y0:y1, x0:x1] = self.photo.sample(self.backward_map(sheets[0]), (x0, y0))
        return result


class _Inverse:
    """Inverse of a displacement in a window of the raster, found from that of the frame before.

    Args:
        is_smooth: Whether the displacement is folded hardly anywhere.
    """

    def __init__(self, is_smooth: bool = False) -> None:
        self.is_smooth = is_smooth
        self.forget()

    def forget(self) -> None:
        """Forget the frame before."""
        self.window: Box | None = None
        self.last: Array | None = None

    def __call__(self, forward: Array, shown: NDArray[np.bool_] | None = None) -> Array:
        """Invert a displacement [2, h, w] in grid steps, at the places that are shown [h, w] at least."""
        self.last = inverse_displacement(forward, self.last, self.is_smooth, shown)
        return self.last

    def within(self, sheet: Array, scale: Array, needed: Box, outline: Array) -> tuple[Array, tuple[int, int]]:
        """Invert a displacement in a window that holds the places x0, y0, x1, y1.

        Args:
            sheet: Displacement on the whole raster [2, h, w].
            scale: Grid steps for one unit of it [2].
            needed: The places.
            outline: Polygon around what is shown of them [N, 2].

        Returns:
            The inverse in grid steps, and the window's corner.
        """
        height, width = sheet.shape[1:]
        window = self.window
        if (
            window is None
            or needed[0] < window[0]
            or needed[1] < window[1]
            or needed[2] > window[2]
            or needed[3] > window[3]
        ):
            x0, y0, x1, y1 = needed
            window = max(x0 - SPARE, 0), max(y0 - SPARE, 0), min(x1 + SPARE, width), min(y1 + SPARE, height)
            self.window, self.last = window, None
        part = sheet[:, window[1] : window[3], window[0] : window[2]]
        inside = np.zeros(part.shape[1:], np.uint8)
        cv2.fillPoly(inside, [np.round((outline - window[:2]) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
        # and the places beside it, between which those at its border are interpolated
        shown = cv2.dilate(inside, np.ones((3, 3), np.uint8)) > 0
        return self(part * scale[:, None, None], shown), window[:2]


class _Layer:
    """What lies between the edges of an opening, and the lower sheet below it."""

    def __init__(self, warper: PortraitWarper, placed: PlacedOpening) -> None:
        self.warper, self.placed = warper, placed
        self.inside = warper.image if placed.opening.is_eye else mouth_inside(warper.image, placed)
        opening = placed.opening
        self.around = [*opening.upper, *opening.lower, *opening.above, *opening.below]
        places = warper.mesh[self.around, :2]
        self.around_inverse = np.linalg.pinv(
            np.concatenate([places, np.ones_like(places[:, :1])], 1).astype(np.float64)
        )
        reach, depth = REACH * placed.half_width, placed.depths[1]
        corners = np.array([[-reach, 0], [reach, 0], [reach, depth], [-reach, depth]], np.float32)
        self.frame_points = placed.image(corners)
        raster = warper.field.raster
        at = np.rint(raster.to_raster(self.frame_points)).astype(int)
        self.frame_spots = np.clip(at, 0, (raster.width - 1, raster.height - 1))
        self.lower = _Inverse()

    @cached_property
    def lid(self) -> LidSkin:
        """The lid of an eye."""
        return LidSkin(self.warper.image, self.placed)

    def draw(self, frame: Pixels, points: Array, sheets: Array, skull: Array) -> None:
        """Draw the layer and the lower sheet into a frame, in place.

        Args:
            frame: [H, W, 3], on which the upper sheet is drawn everywhere.
            points: The moved mesh.
            sheets: Displacement of upper and lower sheet on the raster.
            skull: The mesh moved without expression.
        """
        drawn = self.masks(points, sheets)
        if drawn is None:
            return
        (x0, y0, x1, y1), below_upper, below, outline = drawn
        box = slice(y0, y1), slice(x0, x1)
        between = np.maximum(below_upper - below, 0)
        pixels = self.warper.photo.sample(self.backward_map(points, sheets[1], (x0, y0, x1, y1), outline), (x0, y0))
        affine = np.asarray(self.around_inverse @ skull[self.around, :2], np.float32)  # motion of the skull [3, 2]
        if between.max() > 0:
            pixels = cv2.blendLinear(pixels, self._interior(points, affine, (x0, y0, x1, y1)), below, between)
        frame[box] = cv2.blendLinear(frame[box], pixels, 1 - below_upper, below_upper)
        if self.placed.opening.is_eye:
            self.lid.draw(frame, points, affine)

    def backward_map(self, points: Array, sheet: Array, box: Box, outline: Array) -> Array:
        """Displacement from each pixel to where it came from, [2, h, w] in pixels.

        Args:
            points: The moved mesh.
            sheet: The lower sheet's displacement on the raster.
            box: x0, y0, x1, y1 of the pixels, within the raster's box.
            outline: Polygon around what is shown of them, in pixels [N, 2].
        """
        raster = self.warper.field.raster
        # what comes into the box may lie as far outside as anything moves
        away = float(np.abs(points[:, :2] - self.warper.mesh[:, :2]).max()) * raster.scale + 2
        low = np.floor(raster.to_raster(np.array(box[:2], np.float32)) - away).astype(int).clip(0)
        high = np.ceil(raster.to_raster(np.array(box[2:], np.float32)) + away).astype(int) + 1
        high = np.minimum(high, (raster.width, raster.height))
        back, corner = self.lower.within(
            sheet, raster.scale, (*low.tolist(), *high.tolist()), raster.to_raster(outline)
        )
        x, y = (
            (np.arange(box[axis], box[axis + 2], dtype=np.float32) - raster.box[axis] + 0.5) * raster.scale[axis]
            - (0.5 + corner[axis])
            for axis in (0, 1)
        )
        at = np.empty((2, len(y), len(x)), np.float32)
        at[0], at[1] = x, y[:, None]
        # The median takes away single wrong pixels where the edge of a lip or lid lies between two places of the raster.
        found = np.stack([cv2.medianBlur(looked_up(plane, at), 5) for plane in back])
        found /= raster.scale[:, None, None]
        return found

    def masks(self, points: Array, sheets: Array) -> tuple[Box, Array, Array, Array] | None:
        """Shares of pixels that show what lies below the upper edge, and the lower sheet; arguments as for `draw`.

        Returns:
            x0, y0, x1, y1 of the pixels, the shares [h, w] each, and a polygon around the latter in pixels [N, 2]; None where none of it
            is in the photo.
        """
        polygons = self._polygons(points, sheets[0])
        bx0, by0, bx1, by1 = self.warper.field.raster.box
        x0, y0 = np.maximum(np.floor(polygons[0].min(0)).astype(int) - 1, (bx0, by0)).tolist()
        x1, y1 = np.minimum(np.ceil(polygons[0].max(0)).astype(int) + 2, (bx1, by1)).tolist()
        if x1 <= x0 or y1 <= y0:
            return None
        low, size = np.array([x0, y0], np.float32), (x1 - x0, y1 - y0)
        below_upper, below_lower = (_mask(polygon - low, size) for polygon in polygons)
        return (x0, y0, x1, y1), below_upper, np.minimum(below_upper, below_lower), polygons[1]

    def _polygons(self, points: Array, sheet: Array) -> tuple[Array, Array]:
        """Outlines of what lies below the moved upper edge and below the moved lower edge, in pixels."""
        opening = self.placed.opening
        spots = self.frame_spots
        left, right, far_right, far_left = self.frame_points + sheet[:, spots[:, 1], spots[:, 0]].T
        upper, lower = points[list(opening.upper), :2], points[list(opening.lower), :2]
        across = upper[-1] - upper[0]
        down = np.array([-across[1], across[0]], np.float32) / max(float(np.hypot(*across)), 1e-3)
        width = 2 * self.placed.half_width
        upper = upper + opening.rim * width * _arch(len(upper))[:, None] * down
        # Where the edges all but touch, the lower sheet reaches under the upper one, so that nothing shines through the line.
        gap = (lower - upper) @ down
        lower = lower - np.clip(1.5 - gap, 0, 1.5)[:, None] * _arch(len(upper))[:, None] * down
        ends = np.stack([far_right, far_left])
        return tuple(np.concatenate([left[None], edge, right[None], ends]) for edge in (upper, lower))  # type: ignore[return-value]

    def _interior(self, points: Array, affine: Array, box: Box) -> Pixels:
        """Pixels between the edges in a box: those of the portrait, moved with the skull, an affine map [3, 2]."""
        inverse = np.linalg.inv(affine[:2]).astype(np.float32)
        size = box[2] - box[0], box[3] - box[1]
        pulled = (points[:, :2] - affine[2]) @ inverse
        if not self.placed.opening.is_eye or not self._is_wider(pulled):
            to_source = np.concatenate([inverse.T, ((np.array(box[:2]) - affine[2]) @ inverse)[:, None]], 1)
            flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
            inside = cv2.warpAffine(self.inside, to_source, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            return np.asarray(inside, np.uint8)
        ys, xs = np.mgrid[box[1] : box[3], box[0] : box[2]].astype(np.float32)
        source = self._opened((np.stack([xs, ys], -1) - affine[2]) @ inverse, pulled)
        inside = cv2.remap(self.inside, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(inside, np.uint8)

    def _is_wider(self, pulled: Array) -> bool:
        """Whether an eye is wider open than in the portrait, for the moved mesh without the motion of the skull [468, 2]."""
        placed = self.placed
        edges = zip((placed.upper, placed.lower), placed.moved(pulled), (1, -1), strict=True)
        return any(bool((way * (still.v - now.at(still.u))).max() > 0.05) for still, now, way in edges)

    def _opened(self, source: Array, pulled: Array) -> Array:
        """Stretch the eyeball where the eye is wider open than in the portrait; where it closes, it stays as it is.

        Args:
            source: Places in the portrait [h, w, 2].
            pulled: The moved mesh without the motion of the skull, [468, 2].
        """
        placed = self.placed
        uv = placed.local(source)
        moved = placed.moved(pulled)
        top, bottom = placed.upper.at(uv[..., 0]), placed.lower.at(uv[..., 0])
        middle = (top + bottom) / 2
        over = np.minimum(moved[0].at(uv[..., 0]), top)
        under = np.maximum(moved[1].at(uv[..., 0]), bottom)
        off = uv[..., 1] - middle
        factor = np.where(
            off < 0,
            (middle - top) / np.maximum(middle - over, 1e-3),
            (bottom - middle) / np.maximum(under - middle, 1e-3),
        )
        return placed.image(np.stack([uv[..., 0], middle + off * factor.clip(0, 1)], -1))


@lru_cache
def _arch(count: int) -> Array:
    """Weights [count] along an edge that vanish at both corners."""
    return np.asarray(np.sqrt(np.clip(1 - np.linspace(-1, 1, count) ** 2, 0, 1)), np.float32)


def _mask(polygon: Array, size: tuple[int, int]) -> Array:
    """Share of every pixel [h, w] inside a polygon [N, 2] in pixels, for a size (w, h)."""
    canvas = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(canvas, [np.round(polygon * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.asarray(canvas, np.float32) / np.float32(255)
