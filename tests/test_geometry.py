"""Pixels, latents, tokens and seconds."""

from __future__ import annotations

import pytest

from fantasytalking.errors import SettingsError
from fantasytalking.geometry import Strides, fit_size, released_frame_count


def test_frames_become_latent_frames_and_back_by_the_4n_plus_1_rule() -> None:
    strides = Strides()
    assert [strides.latent_frames(frames) for frames in (1, 5, 33, 81)] == [1, 2, 9, 21]
    assert all(strides.num_frames(strides.latent_frames(frames)) == frames for frames in range(1, 200, 4))


@pytest.mark.parametrize("frames", [0, -3, 2, 4, 80, 82])
def test_a_frame_count_that_is_not_4n_plus_1_is_refused_with_the_nearest_ones(frames: int) -> None:
    with pytest.raises(SettingsError, match="multiple of 4 plus 1") as caught:
        Strides().latent_frames(frames)
    assert "use " in str(caught.value)


def test_80_frames_are_refused_with_77_and_81() -> None:
    with pytest.raises(SettingsError, match="use 77 or 81"):
        Strides().latent_frames(80)


def test_pixels_become_latents_and_latents_tokens() -> None:
    strides = Strides()
    assert strides.latent_size(512, 384) == (64, 48)
    assert strides.tokens(21, 64, 48) == 21 * 32 * 24
    assert Strides(time=2, height=16, width=16, patch=(1, 1, 1)).tokens(3, 4, 5) == 60


def test_sides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(SettingsError, match="width must be a multiple of 8"):
        Strides().latent_size(512, 500)
    with pytest.raises(SettingsError, match="patches"):
        Strides().tokens(3, 5, 4)
    with pytest.raises(SettingsError, match="at least 1 latent frame"):
        Strides().num_frames(0)


@pytest.mark.parametrize(("seconds", "frames"), [(0.0, 5), (1.0, 25), (2.0, 49), (3.4, 81), (3.5, 81), (60.0, 81)])
def test_the_released_frame_count_covers_the_speech_up_to_the_maximum(seconds: float, frames: int) -> None:
    assert released_frame_count(seconds) == frames
    assert frames == 81 or frames >= seconds * 23


def test_a_maximum_that_would_shift_the_audio_is_refused() -> None:
    with pytest.raises(SettingsError, match="80"):
        released_frame_count(10, maximum=80)


@pytest.mark.parametrize(("seconds", "fps"), [(-1, 23), (float("nan"), 23), (1, 0), (1, -5), (1, float("nan"))])
def test_negative_durations_and_rates_are_refused(seconds: float, fps: float) -> None:
    with pytest.raises(SettingsError):
        released_frame_count(seconds, fps)


def test_a_picture_is_scaled_to_its_longest_side_and_rounded_up_to_16() -> None:
    assert fit_size(1024, 1024, 512) == (512, 512)
    assert fit_size(1000, 750, 512) == (512, 384)
    assert fit_size(300, 999, 512) == (160, 512)
    assert fit_size(100, 50, 512) == (512, 256)
    assert fit_size(12_000, 1, 512) == (512, 16)


def test_an_empty_picture_or_side_is_refused() -> None:
    with pytest.raises(SettingsError, match="1 x 1"):
        fit_size(0, 5, 512)
    with pytest.raises(SettingsError, match="longest side"):
        fit_size(5, 5, 8)
