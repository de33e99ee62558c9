"""Which speech tokens each latent frame listens to."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fantasytalking.conditioning.audio_windows import (
    attention_mask,
    resample_features,
    select_tokens,
    window_index,
    window_ranges,
)
from fantasytalking.conditioning.conditions import AudioCondition
from fantasytalking.errors import InputError


def cut_windows(
    audio: torch.Tensor, ranges: torch.Tensor, lengths: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows [B, f, w, d] of tokens [B, t, d], and their lengths [B, f], as the transformer cuts them: with a zero token for padding."""
    index, counts = window_index(ranges, audio.shape[1], lengths)
    return select_tokens(F.pad(audio, (0, 0, 0, 1)), index), counts


def test_ranges_of_33_frames_and_70_tokens_are_the_released_ones() -> None:
    expected = [[-7, 1], [1, 9], [9, 17], [18, 26], [26, 34], [35, 43], [43, 51], [52, 60], [60, 68]]
    assert window_ranges(70, 33).tolist() == expected


def test_latent_frame_0_ends_where_latent_frame_1_starts_and_all_ranges_have_one_width() -> None:
    for tokens, frames in ((174, 81), (161, 81), (50, 25), (3, 5), (1, 1), (500, 9)):
        ranges = window_ranges(tokens, frames)
        assert ranges.dtype == torch.int64 and ranges.shape == ((frames - 1) // 4 + 1, 2)
        assert (ranges[:, 1] - ranges[:, 0]).unique().numel() == 1
        if len(ranges) > 1:
            assert ranges[0, 1] == ranges[1, 0]


@pytest.mark.parametrize(("tokens", "frames"), [(0, 5), (5, 0)])
def test_ranges_of_nothing_are_refused(tokens: int, frames: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        window_ranges(tokens, frames)


def test_windows_are_widened_by_4_cut_to_the_clip_and_padded_with_zeros() -> None:
    audio = torch.arange(1.0, 21.0)[None, :, None]
    windows, lengths = cut_windows(audio, torch.tensor([[[-6, 0], [5, 9], [17, 22]]]))
    assert lengths.tolist() == [[5, 13, 7]]
    assert windows.shape == (1, 3, 15, 1)
    assert windows[0, 0, :, 0].tolist() == [1, 2, 3, 4, 5] + [0] * 10
    assert windows[0, 1, :, 0].tolist() == list(range(2, 15)) + [0] * 2
    assert windows[0, 2, :, 0].tolist() == list(range(14, 21)) + [0] * 8
    assert torch.equal(attention_mask(lengths, 15), windows[..., 0] != 0)


def test_a_clip_shorter_than_its_windows_has_windows_of_the_released_width() -> None:
    windows, lengths = cut_windows(torch.ones(1, 10, 3), window_ranges(10, 5)[None])
    assert windows.shape == (1, 2, 2 * 4 + 1 + 2 * 4, 3)
    assert lengths.max() < windows.shape[2]


def test_windows_end_at_the_true_length_of_each_clip() -> None:
    audio = torch.ones(2, 20, 3)
    ranges = torch.tensor([[5, 9], [12, 16]]).expand(2, -1, -1)
    windows, lengths = cut_windows(audio, ranges, torch.tensor([20, 8]))
    assert lengths.tolist() == [[13, 12], [7, 0]]
    assert not windows[1, 1].any()


def test_an_attention_mask_never_masks_a_whole_row() -> None:
    mask = attention_mask(torch.tensor([[3, 0], [1, 5]]), 5)
    assert mask.sum(-1).tolist() == [[3, 1], [1, 5]]


def test_ranges_for_another_batch_are_refused() -> None:
    with pytest.raises(InputError, match="ranges"):
        AudioCondition(torch.zeros(2, 5, 3), torch.zeros(1, 4, 2, dtype=torch.int64))


def test_tokens_are_selected_from_their_own_clip() -> None:
    tokens = torch.arange(12.0).view(2, 3, 2)
    index = torch.tensor([[[0, 2]], [[1, 1]]])
    assert select_tokens(tokens, index)[:, 0].tolist() == [[[0, 1], [4, 5]], [[8, 9], [8, 9]]]


def test_resampling_keeps_a_line_a_line_and_repeats_the_ends() -> None:
    line = torch.arange(10.0)[:, None]
    assert resample_features(line, 10) is line
    doubled = resample_features(line, 20)
    torch.testing.assert_close(doubled[:3, 0], torch.tensor([0.0, 0.25, 0.75]))
    torch.testing.assert_close(doubled.diff(dim=0)[1:-1], torch.full((17, 1), 0.5))
    assert doubled[-1] == 9
    torch.testing.assert_close(resample_features(line, 5)[:, 0], torch.tensor([0.5, 2.5, 4.5, 6.5, 8.5]))
    assert resample_features(line[:1], 3).tolist() == [[0], [0], [0]]


@pytest.mark.parametrize(("shape", "count"), [((0, 3), 5), ((5, 3), 0), ((5,), 3)])
def test_resampling_nothing_is_refused(shape: tuple[int, ...], count: int) -> None:
    with pytest.raises(InputError, match="Resampling"):
        resample_features(torch.zeros(shape), count)
