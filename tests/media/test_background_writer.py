"""Frames that are encoded in another thread: the file is that of the plain writer, and no failure leaves one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import OutputError, VideoError
from fantasytalking.media.background_writer import BackgroundWriter
from fantasytalking.media.video import VideoWriter, probe_video, read_frames
from tests.system.file_limit import file_limit


def noise(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)


def background(path: Path, **options: object) -> BackgroundWriter:
    return BackgroundWriter(VideoWriter(path, 25, reproducible=True, **options))  # type: ignore[arg-type]


def test_the_frames_are_those_of_the_plain_writer(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25, reproducible=True) as plain, background(tmp_path / "b.mp4") as writer:
        for index in range(60):
            plain.write(noise(index))
            writer.write(noise(index))
        assert not (tmp_path / "b.mp4").exists()
    assert probe_video(tmp_path / "b.mp4").frames == 60
    one, two = (read_frames(tmp_path / name)[0] for name in ("a.mp4", "b.mp4"))
    assert np.array_equal(one, two)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_block_leaves_no_file(tmp_path: Path, kind: type[BaseException]) -> None:
    def write() -> None:
        with background(tmp_path / "a.mp4") as writer:
            for index in range(10):
                writer.write(noise(index))
            raise kind("stop")

    with pytest.raises(kind, match="stop"):
        write()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("after", [0, 40])
def test_a_wrong_frame_is_told_at_the_latest_at_the_end(tmp_path: Path, after: int) -> None:
    def write() -> None:
        with background(tmp_path / "a.mp4") as writer:
            writer.write(noise(0))
            writer.write(noise(0, side=32))
            for index in range(after):
                writer.write(noise(index))

    with pytest.raises(VideoError, match="Frame 1 is 32 x 32 px"):
        write()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_an_output_error_and_leaves_no_file(tmp_path: Path) -> None:
    def write() -> None:
        with background(tmp_path / "a.mp4", crf=0) as writer:
            for index in range(80):
                writer.write(noise(index, side=128))

    with file_limit(200_000), pytest.raises(OutputError, match="could not be written"):
        write()
    assert os.listdir(tmp_path) == []
