"""Arrays encoded as media files, to the same bytes on every machine.

Dimensions: n samples, F frames, H height, W width.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from fantasytalking.media.video_writer import VideoWriter

__all__ = ["flac_bytes", "jpeg_bytes", "mp4_bytes"]

_BLOCK = 4096
_JPEG_QUALITY = 95


def flac_bytes(samples: npt.NDArray[np.float32], sample_rate: int) -> bytes:
    """Encode sound as FLAC of 16 bits.

    Args:
        samples: float32 [n], n >= 1, mono, in -1..1; what lies beyond is clipped.
        sample_rate: Samples a second.
    """
    whole = np.round(np.clip(samples, -1.0, 1.0 - 2.0**-15) * 2.0**15).astype(np.int16)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=sample_rate, layout="mono")
        stream.codec_context.thread_count = 1
        for start in range(0, len(whole), _BLOCK):
            block = np.ascontiguousarray(whole[start : start + _BLOCK])
            frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = sample_rate, Fraction(1, sample_rate), start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def jpeg_bytes(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode a picture uint8 [H, W, 3] as JPEG with full colour resolution."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def mp4_bytes(frames: Iterable[npt.NDArray[np.uint8]], fps: float, crf: int = 18) -> bytes:
    """Encode frames as H.264 in mp4, without sound.

    Args:
        frames: uint8 [H, W, 3] each, of one size.
        fps: Frames a second.
        crf: Quality of H.264, 0 (lossless) to 51.

    Raises:
        VideoError: There is no frame, or a frame has another type or size.
        OutputError: The folder for temporary files is full.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(path, fps, crf=crf, preset="veryfast", reproducible=True) as writer:
            for frame in frames:
                writer.write(frame)
        return path.read_bytes()
