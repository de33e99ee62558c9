"""Geometry of the Wan video model: pixels <-> latents <-> tokens <-> seconds.

The only file that holds the 4n+1 rule, the strides (4, 8, 8) and the patch (1, 2, 2).

Letters used in this package: B batch, F video frames, H height and W width in pixels; f, h, w the same in latents;
t audio tokens; l text tokens; d width of a token.
"""

from __future__ import annotations

from dataclasses import dataclass

from fantasytalking.errors import SettingsError

TIME_STRIDE = 4
SPACE_STRIDE = 8
PATCH = (1, 2, 2)
NATIVE_FPS = 23.0
"""Frame rate the released model was trained for, frames per second."""
AUDIO_TOKEN_RATE = 50.0
"""Features per second of both speech encoders; wav2vec2 omits the last one, whose samples are incomplete."""


@dataclass(frozen=True)
class Strides:
    """Strides of an autoencoder, and the patches that the transformer cuts latents into.

    Attributes:
        time: Video frames per latent frame, except the first latent frame, which is one video frame (the 4n+1 rule).
        height: Pixels per latent row.
        width: Pixels per latent column.
        patch: Latents per token in (time, height, width).
    """

    time: int = TIME_STRIDE
    height: int = SPACE_STRIDE
    width: int = SPACE_STRIDE
    patch: tuple[int, int, int] = PATCH

    def latent_frames(self, num_frames: int) -> int:
        """Latent frames f of a video of F frames: (F - 1) / 4 + 1.

        Raises:
            SettingsError: F is not a multiple of the time stride plus 1.
        """
        if num_frames < 1 or (num_frames - 1) % self.time:
            below = max(1, (num_frames - 1) // self.time * self.time + 1)
            raise SettingsError(
                f"The number of frames must be a multiple of {self.time} plus 1, but it is {num_frames}; "
                f"use {below} or {below + self.time}."
            )
        return (num_frames - 1) // self.time + 1

    def num_frames(self, latent_frames: int) -> int:
        """Video frames F of f latent frames: (f - 1) * 4 + 1.

        Raises:
            SettingsError: There is no latent frame.
        """
        if latent_frames < 1:
            raise SettingsError(f"A video needs at least 1 latent frame, but {latent_frames} were asked for.")
        return (latent_frames - 1) * self.time + 1

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Latent rows and columns (h, w) of a picture of H x W pixels.

        Raises:
            SettingsError: A side is not a positive multiple of the stride.
        """
        for name, side, stride in (("height", height, self.height), ("width", width, self.width)):
            if side < stride or side % stride:
                raise SettingsError(
                    f"The {name} must be a multiple of {stride} pixels, but it is {side}; "
                    f"use {max(stride, round(side / stride) * stride)}."
                )
        return height // self.height, width // self.width

    def token_size(self, height: int, width: int) -> tuple[int, int]:
        """Token rows and columns of each latent frame of a video of H x W pixels.

        Raises:
            SettingsError: A side is not a positive multiple of stride times patch.
        """
        rows, columns = self.latent_size(height, width)
        self.tokens(self.patch[0], rows, columns)
        return rows // self.patch[1], columns // self.patch[2]

    def tokens(self, latent_frames: int, latent_height: int, latent_width: int) -> int:
        """Transformer tokens of f x h x w latents.

        Raises:
            SettingsError: The latents cannot be cut into whole patches.
        """
        sides = (latent_frames, latent_height, latent_width)
        if any(side < 1 or side % patch for side, patch in zip(sides, self.patch, strict=True)):
            raise SettingsError(
                f"Latents of {sides} (time, height, width) cannot be cut into patches of {self.patch}; "
                "each side must be a positive multiple of its patch side."
            )
        count = 1
        for side, patch in zip(sides, self.patch, strict=True):
            count *= side // patch
        return count


def released_frame_count(duration: float, fps: float = NATIVE_FPS, maximum: int = 81) -> int:
    """Frame count of the released script: min(int(fps * duration // 4) * 4 + 5, maximum).

    It is 1 to 4 frames more than the speech lasts, so that nothing is cut off.

    Args:
        duration: Length of the speech in seconds.
        fps: Frames per second.
        maximum: Largest allowed count, 4n+1.

    Raises:
        SettingsError: The duration is negative, the frame rate is not positive, or the maximum is not 4n+1 (the
            released pipeline silently shifts the audio then).
    """
    _check_time(duration, fps)
    Strides().latent_frames(maximum)
    return min(int(fps * duration // TIME_STRIDE) * TIME_STRIDE + TIME_STRIDE + 1, maximum)


def fit_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Size of a picture scaled to `longest` pixels on its longest side, both sides then rounded up to whole tokens.

    As released, the scaled sides are truncated to whole pixels before they are rounded up.

    Args:
        width: Pixels, at least 1.
        height: Pixels, at least 1.
        longest: Wanted longest side in pixels, at least 16.

    Returns:
        (width, height) in pixels, multiples of stride times patch (16).

    Raises:
        SettingsError: A side is not positive, or `longest` is below 16.
    """
    multiple = SPACE_STRIDE * PATCH[1]
    if min(width, height) < 1:
        raise SettingsError(f"A picture needs at least 1 x 1 pixels, but it is {width} x {height}.")
    if longest < multiple:
        raise SettingsError(f"The longest side must be at least {multiple} pixels, but it is {longest}.")
    scale = longest / max(width, height)
    sides = (max(1, int(width * scale)), max(1, int(height * scale)))
    wide, high = (-(-side // multiple) * multiple for side in sides)
    return wide, high


def _check_time(seconds: float, fps: float) -> None:
    if not seconds >= 0:
        raise SettingsError(f"The duration must be 0 seconds or more, but it is {seconds}.")
    if not fps > 0:
        raise SettingsError(f"The frame rate must be above 0 frames per second, but it is {fps}.")
