"""The frames of footage with the mouth motion of a clip, whose frame rate is another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder.displacement import smoothstep
from fantasytalking.autoencoder.dub_interface import FilmedFace
from fantasytalking.autoencoder.dubbed_mouth import DubbedMouth
from fantasytalking.autoencoder.interface import Beginning
from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.autoencoder.segment_join import SegmentJoin

__all__ = ["DubbedClip", "DubbedMotion"]

MEASURED = 2000
"""Frames at most from which closed lips are told."""
TRIED = (0.02, 0.35, 0.7, 0.98)
"""Frames at which openings are tried, as quantiles of how open the mouth is in the footage."""
REST_SECONDS = 0.25
"""Time in which lips close after the speech."""


class DubbedMotion:
    """Keeps the motion of sampled segments; see `dub_interface.MotionDecoder`.

    Args:
        codec: The fitted codec.
        painter: The mouth painter.
        limited: Limits and smooths motion numbers [F, P].
        overlap: Frames that neighbouring segments share.
        gains: Of openings and head motion, see `MeshCodec.shown`.

    Attributes:
        held_back: Last frames of a segment that are given with the next one: none, as no frames are given at all.
    """

    def __init__(
        self,
        codec: MeshCodec,
        painter: MouthPainter,
        limited: Callable[[Tensor], Tensor],
        overlap: int,
        gains: tuple[float, float],
    ) -> None:
        self._codec, self._painter, self._limited, self._overlap = codec, painter, limited, overlap
        self._gains = gains
        self._motion, self._join = list[Tensor](), SegmentJoin()
        self.held_back = 0
        self._last: Tensor | None = None

    def decode(self, latents: Tensor, given: int, is_last: bool) -> Iterator[NDArray[np.uint8]]:
        """Keep a segment's motion; there are no frames."""
        # As they are in the latents: what is shown of them is another matter.
        self._last = self._codec.from_latents(latents.float().cpu(), noise=0.0)[:, -self._overlap :]
        motion = self._codec.shown(self._codec.from_latents(latents.float().cpu())[0], self._gains)
        self._motion.append(self._join.joined(motion, given))
        return iter(())

    def beginning(self) -> Beginning:
        """The motion that the next segment begins with; there are no frames, as this autoencoder's condition needs none."""
        assert self._last is not None
        return Beginning(torch.zeros(1, 3, 0, 1, 1), self._codec.to_latents(self._last))

    def state(self) -> dict[str, Tensor]:
        """Nothing: dubbing is not resumed."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing, see `state`."""

    def dubber(self, face: FilmedFace, frames: int, fps: float) -> DubbedClip:
        """See `dub_interface.MotionDecoder.dubber`."""
        motion = self._limited(torch.cat(self._motion))[:frames, : self._codec.coefficients]
        return DubbedClip(self._codec, self._painter, motion, fps, face)


class DubbedClip:
    """Makes the frames of footage with the expression of a clip; see `dub_interface.Dubber`.

    Args:
        codec: The fitted codec.
        painter: The mouth painter.
        expression: Expression of the clip's frames [F, K].
        fps: Frames per second of the clip.
        face: The face in the footage.
    """

    def __init__(
        self, codec: MeshCodec, painter: MouthPainter, expression: Tensor, fps: float, face: FilmedFace
    ) -> None:
        self.expression, self.fps, self.face = expression, fps, face
        shown = np.flatnonzero(face.shares == 1)
        # a face that is never seen for long
        shown = shown if len(shown) else np.flatnonzero(face.shares > 0)
        shown = shown[:: -(-len(shown) // MEASURED)]
        meshes = np.array(face.meshes[shown])
        self.mouth = DubbedMouth(codec, painter, meshes)
        order = np.argsort(self.mouth.opening_of(meshes).numpy(), kind="stable")
        chosen = sorted({int(order[round(share * (len(order) - 1))]) for share in TRIED})
        self.mouth.calibrate((face.frame(int(shown[one])), meshes[one]) for one in chosen)

    @torch.no_grad()
    def __call__(self, index: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make one frame; where the face is not seen it stays as filmed."""
        share = float(self.face.shares[index])
        if share == 0:
            return frame
        return self.mouth(frame, np.array(self.face.meshes[index]), self.expression_at(index / self.face.rate), share)

    def expression_at(self, time: float) -> Tensor:
        """Expression [K] at a time in seconds; after the clip the lips close and rest."""
        last = len(self.expression) - 1
        place = min(time * self.fps, float(last))
        before = int(place)
        between = torch.lerp(self.expression[before], self.expression[min(before + 1, last)], place - before)
        passed = (time - last / self.fps) / REST_SECONDS
        return between * (1 - float(smoothstep(np.array(passed))))
