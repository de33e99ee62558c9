"""Portrait crops: one box for the whole clip, so that the picture does not jitter, large enough for head and shoulders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.data.preparation.follow_face import TrackedFace, face_boxes
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.perception.mesh_network import MIN_SCORE

__all__ = ["Crop", "crop_frames", "plan_crop"]

# minimum size of the crop relative to the union of the face's boxes
_ROOM = 1.15
# shift of the box downwards, in face sizes: shoulders rather than empty space above the head
_LOWER = 0.15


@dataclass(frozen=True)
class Crop:
    """A box in a video and the size that it is scaled to.

    Attributes:
        left: Left edge in pixels of the source, inside its frame.
        top: Upper edge, likewise.
        width: Width of the box, likewise.
        height: Height of the box, likewise.
        out_width: Width of the result in pixels, not larger than the box.
        out_height: Height of the result, likewise.
    """

    left: int
    top: int
    width: int
    height: int
    out_width: int
    out_height: int

    def cut(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Crop one frame: uint8 [H, W, 3] -> [out_height, out_width, 3]."""
        part = frame[self.top : self.top + self.height, self.left : self.left + self.width]
        if part.shape[:2] == (self.out_height, self.out_width):
            return part
        return np.asarray(cv2.resize(part, (self.out_width, self.out_height), interpolation=cv2.INTER_AREA), np.uint8)

    def move(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move a mesh [F, 468, 3] from pixels of the source to pixels of the crop; depth is scaled like x."""
        x_scale, y_scale = self.out_width / self.width, self.out_height / self.height
        # a pixel's centre is its index
        x = (points[..., 0] - self.left + 0.5) * x_scale - 0.5
        y = (points[..., 1] - self.top + 0.5) * y_scale - 0.5
        return np.stack([x, y, points[..., 2] * x_scale], -1).astype(np.float32)


def plan_crop(face: TrackedFace, settings: PreparationSettings, longest_side: int, multiple: int) -> Crop:
    """Plan the box around a tracked face.

    It is square, `crop_factor` times the face and never smaller than its whole path; it is limited by the frame.

    Args:
        face: The tracked face.
        settings: Uses `crop_factor`.
        longest_side: Maximum side of the result in pixels.
        multiple: Both sides of the result are multiples of it.
    """
    boxes = face_boxes(face.points)[np.asarray(face.scores) >= MIN_SCORE]
    (x0, y0), (x1, y1) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    size = float(np.median(np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])))
    side = max(settings.crop_factor * size, _ROOM * float(max(x1 - x0, y1 - y0)))
    width, height = min(side, face.width), min(side, face.height)
    scale = min(1.0, longest_side / max(width, height))
    # the sides of the result are chosen first, so that rounding stretches the picture by half a pixel at most
    out_width, out_height = (max(multiple, int(edge * scale + 1e-6) // multiple * multiple) for edge in (width, height))
    width, height = min(face.width, round(out_width / scale)), min(face.height, round(out_height / scale))
    left = _place(float(x0 + x1) / 2, width, face.width)
    top = _place(float(y0 + y1) / 2 + _LOWER * size, height, face.height)
    return Crop(left, top, width, height, out_width, out_height)


def _place(middle: float, length: int, whole: int) -> int:
    """First pixel of a stretch of `length` around `middle` inside `whole`."""
    return min(max(0, round(middle - length / 2)), whole - length)


def crop_frames(frames: Iterable[NDArray[np.uint8]], crop: Crop, count: int) -> NDArray[np.uint8]:
    """Crop at most `count` frames, uint8 [H, W, 3] each, to [F, out_height, out_width, 3]."""
    result = np.empty((count, crop.out_height, crop.out_width, 3), np.uint8)
    done = 0
    for frame in frames:
        if done == count:
            break
        result[done] = crop.cut(frame)
        done += 1
    return result[:done]
