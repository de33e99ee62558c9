"""Interface between the pipeline and an autoencoder whose latents hold motion, for dubbing; see also `dubbed_face` for all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.dub_areas import Area
from fantasytalking.autoencoder.interface import Reference
from fantasytalking.autoencoder.segment_decoder import SegmentDecoder

__all__ = ["Dubber", "DubsMotion", "FilmedFace", "MotionDecoder"]


@dataclass(frozen=True)
class FilmedFace:
    """The face in footage that is dubbed.

    Attributes:
        meshes: Its mesh in each frame [n, 468, 3] in pixels.
        shares: How far each frame is dubbed [n], 0 (as filmed) to 1.
        rate: Frames per second of the footage.
        frame: Reads the frame of a number, uint8 [H, W, 3].
        area: What is made anew: "lips" (mouth and chin) or "face".
    """

    meshes: NDArray[np.float32]
    shares: NDArray[np.float32]
    rate: float
    frame: Callable[[int], NDArray[np.uint8]]
    area: Area


Dubber = Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]
"""Makes a frame with new speech: its number and the frame as filmed, uint8 [H, W, 3] -> uint8 [H, W, 3]. Numbers must not fall."""


class MotionDecoder(SegmentDecoder, Protocol):
    """A decoder of segments that keeps their motion and draws nothing."""

    def dubber(self, face: FilmedFace, frames: int, fps: float) -> Dubber:
        """Bring the motion into footage.

        Args:
            face: The face in the footage.
            frames: Frames of the motion, from the footage's first on, that have speech.
            fps: Frames per second of the motion.
        """


@runtime_checkable
class DubsMotion(Protocol):
    """An autoencoder that can move the face in footage; the latents of others are pictures."""

    def motion_decoder(self, reference: Reference, overlap: int) -> MotionDecoder:
        """A decoder of one video's motion, whose segments share `overlap` frames."""
