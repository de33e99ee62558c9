"""A new mouth in the frames of footage: the expression of the lower face is replaced, the head and all else stay as filmed.

Each frame is its own photo. Its mesh is freed of head pose, its expression is measured from the same person's closed lips and replaced by
another one, and the frame's pixels move from the one mesh to the other within a soft area around mouth and chin (`dub_areas`). Outside that
area nothing moves, so its pixels are the source's. The painter adds what the frame does not show of the mouth.

Letters: F frames, K expression coefficients, H x W pixels, n openings that are tried.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder.displacement import BORDER, FaceField, eye_distance, smoothstep
from fantasytalking.autoencoder.dub_areas import dub_outline, soft_area
from fantasytalking.autoencoder.lip_contact import CLOSED_GAP, LipContact, lip_gaps, mean_lip_gap
from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.autoencoder.mouth_crops import crop_scale, crop_transform, draw_lips, lips_in_crop, take_crop
from fantasytalking.autoencoder.opening_readings import DRAWN, inverse_readings
from fantasytalking.autoencoder.openings import MOUTH
from fantasytalking.autoencoder.painter import MouthPainter, stack_input
from fantasytalking.autoencoder.render import CHANGED, paste
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.perception.face_measures import mouth_opening
from fantasytalking.perception.mesh_network import mesh_in_region, region_of_mesh

__all__ = ["DubbedMouth"]

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SPARE = 0.1
"""Distance between the area and where motion fades for the border of the part that is looked at, in eye distances."""


class DubbedMouth:
    """The mouth of one person, to be made anew in frames that show it.

    Args:
        codec: The fitted codec.
        painter: The mouth painter.
        meshes: Meshes [F, 468, 3] in pixels of frames that show the person, from which closed lips are told.
    """

    def __init__(self, codec: MeshCodec, painter: MouthPainter, meshes: Array) -> None:
        # a seventh faster on a CPU than channels first
        painter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        self.codec, self.painter = codec, painter
        self.closed = codec.closed_mouth(codec.local_shape(torch.from_numpy(meshes))[0])
        self.contact = LipContact.of_template(codec.template)
        # of a person who never closes the mouth the most closed lips are open by as much as the mesh shows
        self.opening = (mean_lip_gap(self.closed) - 1.5 * CLOSED_GAP).clamp_min(0)
        self.closed_gaps = (lip_gaps(self.closed) - self.opening).clamp_min(0)
        self.openings = torch.zeros(1)
        self.knots = torch.tensor(DRAWN)[None]

    def expression_of(self, mesh: Array) -> Tensor:
        """Expression [..., K] that meshes [..., 468, 3] show, measured from the person's own closed lips."""
        local = self.codec.local_shape(torch.from_numpy(mesh))[0]
        change = torch.einsum("...vi,kvi->...k", local - self.closed, self.codec.analysis)
        return change + self.opening * self.codec.opening_direction

    def opening_of(self, mesh: Array) -> Tensor:
        """Opening of the mouth of meshes [..., 468, 3], in distances between the eyes, [...]; about 0 for closed lips."""
        return (
            mean_lip_gap(self.codec.local_shape(torch.from_numpy(mesh))[0]) - mean_lip_gap(self.closed) + self.opening
        )

    def calibrate(self, frames: Iterable[tuple[Pixels, Array]]) -> None:
        """Learn how wide the mouth must be drawn to be read as wide as it is meant.

        The mesh network reads the same opening differently where the frame's own mouth is closed or open. Without this the old speech
        would show in how wide the new mouth opens.

        Args:
            frames: A few frames [H, W, 3] with their meshes [468, 3], from closed to open mouths.
        """
        drawn, found = torch.tensor(DRAWN), []
        for frame, mesh in frames:
            own = self.expression_of(mesh)
            opened = own + (drawn - self.codec.gap_of(own))[:, None] * self.codec.opening_direction
            moved = [self._moved(mesh, one) for one in opened]
            filmed = _Filmed(frame, mesh, self.painter)
            made = [filmed.moved(one) for one in moved]
            filmed.release()
            meshes = [mesh_in_region(one, region_of_mesh(at)).points for one, at in zip(made, moved, strict=True)]
            read = self.opening_of(np.stack(meshes).astype(np.float32))
            found.append((float(self.opening_of(mesh)), inverse_readings(read)))
        found.sort(key=lambda one: one[0])
        self.openings, self.knots = torch.tensor([one[0] for one in found]), torch.stack([one[1] for one in found])

    def __call__(self, frame: Pixels, mesh: Array, expression: Tensor, share: float = 1.0) -> Pixels:
        """Make the mouth of a frame anew.

        Args:
            frame: [H, W, 3] as filmed.
            mesh: Its mesh [468, 3] in pixels.
            expression: The expression to show [K].
            share: How far to go from the frame's own mesh towards it, 0 to 1.

        Returns:
            [H, W, 3]; outside `dub_outline` the frame's own pixels.
        """
        knots = torch.from_numpy(self._knots_at(float(self.opening_of(mesh))))
        meant = self.codec.with_openings(expression, torch.tensor(DRAWN), knots)
        moved = self._moved(mesh, meant)
        filmed = _Filmed(frame, mesh, self.painter)
        result = filmed.moved(mesh + share * (moved - mesh))
        filmed.release()
        return result

    def _knots_at(self, opening: float) -> Array:
        known, knots = self.openings.numpy(), self.knots.numpy()
        return np.array([np.interp(opening, known, column) for column in knots.T], np.float32)

    def _moved(self, mesh: Array, expression: Tensor) -> Array:
        """The frame's mesh with another expression, and the gaps between the lips that it means."""
        codec = self.codec
        local, scale, rotation, translation = codec.local_shape(torch.from_numpy(mesh))
        target = local + torch.einsum("k,kvi->vi", expression - self.expression_of(mesh), codec.basis)
        wanted = self.closed_gaps + (expression @ lip_gaps(codec.basis)).clamp_min(0)
        target[..., 1] += (wanted - lip_gaps(target)) @ self.contact.follow.T
        shown = scale * torch.einsum("ij,vj->vi", rotation, target) + translation
        return np.asarray(shown.numpy(), np.float32)


