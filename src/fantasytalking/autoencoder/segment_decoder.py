"""Decoding of a long video that is sampled segment by segment: each frame is given once, and each segment tells how the next begins.

Letters: C latent channels, f latent frames (k of them given), h and w latent rows and columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder.hold_look import hold_look
from fantasytalking.autoencoder.interface import Beginning, Reference, VideoAutoencoder, from_uint8, to_uint8

__all__ = ["DecodesSegments", "FrameSegmentDecoder", "SegmentDecoder", "segment_decoder"]

Pixels = NDArray[np.uint8]


class SegmentDecoder(Protocol):
    """Decodes the segments of one video in order.

    Attributes:
        held_back: Last frames of a segment that are given with the next one.
    """

    held_back: int

    def decode(self, latents: Tensor, given: int, is_last: bool) -> Iterator[Pixels]:
        """Decode a segment.

        Args:
            latents: [1, C, f, h, w].
            given: Frames at its beginning that the segment before has too, and that `beginning` gave; 0 for the first one.
            is_last: Whether no segment follows. Otherwise the last frames are held back until the next one.

        Yields:
            uint8 [H, W, 3], the frames that follow those given before. All are to be taken before anything else is asked for.
        """

    def beginning(self) -> Beginning:
        """The frames that the next segment begins with."""

    def state(self) -> dict[str, Tensor]:
        """Everything that the next segments depend on, to be stored."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a stored state."""


@runtime_checkable
class DecodesSegments(Protocol):
    """An autoencoder with a way of its own to decode segments; others are decoded by `FrameSegmentDecoder`."""

    def segment_decoder(
        self, reference: Reference, overlap: int, continued: bool, aside: bool, soon: bool = False
    ) -> SegmentDecoder:
        """A decoder of one video; the arguments are those of the function `segment_decoder`."""


def segment_decoder(
    autoencoder: VideoAutoencoder,
    reference: Reference,
    overlap: int,
    continued: bool = False,
    aside: bool = True,
    hold: bool = False,
    soon: bool = False,
) -> SegmentDecoder:
    """A decoder of one long video.

    Args:
        autoencoder: The autoencoder.
        reference: The portrait.
        overlap: Frames, 4 k - 3, that each segment begins with and the one before ends with.
        continued: Whether the video continues another one, so that its first frame is not the portrait.
        aside: Whether a second thread may work on the next frames meanwhile.
        hold: Whether frames that a segment begins with are brought to the portrait's colours and sharpness.
        soon: Whether to hold back fewer frames than would be best, as they are waited for.
    """
    if isinstance(autoencoder, DecodesSegments):
        return autoencoder.segment_decoder(reference, overlap, continued, aside, soon)
    return FrameSegmentDecoder(autoencoder, reference, overlap, continued, hold)


class FrameSegmentDecoder:
    """Decodes each segment by itself, cross-fades what neighbours share, and encodes the last frames for the next one.

    Args:
        autoencoder: The autoencoder.
        reference: The portrait.
        overlap: Frames, 4 k - 3, that neighbours share.
        continued: Whether the video continues another one.
        hold: Whether the frames that a segment begins with are brought to the portrait's colours and sharpness.
    """

    def __init__(
        self, autoencoder: VideoAutoencoder, reference: Reference, overlap: int, continued: bool, hold: bool
    ) -> None:
        self._autoencoder, self._reference, self._overlap, self._hold = autoencoder, reference, overlap, hold
        self._continued, self._last = continued, list[Pixels]()
        self.held_back = overlap

    def decode(self, latents: Tensor, given: int, is_last: bool) -> Iterator[Pixels]:
        """See `SegmentDecoder.decode`."""
        before, self._last = self._last, []
        frames = self._autoencoder.decode_frames(latents, self._reference, continued=self._continued or given > 0)
        for number, old in enumerate(before[len(before) - given :]):
            share = (number + 1) / (given + 1)
            self._last.append(np.rint(old + share * (next(frames).astype(np.float32) - old)).astype(np.uint8))
        for frame in itertools.chain(self._last, frames) if is_last else frames:
            if is_last:
                yield frame
                continue
            self._last.append(frame)
            if len(self._last) > self._overlap:
                yield self._last.pop(0)

    def beginning(self) -> Beginning:
        """See `SegmentDecoder.beginning`."""
        frames = np.stack(self._last)
        if self._hold:
            frames = hold_look(frames, to_uint8(self._reference.images)[0])
        images = from_uint8(frames).movedim(0, 1)[None].to(self._reference.images.device)
        return Beginning(images, self._autoencoder.encode(images, self._reference))

    def state(self) -> dict[str, Tensor]:
        """See `SegmentDecoder.state`."""
        return {"frames": torch.from_numpy(np.stack(self._last)) if self._last else torch.zeros(0)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `SegmentDecoder.restore`."""
        self._last = list(state["frames"].numpy())
