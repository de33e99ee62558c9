"""Projected speech in the form that the attention of every block reads.

Letters: B batch, f latent frames, h and w token rows and columns of a latent frame, t speech tokens, w tokens of a window, d width.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import nn

from fantasytalking.conditioning.audio_windows import WINDOW_MARGIN, attention_mask, window_index
from fantasytalking.conditioning.conditions import AudioCondition, Scale, scale_rows
from fantasytalking.errors import InputError
from fantasytalking.system.execution_device import move_tensors
from fantasytalking.transformer.context_parallel import FrameShare

__all__ = ["AudioTokens", "audio_tokens", "check_regions", "scale_column"]


@dataclass(frozen=True)
class AudioTokens:
    """Projected speech of one person.

    Attributes:
        tokens: [B, t, d], zeros where padded; in frame mode the last token is zero and is used for padding.
        index: int64 [B, f, w], the tokens of each latent frame's window; None: clip mode.
        mask: bool [B * f, 1, 1, w] in frame mode, [B, 1, 1, t] in clip mode, true where a key takes part; None: all.
        scale: number or [B, 1, 1].
        positions: [p + 1, d] learned positions in a window, the last one zero for padding; None: a window is a set, as
            released.
        places: int64 [B, f, w], the row of `positions` of each window token.
        share: the latent frames of the video tokens that attend, where other ranks have the other tokens; None: all frames.
        region: [B, h * w], share of the video tokens of a latent frame that hear this; None: all hear it.
    """

    tokens: torch.Tensor
    index: torch.Tensor | None
    mask: torch.Tensor | None
    scale: float | torch.Tensor
    positions: torch.Tensor | None = None
    places: torch.Tensor | None = None
    share: FrameShare | None = None
    region: torch.Tensor | None = None

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> AudioTokens:
        """Copy on a device."""
        return dataclasses.replace(self, **move_tensors(self, device, non_blocking))

    def token_shares(self, count: int) -> torch.Tensor:
        """The region at each of the video tokens that attend, [B, count, 1].

        Args:
            count: Number of these tokens: all, or a rank's.
        """
        assert self.region is not None
        if self.share is None:
            return self.region.repeat(1, count // self.region.shape[1])[..., None]
        frames = self.region.repeat(1, self.share.end - self.share.first)
        return frames[:, self.share.before : self.share.before + count, None]


def audio_tokens(
    tokens: torch.Tensor, audio: AudioCondition, frames: int, positions: torch.Tensor | None
) -> AudioTokens:
    """Projected speech with, in frame mode, the window of each latent frame.

    Args:
        tokens: [B, t, d] projected features.
        audio: Their ranges, lengths, scale and region.
        frames: Latent frames f of the video.
        positions: [p, d] learned positions in a window, or None.

    Raises:
        InputError: The windows are of another number of latent frames.
    """
    batch, count, _ = tokens.shape
    scale = scale_column(audio.scale, batch, tokens)
    region = None if audio.region is None else audio.region.to(tokens).flatten(1)
    if audio.ranges is None:
        if audio.lengths is None:
            return AudioTokens(tokens, None, None, scale, region=region)
        mask = attention_mask(audio.lengths, count)
        # Zeroed as well as masked: a clip without any token keeps its first key, which must add nothing.
        real = torch.arange(count, device=tokens.device) < audio.lengths[:, None]
        return AudioTokens(tokens * real[..., None], None, mask[:, None, None], scale, region=region)
    if audio.ranges.shape[1] != frames:
        raise InputError(
            f"The latents have {frames} frames but the audio has windows for {audio.ranges.shape[1]}; "
            "make the windows for the same number of video frames."
        )
    index, counts = window_index(audio.ranges, count, audio.lengths, audio.width)
    mask = rearrange(attention_mask(counts, index.shape[2]), "b f w -> (b f) 1 1 w")
    padded = nn.functional.pad(tokens, (0, 0, 0, 1))
    if positions is None:
        return AudioTokens(padded, index, mask, scale, region=region)
    # Padding has a position of its own, which is zero, so that a window without any token adds nothing.
    last = len(positions) - 1
    places = (index - audio.ranges[..., :1] + WINDOW_MARGIN).clamp(0, last)
    places = torch.where(index < count, places, last + 1)
    learned = nn.functional.pad(positions, (0, 0, 0, 1))
    return AudioTokens(padded, index, mask, scale, learned, places, region=region)


def check_regions(audio: AudioCondition | None, rows: int, columns: int) -> None:
    """Check that the people who speak have regions of the latents' size.

    Args:
        audio: The speech.
        rows: Token rows of a latent frame.
        columns: Token columns.

    Raises:
        InputError: They have not.
    """
    region = None if audio is None else audio.region
    if region is not None and tuple(region.shape[1:]) != (rows, columns):
        raise InputError(
            f"The latent frames have {rows} x {columns} tokens but the regions of the speakers {tuple(region.shape[1:])}; make them for "
            "the same picture."
        )


def scale_column(scale: Scale, batch: int, like: torch.Tensor) -> float | torch.Tensor:
    """A scale that multiplies [B, tokens, d]: the number itself, or [B, 1, 1]."""
    if not isinstance(scale, torch.Tensor):
        return scale
    return scale_rows(scale, batch, like).to(like.dtype)[:, None, None]