class _MouthField(FaceField):
    """Displacement in which the eyes are skin like any other, as they stay as filmed."""

    parted = (MOUTH,)


class _MouthWarper(PortraitWarper):
    field_kind = _MouthField


class _Filmed:
    """A frame as filmed, ready to be moved to other meshes: the part of it around the mouth.

    Args:
        frame: [H, W, 3].
        mesh: Its mesh [468, 3] in pixels.
        painter: The mouth painter.
    """

    def __init__(self, frame: Pixels, mesh: Array, painter: MouthPainter) -> None:
        self.frame, self.painter = frame, painter
        outline = dub_outline(mesh)
        height, width = frame.shape[:2]
        # beyond the area there is room for what the warp does at a picture's border
        margin = (BORDER + SPARE) * eye_distance(mesh)
        low = np.clip(np.floor(outline.min(0) - margin), 0, (width - 1, height - 1)).astype(int)
        high = np.clip(np.ceil(outline.max(0) + margin), low + 1, (width, height)).astype(int)
        self.box = slice(low[1], high[1]), slice(low[0], high[0])
        self.shift = np.array([*low, 0], np.float32)
        self.part = np.ascontiguousarray(frame[self.box])
        self.mesh, self.outline = (mesh - self.shift).astype(np.float32), outline - self.shift[:2]
        self.warper = _MouthWarper(self.part, self.mesh)
        raster = self.warper.field.raster
        size = raster.height, raster.width
        area = soft_area(self.mesh, raster.to_raster(self.outline), size, float(raster.scale.mean()))
        # Motion fades towards the outline, not the picture: two pictures laid over each other would show double there.
        self.warper.field.keep = self.warper.field.keep * area

    def moved(self, mesh: Array) -> Pixels:
        """The whole frame [H, W, 3] with its face at another mesh [468, 3], the mouth painted."""
        there = (mesh - self.shift).astype(np.float32)[None]
        (made,) = self.warper.frames(there)
        self._paint(self.warper.field.shown(there)[0], made)
        result = self.frame.copy()
        result[self.box] = _only_inside(made, self.part, self.outline)
        return result

    def release(self) -> None:
        """Let go of the enlarged photo: warp and layers refer to each other and would wait for the garbage collector."""
        self.warper.layers.clear()

    def _paint(self, shown: Array, made: Pixels) -> None:
        """Paint the mouth into the moved part, in place, as far as it is open otherwise than as filmed."""
        mesh = self.mesh
        needed = float(smoothstep(np.abs(mouth_opening(shown) - mouth_opening(mesh)) / CHANGED))
        if needed == 0:
            return
        side, scale = self.painter.crop, crop_scale(mesh, self.painter.crop)
        own, at = crop_transform(mesh, side, scale), crop_transform(shown, side, scale)
        size = (side, side)
        masks = draw_lips(lips_in_crop(shown, at), size, side * scale)
        inner = draw_lips(lips_in_crop(mesh, own), size, side * scale)[0]
        stacked = stack_input(
            take_crop(made, at, size)[None], take_crop(self.part, own, size)[None], masks[None], inner[None]
        )
        pixels, opacity = self.painter.paint(stacked)
        paste(made, pixels[0], opacity[0] * needed, at)


def _only_inside(made: Pixels, frame: Pixels, outline: Array) -> Pixels:
    """The made frame inside an outline [n, 2] in pixels, the frame as filmed outside it."""
    inside = np.zeros(frame.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.round(outline * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return np.where(inside[..., None] > 0, made, frame)
