"""A video that plays while it grows."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from fantasytalking.errors import OutputError, VideoError
from fantasytalking.media.audio import load_audio
from fantasytalking.media.stream_writer import StreamWriter
from fantasytalking.media.video import probe_video, read_frames


def frame(number: int) -> npt.NDArray[np.uint8]:
    return np.full((64, 48, 3), 3 * number, np.uint8)


def fill(
    target: Any, frames: int, error: BaseException | None = None, then: npt.NDArray[np.uint8] | None = None
) -> None:
    """Writes some frames without sound, and then another one, or raises an error."""
    with StreamWriter(target, 25, 16000) as writer:
        for number in range(frames):
            writer.write(frame(number), np.zeros(640, np.float32))
        if then is not None:
            writer.write(then, np.zeros(640, np.float32))
        if error is not None:
            raise error


def test_picture_and_sound_are_complete_and_in_step(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    noise = np.random.default_rng(0).standard_normal(32000)
    sound = (0.05 * np.convolve(noise, np.ones(8), "same")).astype(np.float32)
    with StreamWriter(path, 25, 16000) as writer:
        for number in range(50):
            writer.write(frame(number), sound[number * 640 : number * 640 + 640])
    info = probe_video(path)
    assert (info.frames, info.fps, info.width, info.height, info.has_audio) == (50, 25, 48, 64, True)
    frames, _ = read_frames(path)
    assert [round(float(one.mean()) / 3) for one in frames[::7]] == list(range(0, 50, 7))
    heard = load_audio(path, 16000).samples
    lags = range(-400, 401, 10)
    best = max(lags, key=lambda lag: float(np.dot(heard[1000 + lag : 21000 + lag], sound[1000:21000])))
    assert abs(best) <= 20


def test_what_was_written_before_an_error_plays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        fill(path, 30, KeyboardInterrupt())
    assert probe_video(path).frames == 30


def test_bytes_go_forward_into_a_pipe() -> None:
    written = io.BytesIO()
    fill(written.write, 30)
    written.seek(0)
    with av.open(written, "r") as container:
        assert len(list(container.decode(video=0))) == 30


def test_a_reader_that_is_gone_and_a_full_disk_are_one_sentence() -> None:
    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="standard output"):
        fill(full, 60)


def test_no_frame_and_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frame to write"):
        fill(tmp_path / "none.mp4", 0)
    with pytest.raises(VideoError, match="another size"):
        fill(tmp_path / "two.mp4", 1, then=frame(1)[:32])
