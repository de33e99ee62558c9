"""The window of speech tokens that each latent frame listens to: pure functions (paper section 3.2, frame-level alignment).

Letters: B batch, F video frames, f latent frames, t speech tokens of a clip, w tokens of a window before it is cut
to the clip, d width.
"""

from __future__ import annotations

import torch

from fantasytalking.conditioning.interpolation import rows_at
from fantasytalking.errors import InputError
from fantasytalking.geometry import TIME_STRIDE

WINDOW_MARGIN = 4
"""Tokens by which every range is widened on both sides, as released."""


def window_ranges(num_tokens: int, num_frames: int) -> torch.Tensor:
    """Token range of each latent frame, both ends included, before it is widened and cut, exactly as released.

    The range of latent frame i >= 1 is centred on the video frames that it stands for; latent frame 0, which is one
    video frame, gets the range that ends where that of latent frame 1 starts. Ranges may lie outside the clip:
    `window_index` cuts them.

    Args:
        num_tokens: Speech tokens t that cover the clip, at least 1.
        num_frames: Video frames F of the clip, 4n+1.

    Returns:
        int64 [f, 2]: first and last token.

    Raises:
        InputError: There are no tokens or no frames.
    """
    if num_tokens < 1 or num_frames < 1:
        raise InputError(
            "Audio windows need at least 1 speech token and 1 video frame, "
            f"but there are {num_tokens} and {num_frames}."
        )
    return ranges_between(num_tokens / num_frames, 0, (num_frames - 1) // TIME_STRIDE + 1)


def ranges_between(tokens_per_frame: float, first: int, end: int) -> torch.Tensor:
    """`window_ranges` of the latent frames from a first one to one before another, [end - first, 2].

    Args:
        tokens_per_frame: Speech tokens to a video frame.
        first: Number of the first latent frame.
        end: One past the number of the last.
    """
    half = int(tokens_per_frame * TIME_STRIDE / 2)

    def centred(latent: int) -> list[int]:
        # The same operations in the same order as released: simplifying them changes the int() of some clips by one.
        before = tokens_per_frame * ((latent - 1) * TIME_STRIDE + 1)
        after = tokens_per_frame * (latent * TIME_STRIDE + 1)
        centre = int((before + after) / 2) - 1
        return [centre - half, centre + half]

    start = centred(1)[0]
    ranges = [centred(latent) if latent else [start - 2 * half, start] for latent in range(first, end)]
    return torch.tensor(ranges, dtype=torch.int64)


def window_width(ranges: torch.Tensor) -> int:
    """Tokens of the widest window before windows are cut to the clip; reading it from a device waits for that device.

    Args:
        ranges: int64 [B, f, 2] from `window_ranges`.
    """
    return int((ranges[..., 1] - ranges[..., 0]).max()) + 1 + 2 * WINDOW_MARGIN


def window_index(
    ranges: torch.Tensor, num_tokens: int, lengths: torch.Tensor | None = None, width: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the tokens of every window: each range widened by `WINDOW_MARGIN` on both sides and cut to its clip.

    Args:
        ranges: int64 [B, f, 2] from `window_ranges`.
        num_tokens: t, the number of tokens that the batch is padded to.
        lengths: int64 [B], real tokens of each clip; None: all t.
        width: `window_width(ranges)` where it is known already.

    Returns:
        index int64 [B, f, w], where t (one past the end) stands for padding, and lengths int64 [B, f] of the windows.
        A window that lies wholly outside its clip has length 0.
    """
    ends = torch.full_like(ranges[:, :1, 0], num_tokens) if lengths is None else lengths[:, None].to(ranges)
    first = (ranges[..., 0] - WINDOW_MARGIN).clamp(min=0)
    last = torch.minimum(ranges[..., 1] + WINDOW_MARGIN, ends - 1)
    counts = (last - first + 1).clamp(min=0)
    # The width before windows are cut to the clip, as released: it is the same for all windows, however short the clip is.
    steps = torch.arange(window_width(ranges) if width is None else width, device=ranges.device)
    index = torch.where(steps < counts[..., None], first[..., None] + steps, num_tokens)
    return index, counts


def attention_mask(counts: torch.Tensor, width: int) -> torch.Tensor:
    """Boolean mask [..., width], true where a key takes part; an empty row keeps its first key.

    A row without any key would give NaN in every attention back-end. Its first key is a zero token, whose value is zero
    because the audio values have no bias, so it adds nothing.

    Args:
        counts: int64 [...], real keys of each row.
        width: Keys of each row, padding included.
    """
    return torch.arange(width, device=counts.device) < counts.clamp(min=1)[..., None]


def select_tokens(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Pick tokens [B, t, d] by position int64 [B, f, w] into [B, f, w, d]."""
    batch, count, width = tokens.shape
    rows = index + torch.arange(batch, device=index.device)[:, None, None] * count
    return tokens.reshape(batch * count, width).index_select(0, rows.flatten()).view(*index.shape, width)


def resample_features(features: torch.Tensor, target_count: int) -> torch.Tensor:
    """Resample features linearly in time, so that windows stay aligned at any frame rate.

    The result spans the same time as the features: feature i is at the centre of the i-th of t equal parts, output j at
    the centre of the j-th of `target_count`. Beyond the outermost centres the outermost feature is repeated.

    Args:
        features: [t, d], at least one.
        target_count: Number of features wanted, at least 1.

    Returns:
        [target_count, d], same type and device; the features themselves if there are that many already.

    Raises:
        InputError: There are no features, or none are wanted.
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
