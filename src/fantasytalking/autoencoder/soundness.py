"""What a photo can show of a motion: nothing folded over, no skin stretched more than fourfold, and motion held back until that is so.

Letters: F frames, N places in the portrait, J Jacobian of the map from portrait to frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from fantasytalking.autoencoder.displacement import FaceField
from fantasytalking.autoencoder.inversion import slopes
from fantasytalking.autoencoder.openings import REACH
from fantasytalking.autoencoder.rigid import rotation_from_vector, vector_from_rotation, whole_motion
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.perception.alignment import fit_similarity

__all__ = ["MAX_STRETCH", "limit_motion", "unsound_share"]

Array = NDArray[np.float32]

MAX_STRETCH = 4.0  # of skin, in one direction
_ALLOWED = (
    0.1,
    3.5,
)  # singular values of J that motion is held to; the rest of the way to 0 and 4 is for maps between grid places
_ALLOWED_AROUND = (0.12, 8.0)  # the same for hair, neck and background
_STEPS = (0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.0)  # shares of a motion that are tried one after another
_AT_ONCE = 64  # frames checked at once: some 40 MB
_EASE = 8  # frames over which motion is held back beforehand and let go afterwards


class _Gradients:
    """Jacobians of a field's two sheets at places of its raster, as sparse rows.

    Args:
        field: The field.
        of_face: Whether the places are those of the visible face, or those around it.
    """

    def __init__(self, field: FaceField, of_face: bool) -> None:
        self.field = field
        height, width = field.labels.shape
        grid = np.zeros((height, width), bool)
        every = 2 if of_face else 3
        grid[1:-1:every, 1:-1:every] = True
        is_upper, is_lower = sheet_places(field)
        moves = field.keep.max(0) > 0.01
        inside = field.labels >= 0
        chosen = grid & moves & (inside if of_face else ~inside)
        self.parts: list[list[Any]] = []
        for sheet, places in zip(field.sheets, (is_upper, is_lower), strict=True):
            rows = np.flatnonzero(chosen & places)
            self.parts.append(
                [self._difference(sheet, rows, axis, step) for axis in (0, 1) for step in (0, 1)] if len(rows) else []
            )

    def _difference(self, sheet: Any, rows: NDArray[np.int64], axis: int, step: int) -> Any:
        """Rows of the slope of displacement component `axis` along `step`, both 0 for x and 1 for y."""
        keep, scale = self.field.keep[axis].ravel(), self.field.raster.scale[step]
        offset = 1 if step == 0 else self.field.labels.shape[1]
        after, before = (sparse.diags_array(keep[r]) @ sheet[r] for r in (rows + offset, rows - offset))
        return (after - before).tocsr() * (scale / 2)

    def sound(self, moved: Array, allowed: tuple[float, float]) -> NDArray[np.bool_]:
        """Which of the frames [F, 468, 3] are sound everywhere, [F]."""
        some = [self._sound(moved[i : i + _AT_ONCE], allowed) for i in range(0, len(moved), _AT_ONCE)]
        return np.concatenate([np.zeros(0, bool), *some])

    def _sound(self, moved: Array, allowed: tuple[float, float]) -> NDArray[np.bool_]:
        good = np.ones(len(moved), bool)
        shifts = self.field.shifts(moved)
        for part in self.parts:
            if part:
                xx, xy, yx, yy = (rows @ shifts[..., number // 2] for number, rows in enumerate(part))
                least, most, area = _stretches(1 + xx, xy, yx, 1 + yy)
                good &= ((least >= allowed[0]) & (most <= allowed[1]) & (area > 0)).all(0)
        return good


def _stretches(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array, Array]:
    """Smallest and largest singular value, and determinant, of matrices [[a, b], [c, d]]."""
    area = a * d - b * c
    whole = np.hypot(a + d, c - b) / 2
    apart = np.hypot(a - d, c + b) / 2
    return np.abs(whole - apart), whole + apart, area


def sheet_places(field: FaceField) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which places of the portrait the upper and the lower sheet show, [h, w] each; none of them inside mouth and eyes."""
    spots = field.raster.places()
    upper = np.ones(spots.shape[:2], bool)
    lower = np.zeros(spots.shape[:2], bool)
    for placed in field.openings:
        uv = placed.local(spots)
        u, v = uv[..., 0], uv[..., 1]
        within = (np.abs(u) < REACH * placed.half_width) & (v < placed.upper.at(u) + 1.2 * placed.depths[1])
        below_upper, below_lower = within & (v > placed.upper.at(u)), within & (v >= placed.lower.at(u))
        upper &= ~below_upper
        lower |= below_lower
    return upper, lower


