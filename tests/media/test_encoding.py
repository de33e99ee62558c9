"""Bytes of media files: complete, close to what was given, the same each time."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from fantasytalking.errors import VideoError
from fantasytalking.media.encoding import flac_bytes, jpeg_bytes, mp4_bytes
from tests.media.files import frame_numbers, numbered_frames, tone


@pytest.mark.parametrize("count", [1, 4096, 16001])
def test_flac_keeps_every_sample(count: int) -> None:
    samples = tone(2)[:count]
    stored = flac_bytes(samples, 16000)
    with av.open(io.BytesIO(stored), "r") as container:
        assert container.streams.audio[0].rate == 16000
        back = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], 1)[0]
    assert back.dtype == np.int16 and len(back) == count
    assert np.abs(back / 2**15 - samples).max() <= 0.5 / 2**15 + 1e-9
    assert flac_bytes(samples, 16000) == stored


def test_flac_clips_what_is_too_loud() -> None:
    with av.open(io.BytesIO(flac_bytes(np.array([2.0, -2.0] * 100, np.float32), 16000)), "r") as container:
        back = next(container.decode(audio=0)).to_ndarray()
    assert (back.max(), back.min()) == (2**15 - 1, -(2**15))


def test_mp4_has_the_frames_in_order_and_the_same_bytes_each_time() -> None:
    frames = numbered_frames(12)
    stored = mp4_bytes(frames, 23)
    with av.open(io.BytesIO(stored), "r") as container:
        assert container.streams.video[0].average_rate == 23
        assert not container.streams.audio
        back = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert frame_numbers(back) == list(range(12))
    assert mp4_bytes(frames, 23) == stored
    # x264 writes its settings into the file: with the machine's number of threads it would differ between machines
    assert b"threads=1 " in stored


def test_an_empty_mp4_is_refused() -> None:
    with pytest.raises(VideoError, match="no frame"):
        mp4_bytes([], 25)


def test_jpeg_is_close_to_the_picture() -> None:
    ramp = np.stack(np.broadcast_arrays(*np.ogrid[0:200:50j, 0:250:60j], 90), -1).astype(np.uint8)
    stored = jpeg_bytes(ramp)
    back = np.asarray(Image.open(io.BytesIO(stored)))
    assert back.shape == ramp.shape
    assert np.abs(back.astype(int) - ramp.astype(int)).max() <= 6
    assert jpeg_bytes(ramp) == stored
