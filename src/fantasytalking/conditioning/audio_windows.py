"""Which speech tokens each latent frame listens to: pure functions (paper section 3.2, frame-level alignment).

Letters: B batch, F video frames, f latent frames, t speech tokens of a clip, w tokens of a window before it is cut
to the clip, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fantasytalking.conditioning.interpolation import rows_at
from fantasytalking.errors import InputError
from fantasytalking.geometry import TIME_STRIDE

WINDOW_MARGIN = 4
"""Tokens that every range is widened by on both sides, as released."""


def window_ranges(num_tokens: int, num_frames: int, time_stride: int = TIME_STRIDE) -> torch.Tensor:
    """Token range of each latent frame, both ends included, before it is widened and cut, exactly as released.

    The range of latent frame i >= 1 is centred on the video frames that it stands for; latent frame 0, which is one
    video frame, gets the range that ends where that of latent frame 1 starts. Ranges may lie outside the clip:
    `gather_windows` cuts them.

    Args:
        num_tokens: speech tokens t that cover the clip, at least 1.
        num_frames: video frames F of the clip, 4n+1.
        time_stride: video frames per latent frame.

    Returns:
        int64 [f, 2]: first and last token.

    Raises:
        InputError: if there are no tokens or no frames.
    """
    if num_tokens < 1 or num_frames < 1:
        raise InputError(
            "Audio windows need at least 1 speech token and 1 video frame, "
            f"but there are {num_tokens} and {num_frames}."
        )
    tokens_per_frame = num_tokens / num_frames
    half = int(tokens_per_frame * time_stride / 2)

    def centred(latent: int) -> list[int]:
        # Kept operation by operation as released: any algebra here moves the int() of some clip by one.
        before = tokens_per_frame * ((latent - 1) * time_stride + 1)
        after = tokens_per_frame * (latent * time_stride + 1)
        centre = int((before + after) / 2) - 1
        return [centre - half, centre + half]

    start = centred(1)[0]
    latent_frames = (num_frames - 1) // time_stride + 1
    ranges = [[start - 2 * half, start]] + [centred(latent) for latent in range(1, latent_frames)]
    return torch.tensor(ranges, dtype=torch.int64)


def window_index(
    ranges: torch.Tensor, num_tokens: int, lengths: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the tokens of every window.

    Args:
        ranges: int64 [B, f, 2] from `window_ranges`.
        num_tokens: t, the padded number of tokens of the batch.
        lengths: int64 [B], tokens of each clip that are real; None: all t.

    Returns:
        index int64 [B, f, w], where t (one past the end) stands for padding, and lengths int64 [B, f] of the windows.
        A window that lies wholly outside its clip has length 0.
    """
    ends = torch.full_like(ranges[:, :1, 0], num_tokens) if lengths is None else lengths[:, None].to(ranges)
    first = (ranges[..., 0] - WINDOW_MARGIN).clamp(min=0)
    last = torch.minimum(ranges[..., 1] + WINDOW_MARGIN, ends - 1)
    counts = (last - first + 1).clamp(min=0)
    # The width before the cut, as released: it is the same for all windows of a clip, however short the clip is.
    width = int((ranges[..., 1] - ranges[..., 0]).max()) + 1 + 2 * WINDOW_MARGIN
    steps = torch.arange(width, device=ranges.device)
    index = torch.where(steps < counts[..., None], first[..., None] + steps, num_tokens)
    return index, counts


def attention_mask(counts: torch.Tensor, width: int) -> torch.Tensor:
    """Boolean mask [..., width], true where a key takes part; an empty row keeps its first key.

    A row without any key would be NaN in every attention back-end. Its first key is a zero token, whose value is zero
    as the audio values have no bias, so it adds nothing.

    Args:
        counts: int64 [...], real keys of each row.
        width: keys of each row, padding included.
    """
    return torch.arange(width, device=counts.device) < counts.clamp(min=1)[..., None]


def gather_windows(
    audio: torch.Tensor, ranges: torch.Tensor, lengths: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut the window of each latent frame out of the speech tokens.

    Every range is widened by `WINDOW_MARGIN` on both sides, cut to the clip, and padded with zeros on the right.

    Args:
        audio: [B, t, d].
        ranges: int64 [B, f, 2] from `window_ranges`.
        lengths: int64 [B], tokens of each clip that are real; None: all t.

    Returns:
        windows [B, f, w, d]; mask bool [B, f, w], true on real tokens; lengths int64 [B, f].

    Raises:
        InputError: if the shapes do not fit each other.
    """
    if audio.ndim != 3 or ranges.ndim != 3 or ranges.shape[0] != audio.shape[0] or ranges.shape[2] != 2:
        raise InputError(
            f"Audio windows need tokens [B, t, d] and ranges [B, f, 2], but got {tuple(audio.shape)} "
            f"and {tuple(ranges.shape)}."
        )
    index, counts = window_index(ranges, audio.shape[1], lengths)
    windows = select_tokens(F.pad(audio, (0, 0, 0, 1)), index)
    mask = torch.arange(index.shape[2], device=index.device) < counts[..., None]
    return windows, mask, counts


def select_tokens(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Pick tokens [B, t, d] by position int64 [B, f, w] into [B, f, w, d]."""
    batch, count, width = tokens.shape
    rows = index + torch.arange(batch, device=index.device)[:, None, None] * count
    return tokens.reshape(batch * count, width).index_select(0, rows.flatten()).view(*index.shape, width)


def resample_features(features: torch.Tensor, target_count: int) -> torch.Tensor:
    """Resample in time, linearly, so that windows stay aligned at any frame rate.

    The result spans the same time as the features: feature i stands for the centre of the i-th of t equal parts, output
    j for the centre of the j-th of `target_count`. Half a step at each end repeats the outermost feature.

    Args:
        features: [t, d], at least one.
        target_count: number of features wanted, at least 1.

    Returns:
        [target_count, d], same type and device; the features themselves where the count is theirs.

    Raises:
        InputError: if there are no features or none are wanted.
    """
    if features.ndim != 2 or features.shape[0] < 1 or target_count < 1:
        raise InputError(
            "Resampling needs features [t, d] with t >= 1 and a count of at least 1, "
            f"but got {tuple(features.shape)} and {target_count}."
        )
    count = features.shape[0]
    if count == target_count:
        return features
    centres = (torch.arange(target_count, dtype=torch.float64) + 0.5) * (count / target_count)
    return rows_at(features, centres - 0.5)
