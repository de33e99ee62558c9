"""The frames of footage with the decoded face of a clip laid over them, whose frame rate and size are other ones."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.displacement import smoothstep
from fantasytalking.autoencoder.dub_areas import dub_outline, soft_area
from fantasytalking.autoencoder.interface import FilmedFace
from fantasytalking.autoencoder.rigid import similarity_2d
from fantasytalking.perception.mesh_points import RIGID_POINTS

__all__ = ["DubbedFace"]

END_SECONDS = 0.2
"""Time in which the clip's face gives way to the filmed one after the speech."""


class DubbedFace:
    """Makes the frames of footage with the face of a clip that was made from it; see `interface.Dubber`.

    A frame between two of the clip takes the nearest one, moved as the head has moved meanwhile.

    Args:
        frames: Frames of the clip [F, h, w, 3], of the footage's proportions.
        fps: Frames per second of the clip.
        face: The face in the footage.
    """

    def __init__(self, frames: NDArray[np.uint8], fps: float, face: FilmedFace) -> None:
        self.frames, self.fps, self.face = frames, fps, face

    def __call__(self, index: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make one frame; outside the area, where the face is not seen, and after the clip it stays as filmed."""
        time = index / self.face.rate
        passed = (time - (len(self.frames) - 1) / self.fps) / END_SECONDS
        share = float(self.face.shares[index]) * (1 - float(smoothstep(np.array(passed))))
        if share == 0:
            return frame
        nearest = min(round(time * self.fps), len(self.frames) - 1)
        mesh = np.array(self.face.meshes[index])
        area = share * soft_area(mesh, dub_outline(mesh, self.face.area), frame.shape[:2])[..., None]
        made = self._placed(nearest, mesh, frame.shape[:2]).astype(np.float32)
        blended = np.rint(frame + area * (made - frame)).astype(np.uint8)
        return np.where(area > 0, blended, frame)

    def _placed(self, number: int, mesh: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
        """A frame of the clip at the footage's size, with the head where a mesh has it."""
        own = round(number / self.fps * self.face.rate)
        fixed = list(RIGID_POINTS)
        was = np.array(self.face.meshes[min(own, len(self.face.meshes) - 1)])[fixed, :2]
        matrix, shift = similarity_2d(was, mesh[fixed, :2])
        height, width = self.frames.shape[1:3]
        scale = np.array([size[1] / width, size[0] / height], np.float32)
        # pixel centres: x in the footage is (x + 0.5) scale - 0.5 of x in the clip
        offset = 0.5 * scale - 0.5
        whole = np.concatenate([matrix * scale, (matrix @ offset + shift)[:, None]], 1).astype(np.float32)
        placed = cv2.warpAffine(
            self.frames[number],
            whole,
            (size[1], size[0]),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(placed, np.uint8)
