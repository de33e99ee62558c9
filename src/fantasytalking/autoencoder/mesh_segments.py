"""The embedded model's decoding of segments: their motion is joined before anything is drawn, so that there is no seam to draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder.head_drift import HeadDrift
from fantasytalking.autoencoder.interface import Beginning
from fantasytalking.autoencoder.mesh_codec import LIDS, MeshCodec
from fantasytalking.autoencoder.render import Renderer
from fantasytalking.autoencoder.segment_join import SegmentJoin

__all__ = ["CONTEXT", "SOON", "TRAVEL", "MeshSegmentDecoder", "ShownMotion"]

CONTEXT = 16
"""Frames before and behind one on which it depends: smoothing reaches 6, and motion is held back from 8 frames before."""
SOON = 5
"""Frames behind one that are waited for where frames are wanted soon: smoothing reaches one more, and holding back of motion three."""
LONGEST = 500
"""Frames drawn as one stretch: meshes of more need memory."""
TRAVEL = 0.3
"""Head motion that the seam towards the background allows for, in distances between the eyes. Clips of their own take their own largest
motion, 0.25 for the example; later segments are not known here."""
FADE_FRAMES = 5


class ShownMotion:
    """Motion of one video, segment after segment: each goes on where the one before has stopped, and the head moves about the portrait's.

    Args:
        continued: Whether the video continues another one, so that it begins with given frames and not with the portrait.

    Attributes:
        join: Joins the segments.
        drift: Holds the head where the portrait has it.
    """

    def __init__(self, continued: bool) -> None:
        self.join, self.drift, self._continued = SegmentJoin(), HeadDrift(), continued

    def next(self, motion: Tensor, given: int) -> Tensor:
        """The new frames of a segment; arguments and result are those of `SegmentJoin.joined`."""
        if not len(self.join.last):
            if self._continued:
                return self.drift.without(self.join.begun(motion))
            self.drift.begin(motion)
        return self.drift.without(self.join.joined(motion, given))


class MeshSegmentDecoder:
    """Decoder of one video of the mesh autoencoder.

    Args:
        codec: The fitted codec.
        renderer: Draws the portrait.
        openings: How wide its mouth must be drawn, see `drawn_openings`.
        limited: Limits and smooths motion numbers [F, P].
        mesh: The portrait's mesh [468, 3] in pixels.
        overlap: Frames that neighbouring segments share.
        continued: Whether the video continues another one, so that its first frame is not the portrait.
        aside: Whether a second thread draws the next frames meanwhile.
        held_back: Frames behind one that are waited for before it is drawn.
        gains: Of openings and head motion, see `MeshCodec.shown`.
    """

    def __init__(
        self,
        codec: MeshCodec,
        renderer: Renderer,
        openings: tuple[Tensor, Tensor],
        limited: Callable[[Tensor], Tensor],
        mesh: NDArray[np.float32],
        overlap: int,
        continued: bool,
        aside: bool,
        held_back: int,
        gains: tuple[float, float],
    ) -> None:
        self.held_back, self._gains = held_back, gains
        self._codec, self._limit = codec, limited
        self._mesh, self._overlap, self._aside = torch.from_numpy(mesh), overlap, aside
        self._renderer, self._openings = renderer, openings
        self._still = self._codec.still(self._mesh)
        self._continued = continued
        # Motion of the frames that are drawn next, after `_drawn` frames of context; the first of all is frame `_first` of the video.
        self._motion = torch.zeros(0, len(self._still))
        self._first = self._drawn = 0
        self._left: Tensor | None = None
        self._last = torch.zeros(0, len(self._still))
        self._shown = ShownMotion(continued)

    def decode(self, latents: Tensor, given: int, is_last: bool) -> Iterator[NDArray[np.uint8]]:
        """See `SegmentDecoder.decode`."""
        sampled = latents.float().cpu()
        # As they are in the latents: what is shown of them is another matter.
        self._last = self._codec.from_latents(sampled[:, :, -(self._overlap + 3) // 4 - 1 :], noise=0.0)[0][
            -self._overlap :
        ]
        motion = self._codec.shown(self._codec.from_latents(sampled)[0], self._gains)
        new = self._shown.next(motion, given)
        for start in range(0, len(new), LONGEST):
            ends = is_last and start + LONGEST >= len(new)
            self._motion = torch.cat([self._motion, new[start : start + LONGEST]])
            yield from self._draw(len(self._motion) - (0 if ends else self.held_back))

    def _draw(self, end: int) -> Iterator[NDArray[np.uint8]]:
        """Draw the motion that is there up to a frame, and keep what the next frames depend on."""
        end, begin = max(end, self._drawn), self._drawn
        points = self._points()
        kept = max(0, end - CONTEXT)
        self._motion, self._first, self._drawn = self._motion[kept:], self._first + kept, end - kept
        yield from self._renderer.frames(points, begin, end, self._aside)

    def _points(self) -> NDArray[np.float32]:
        parameters = self._limit(self._motion)
        if self._left is None:
            self._left = torch.zeros_like(parameters[:1])
            if not self._continued:
                # The video begins with the portrait: what the sampler left on the given frame fades out.
                self._left = parameters[:1] - self._still
                self._left[:, -LIDS:] = 0.0
        age = torch.arange(self._first, self._first + len(parameters))
        parameters = parameters - torch.exp(-age / FADE_FRAMES)[:, None] * self._left
        parameters = self._codec.with_openings(parameters, *self._openings)
        return np.asarray(self._codec.points_of(parameters, self._mesh).numpy(), np.float32)

    def beginning(self) -> Beginning:
        """See `SegmentDecoder.beginning`; there are no frames, as this autoencoder's condition needs none."""
        return Beginning(torch.zeros(1, 3, 0, 1, 1), self._codec.to_latents(self._last[None]))

    def state(self) -> dict[str, Tensor]:
        """See `SegmentDecoder.state`."""
        left = torch.zeros(0) if self._left is None else self._left
        numbers = torch.tensor([self._first, self._drawn, *self._renderer.window])
        return {
            "motion": self._motion.clone(),
            "numbers": numbers,
            "left": left.clone(),
            "last": self._last.contiguous().clone(),
            "join": self._shown.join.last.contiguous().clone(),
            "drift": self._shown.drift.lately.clone(),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `SegmentDecoder.restore`."""
        self._motion, self._last = state["motion"], state["last"]
        # States of earlier releases have neither.
        shown = self._shown
        shown.join.last = state.get("join", shown.join.last)
        shown.drift.lately = state.get("drift", shown.drift.lately)
        self._left = state["left"] if state["left"].numel() else None
        self._first, self._drawn, width, height = state["numbers"].tolist()
        self._renderer.window = (width, height)
