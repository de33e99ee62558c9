"""The frames that a continued video takes over from the video before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder import Beginning, Reference, VideoAutoencoder, from_uint8
from fantasytalking.autoencoder.interface import CONTINUED_FRAMES
from fantasytalking.errors import AudioError, VideoError
from fantasytalking.pipeline.talking_video import TalkingVideo

__all__ = ["CONTINUED_FRAMES", "encode_beginning", "last_frames"]


def encode_beginning(
    previous: TalkingVideo | NDArray[np.uint8], video_frames: int, reference: Reference, autoencoder: VideoAutoencoder
) -> Beginning:
    """The last `CONTINUED_FRAMES` frames of the video that is continued, and their latents.

    Args:
        previous: A video, or its frames [n, H, W, 3] uint8.
        video_frames: Frames that the new video's speech lasts.
        reference: The portrait of both videos.
        autoencoder: Encodes the frames.

    Raises:
        VideoError: The previous video has another size or type, or too few frames.
        AudioError: The speech is no longer than the frames that are taken over.
    """
    height, width = reference.images.shape[-2:]
    frames = last_frames(previous, (height, width), video_frames)
    last = from_uint8(frames).movedim(0, 1)[None].to(reference.images.device)
    return Beginning(last, autoencoder.encode(last, reference))


def last_frames(
    previous: TalkingVideo | NDArray[np.uint8], size: tuple[int, int], video_frames: int
) -> NDArray[np.uint8]:
    """The last `CONTINUED_FRAMES` frames of the video that is continued, uint8 [CONTINUED_FRAMES, H, W, 3].

    Args:
        previous: A video, or its frames [n, H, W, 3] uint8.
        size: (H, W) of the new video.
        video_frames: Frames that the new video's speech lasts.

    Raises:
        VideoError: The previous video has another size or type, or too few frames.
        AudioError: The speech is no longer than the frames that are taken over.
    """
    frames = previous.last_frames(CONTINUED_FRAMES) if isinstance(previous, TalkingVideo) else np.asarray(previous)
    fits = frames.ndim == 4 and frames.dtype == np.uint8 and frames.shape[1:] == (*size, 3)
    if not fits or len(frames) < CONTINUED_FRAMES:
        raise VideoError(
            f"A video that is continued must have at least {CONTINUED_FRAMES} frames of the portrait's size, uint8 "
            f"[n, {size[0]}, {size[1]}, 3], but is {frames.dtype} {list(frames.shape)}; give the video generated from the same "
            "portrait."
        )
    if video_frames <= CONTINUED_FRAMES:
        raise AudioError(
            f"The speech lasts {video_frames} frames, but the first {CONTINUED_FRAMES} of a continued video are given; "
            f"give longer speech that begins {CONTINUED_FRAMES} frames before the end of the previous video's."
        )
    return frames[-CONTINUED_FRAMES:]
