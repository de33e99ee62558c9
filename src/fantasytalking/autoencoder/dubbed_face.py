"""The frames of footage with the decoded face of a video laid over them, whose frame rate and size are other ones."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.displacement import smoothstep
from fantasytalking.autoencoder.dub_areas import dub_outline, soft_area
from fantasytalking.autoencoder.dub_interface import FilmedFace
from fantasytalking.autoencoder.rigid import similarity_2d
from fantasytalking.perception.mesh_points import RIGID_POINTS

__all__ = ["DubbedFace"]

END_SECONDS = 0.2
"""Time in which the new face gives way to the filmed one after the speech."""


class DubbedFace:
    """Makes the frames of footage with the face of a video that was made from it; see `dub_interface.Dubber`.

    A frame between two of the video takes the nearest one, moved as the head has moved meanwhile.

    Args:
        frames: Gives the frames of the video in order, uint8 [h, w, 3] each, of the footage's proportions.
        count: Number of frames of the video that have speech, which are not given later than they are needed.
        fps: Frames per second of the video.
        face: The face in the footage.
    """

    def __init__(self, frames: Iterator[NDArray[np.uint8]], count: int, fps: float, face: FilmedFace) -> None:
        self.frames, self.count, self.fps, self.face = frames, count, fps, face
        self._number, self._frame = -1, np.zeros((1, 1, 3), np.uint8)

    def __call__(self, index: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make one frame; outside the area, where the face is not seen, and after the speech it stays as filmed."""
        time = index / self.face.rate
        passed = (time - (self.count - 1) / self.fps) / END_SECONDS
        share = float(self.face.shares[index]) * (1 - float(smoothstep(np.array(passed))))
        self.go_on(index)
        if share == 0:
            return frame
        mesh = np.array(self.face.meshes[index])
        area = share * soft_area(mesh, dub_outline(mesh, self.face.area), frame.shape[:2])[..., None]
        made = self._placed(mesh, frame.shape[:2]).astype(np.float32)
        blended = np.rint(frame + area * (made - frame)).astype(np.uint8)
        return np.where(area > 0, blended, frame)

    def go_on(self, index: int) -> None:
        """Take the frames of the video as far as a frame of the footage needs them."""
        number = min(round(index / self.face.rate * self.fps), self.count - 1)
        while self._number < number:
            following = next(self.frames, None)
            if following is None:  # the run was interrupted
                return
            self._frame, self._number = following, self._number + 1

    def _placed(self, mesh: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
        """The present frame of the video at the footage's size, with the head where a mesh has it."""
        own = round(self._number / self.fps * self.face.rate)
        fixed = list(RIGID_POINTS)
        was = np.array(self.face.meshes[min(own, len(self.face.meshes) - 1)])[fixed, :2]
        matrix, shift = similarity_2d(was, mesh[fixed, :2])
        height, width = self._frame.shape[:2]
        scale = np.array([size[1] / width, size[0] / height], np.float32)
        # pixel centres: x in the footage is (x + 0.5) scale - 0.5 of x in the video
        offset = 0.5 * scale - 0.5
        whole = np.concatenate([matrix * scale, (matrix @ offset + shift)[:, None]], 1).astype(np.float32)
        placed = cv2.warpAffine(
            self._frame,
            whole,
            (size[1], size[0]),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(placed, np.uint8)