def limit_motion(field: FaceField, moved: Array) -> Array:
    """Hold motion back to what the portrait can show, softly over time.

    Turning out of the picture's plane is held back first, as a head that is turned in the photo has a side that the photo does not show;
    then expression, as far as it is to blame, and what is still too much as a whole.

    Args:
        field: The portrait's field.
        moved: Meshes [F, 468, 3] in pixels.

    Returns:
        [F, 468, 3].
    """
    if not len(moved):
        return moved
    face, around = _Gradients(field, True), _Gradients(field, False)
    sound = face.sound(moved, _ALLOWED)
    if sound.all() and around.sound(moved, _ALLOWED_AROUND).all():
        return moved
    everything = np.arange(len(moved))

    def hold(part: _Part, sound: NDArray[np.bool_], is_last: bool = False) -> Array:
        """Meshes with the largest sound share of one part of their motion; `sound` tells which are so with all of it."""

        def is_sound(share: Array, frames: NDArray[np.int64]) -> NDArray[np.bool_]:
            meshes = part(share, frames)
            good = face.sound(meshes, _ALLOWED)
            return good & around.sound(meshes, _ALLOWED_AROUND) if is_last else good

        return part(_shares(is_sound, sound, is_last), everything)

    def still_sound(held: Array, before: Array, sound: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the held meshes are sound in the face, looking again only at those that are not as before."""
        changed, result = (held != before).any((1, 2)), sound.copy()
        result[changed] = face.sound(held[changed], _ALLOWED)
        return result

    turned = hold(_Turns(field.mesh, moved), sound)
    sound = still_sound(turned, moved, sound)
    spoken = hold(_Towards(whole_motion(field.mesh, turned), turned), sound)
    sound = still_sound(spoken, turned, sound) & around.sound(spoken, _ALLOWED_AROUND)
    return hold(_Towards(np.broadcast_to(field.mesh, spoken.shape), spoken), sound, is_last=True)


# shares of some frames [n], their numbers [n] -> meshes [n, 468, 3]
_Part = Callable[[Array, NDArray[np.int64]], Array]


def _shares(
    is_sound: Callable[[Array, NDArray[np.int64]], NDArray[np.bool_]], sound: NDArray[np.bool_], is_last: bool
) -> Array:
    """Largest share of each frame's motion [F] that is sound, eased over time, never beyond it.

    Where none is, another part of the motion is to blame, and the share is 1; with the last part it is 0.

    Args:
        is_sound: Which frames are sound with a share of their motion: shares [n], numbers of the frames [n] -> [n].
        sound: Which frames are sound with all of it [F].
        is_last: Whether this is the last part.
    """
    shares = np.ones(len(sound), np.float32)
    left = np.flatnonzero(~sound)
    for step in _STEPS:
        if not len(left):
            break
        shares[left] = step
        left = left[~is_sound(shares[left], left)]
    if not is_last:
        shares[left] = 1
    if shares.min() == 1:
        return shares
    # scipy.ndimage has this as a function, and takes a tenth of a second to import
    least = np.lib.stride_tricks.sliding_window_view(np.pad(shares, _EASE, "edge"), 2 * _EASE + 1).min(1)
    weights = np.hanning(2 * _EASE + 3)[1:-1]
    return np.asarray(np.convolve(np.pad(least, _EASE, "edge"), weights / weights.sum(), "valid"), np.float32)


class _Towards:
    """Moved meshes with part of the way from other meshes to them taken back."""

    def __init__(self, start: Array, moved: Array) -> None:
        self.start, self.moved = start, moved

    def __call__(self, shares: Array, frames: NDArray[np.int64]) -> Array:
        """Meshes of some frames with these shares of the way, [n, 468, 3]."""
        start, moved, share = self.start[frames], self.moved[frames], shares[:, None, None]
        return np.where(share == 1, moved, start + share * (moved - start)).astype(np.float32)


class _Turns:
    """Moved meshes with part of their turn out of the picture's plane taken back."""

    def __init__(self, mesh: Array, moved: Array) -> None:
        self.moved = moved
        _, rotation, _ = fit_similarity(np.broadcast_to(mesh, moved.shape), moved)
        self.rotation = torch.from_numpy(np.ascontiguousarray(rotation, np.float32))
        self.vector = vector_from_rotation(self.rotation)
        self.centre = moved.mean(1, keepdims=True)

    def __call__(self, shares: Array, frames: NDArray[np.int64]) -> Array:
        """Meshes of some frames with these shares of their turn, [n, 468, 3]."""
        vector = self.vector[frames].clone()
        vector[:, :2] *= torch.from_numpy(np.asarray(shares, np.float32))[:, None]
        change = (rotation_from_vector(vector) @ self.rotation[frames].mT).numpy()
        off = self.moved[frames] - self.centre[frames]
        turned = np.einsum("fij,fvj->fvi", change, off) + self.centre[frames]
        return np.where((shares == 1)[:, None, None], self.moved[frames], turned).astype(np.float32)


def unsound_share(size: tuple[int, int], mesh: Array, moved: Array) -> Array:
    """Measure the share of face pixels whose map is folded over or stretched more than `MAX_STRETCH`, for each frame.

    The maps are those that `render` samples the photo with, pixel by pixel, after motion was held back. Pixels inside the mouth and
    between the lids do not count, as they are layers of their own.

    Args:
        size: Height and width of the portrait in pixels.
        mesh: Its mesh [468, 3] in pixels.
        moved: Meshes [F, 468, 3] that `render` is given.

    Returns:
        [F], 0 to 1.
    """
    warper = PortraitWarper(np.zeros((*size, 3), np.uint8), mesh.astype(np.float32))
    held = limit_motion(warper.field, moved.astype(np.float32))
    face = (warper.field.labels >= 0).astype(np.float32)
    raster = warper.field.raster
    x0, y0, x1, y1 = raster.box
    here = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1).astype(np.float32)
    shares = []
    for points, sheets in warper.motions(held):
        back = warper.backward_map(sheets[0])
        bad, shown = _unsound(back), np.ones(back.shape[1:], bool)
        for layer in warper.layers:
            drawn = layer.masks(points, sheets)
            if drawn is None:
                continue
            (left, top, right, bottom), below_upper, below, outline = drawn
            part = slice(top - y0, bottom - y0), slice(left - x0, right - x0)
            lower = layer.backward_map(points, sheets[1], (left, top, right, bottom), outline)
            is_lower, is_upper = below > 0.99, below_upper < 0.01
            bad[part] = np.where(is_lower, _unsound(lower), bad[part])
            back[:, *part] = np.where(is_lower, lower, back[:, *part])
            # slopes count where both neighbours are of the same sheet
            shown[part] &= _inner(is_lower) | _inner(is_upper)
        at = raster.to_raster(here + back.transpose(1, 2, 0))
        shown &= cv2.remap(face, at, None, cv2.INTER_LINEAR) > 0.5
        shares.append(float((bad & shown).sum() / max(1, int(shown.sum()))))
    return np.array(shares, np.float32)


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask [h, w] whose neighbours are all in it; beyond its border it goes on as it is."""
    return np.asarray(cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def _unsound(back: Array) -> NDArray[np.bool_]:
    """Where a backward displacement [2, h, w] is folded over or stretches too much."""
    dx, dy = slopes(back)
    least, _, area = _stretches(1 + dx[0], dy[0], dx[1], 1 + dy[1])
    return np.asarray((area <= 0) | (least < 1 / MAX_STRETCH))
