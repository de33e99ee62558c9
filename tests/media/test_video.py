"""Frames are read by time, and written with sound of the same length or not at all."""

from __future__ import annotations

import errno
import os
import resource
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fantasytalking.errors import OutputError, VideoError
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import (
    VideoWriter,
    exact_rate,
    iterate_frames,
    probe_video,
    read_frames,
    write_video,
)
from tests.media.files import frame_numbers, left_over, numbered_frames, tone, write_at_times, write_sound


def write_numbered(path: Path, count: int = 20, fps: float = 25, **sizes: int) -> Path:
    return write_video(path, numbered_frames(count, **sizes), fps, crf=1)


def test_frames_come_back_in_order_with_their_rate(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4")
    frames, fps = read_frames(path)
    assert frames.shape == (20, 48, 64, 3) and frames.dtype == np.uint8 and fps == 25
    assert frame_numbers(frames) == list(range(20))
    info = probe_video(path)
    assert (info.frames, info.fps, info.width, info.height, info.seconds) == (20, 25, 64, 48, 0.8)
    assert not info.has_audio


@pytest.mark.parametrize("fps", [5, 23, Fraction(24000, 1001), 29.97, 60, 12.5])
def test_frame_rates_are_kept_exactly(tmp_path: Path, fps: float | Fraction) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(12), fps, Audio(tone(0.3), 16000))
    info = probe_video(path)
    assert (info.fps, info.frames, info.has_audio) == (exact_rate(fps), 12, True)
    assert read_frames(path)[1] == exact_rate(fps)


def test_floats_stand_for_the_broadcast_rates() -> None:
    assert exact_rate(29.97) == Fraction(30000, 1001) and exact_rate(23.976) == Fraction(24000, 1001)
    assert exact_rate(23.98) == Fraction(24000, 1001)
    assert exact_rate(30) == exact_rate(30.0) == 30 and exact_rate(12.5) == Fraction(25, 2)
    for wrong in (0, -1, 1001, float("nan")):
        with pytest.raises(VideoError, match="above 0"):
            exact_rate(wrong)


def test_another_rate_takes_the_nearest_frame_in_time(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4")
    frames, fps = read_frames(path, fps=23)
    expected = [round(k / 23 * 25) for k in range(19)]
    assert fps == 23 and frame_numbers(frames) == [min(19, number) for number in expected]
    assert frame_numbers(read_frames(path, fps=50)[0])[::2] == list(range(20))
    assert frame_numbers(read_frames(path, fps=5)[0]) == [0, 5, 10, 15]


def test_start_and_max_frames_select_a_part(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4")
    assert frame_numbers(read_frames(path, start=0.4, max_frames=3)[0]) == [10, 11, 12]
    assert frame_numbers(np.stack(list(iterate_frames(path, max_frames=4)))) == [0, 1, 2, 3]
    with pytest.raises(VideoError, match=r"lasts 0\.80 s and nothing of it is left after second 5"):
        read_frames(path, start=5.0)


def test_a_late_start_seeks_to_the_same_frames(tmp_path: Path) -> None:
    frames = np.concatenate([numbered_frames(28)] * 8)
    path = write_video(tmp_path / "a.mp4", frames, 25, crf=1)
    for start in (2.2, 5.0, 8.84):
        first = round(start * 25)
        assert frame_numbers(read_frames(path, start=start, max_frames=3)[0]) == [(first + k) % 28 for k in range(3)]


def test_a_variable_rate_is_resampled_by_time(tmp_path: Path) -> None:
    # Nine frames 40 ms apart, then a pause of 400 ms, then ten more.
    times = [40 * k for k in range(10)] + [800 + 40 * k for k in range(10)]
    for name in ("a.mp4", "a.mkv"):
        path = write_at_times(tmp_path / name, numbered_frames(20), times)
        frames, fps = read_frames(path, fps=25)
        assert fps == 25
        numbers = frame_numbers(frames)
        assert numbers[:10] == list(range(10)) and numbers[20:] == list(range(10, 20))
        assert numbers[10:15] == [9] * 5 and numbers[16:20] == [10] * 4


def test_the_rate_of_irregular_times_is_their_mean(tmp_path: Path) -> None:
    times = [0, 10, 100, 110, 250, 300, 500, 510, 700, 1000]
    info = probe_video(write_at_times(tmp_path / "a.mkv", numbered_frames(10), times))
    assert float(info.fps) == pytest.approx(9.0, abs=0.1) and info.frames == 10


def test_times_rounded_to_milliseconds_are_a_constant_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", numbered_frames(25), 29.97, crf=1)
    frames, fps = read_frames(path)
    assert fps == Fraction(30000, 1001) and frame_numbers(frames) == list(range(25))


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.h264", "libx264"), ("a.webm", "libvpx-vp9")])
def test_other_containers_and_raw_streams_are_read(tmp_path: Path, name: str, codec: str) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for array in numbered_frames(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))
    frames, fps = read_frames(tmp_path / name)
    assert fps == 25 and frame_numbers(frames) == list(range(20))


def corner_colours(frame: np.ndarray) -> list[str]:
    corners = frame[[4, 4, -5, -5], [4, -5, 4, -5]].astype(int)
    return ["rgb"[int(c.argmax())] if c.max() - c.min() > 60 else "grey" for c in corners]


def four_corners() -> np.ndarray:
    frame = np.full((48, 64, 3), 128, np.uint8)
    frame[:24, :32], frame[:24, 32:], frame[24:, :32] = (220, 30, 30), (30, 200, 30), (30, 30, 220)
    return frame


@pytest.mark.parametrize(
    ("matrix", "corners"),
    [
        ((1, 0, 0, 1), ["r", "g", "b", "grey"]),
        ((0, 1, -1, 0), ["b", "r", "grey", "g"]),  # a phone held upright: a quarter clockwise
        ((0, -1, 1, 0), ["g", "grey", "r", "b"]),
        ((-1, 0, 0, -1), ["grey", "b", "g", "r"]),
        ((-1, 0, 0, 1), ["g", "r", "grey", "b"]),  # mirrored, as front cameras store
    ],
)
def test_rotation_and_mirroring_of_phones_are_applied(
    tmp_path: Path, matrix: tuple[int, int, int, int], corners: list[str]
) -> None:
    path = write_video(tmp_path / "a.mp4", [four_corners()] * 3, 25)
    data = bytearray(path.read_bytes())
    # The matrix a b u c d v x y w of the track header, fixed point 16.16 (ISO 14496-12, 8.3.2).
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 65536 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    frames, _ = read_frames(path)
    info = probe_video(path)
    assert frames.shape[1:3] == (info.height, info.width) == ((64, 48) if matrix[0] == 0 else (48, 64))
    assert corner_colours(frames[0]) == corners


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        for array in numbered_frames(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))
    assert read_frames(tmp_path / "a.mp4")[0].shape == (3, 48, 96, 3)


def test_colours_survive_writing_and_reading(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [four_corners()] * 3, 25, crf=1)
    frame = read_frames(path)[0][0].astype(int)
    for y, x in [(8, 8), (8, 50), (40, 8), (40, 50)]:
        assert np.abs(frame[y, x] - four_corners()[y, x]).max() <= 2
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.pix_fmt) == (1, 1, "yuv420p")


@pytest.mark.parametrize(("height", "width"), [(48, 63), (47, 64), (33, 35), (2, 2), (1, 1)])
def test_odd_sizes_grow_by_a_repeated_row_or_column(tmp_path: Path, height: int, width: int) -> None:
    random = np.random.default_rng(0)
    frame = np.repeat(random.integers(60, 200, (height, width, 1), np.uint8), 3, axis=2)
    path = write_video(tmp_path / "a.mp4", [frame] * 2, 25, crf=1)
    back = read_frames(path)[0][0]
    assert back.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(back[:height, :width].astype(int) - frame).mean() < 3.0
    if width % 2:
        assert np.abs(back[:height, -1].astype(int) - frame[:, -1]).mean() < 4.0


@pytest.mark.parametrize("fps", [12.5, 23, 25, 29.97, 60])
@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0])
def test_the_sound_is_as_long_as_the_picture_and_in_step(tmp_path: Path, fps: float, seconds: float) -> None:
    count = round(1.0 * fps)
    path = write_video(tmp_path / "a.mp4", numbered_frames(count), fps, Audio(tone(seconds), 16000))
    with av.open(str(path)) as container:
        sound, picture = container.streams.audio[0], container.streams.video[0]
        assert sound.duration is not None and picture.duration is not None
        assert sound.time_base is not None and picture.time_base is not None
        assert abs(float(sound.duration * sound.time_base - picture.duration * picture.time_base)) < 0.5 / fps
        assert sound.codec_context.name == "aac" and picture.codec_context.name == "h264"
    samples = load_audio(path).samples
    assert abs(len(samples) / 16000 - count / float(exact_rate(fps))) < 0.001
    kept = min(len(samples), round(seconds * 16000))
    assert np.corrcoef(samples[:kept], tone(seconds)[:kept])[0, 1] > 0.99
    assert np.abs(samples[kept + 1000 :]).max(initial=0.0) < 0.01


def test_the_index_stands_in_front_for_the_web(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(25), 25, Audio(tone(1.0), 16000))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.profile == "High"
        assert 90_000 < (container.streams.audio[0].codec_context.bit_rate or 0) < 160_000


def test_frames_may_come_from_a_generator_one_at_a_time(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mov", 25) as writer:
        for frame in numbered_frames(5):
            writer.write(frame)
        assert writer.frames == 5 and not (tmp_path / "a.mov").exists()
    assert probe_video(tmp_path / "a.mov").frames == 5 and left_over(tmp_path) == ["a.mov"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError, MemoryError])
@pytest.mark.parametrize("after", [0, 3, 60])
def test_an_interrupted_video_leaves_no_file(tmp_path: Path, kind: type[BaseException], after: int) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from (numbered_frames(1)[0] for _ in range(after))
        raise kind("stop")

    with pytest.raises(kind, match="stop"):
        write_video(tmp_path / "a.mp4", frames(), 25, Audio(tone(1.0), 16000))
    assert left_over(tmp_path) == []


def test_an_interrupted_video_keeps_the_old_file(tmp_path: Path) -> None:
    def write_one_frame() -> None:
        with VideoWriter(tmp_path / "a.mp4", 25, overwrite=True) as writer:
            writer.write(numbered_frames(1)[0])
            raise KeyboardInterrupt

    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_one_frame()
    assert (tmp_path / "a.mp4").read_text() == "old" and left_over(tmp_path) == ["a.mp4"]


def test_an_existing_output_needs_overwrite_and_is_told_before_any_frame_is_made(tmp_path: Path) -> None:
    def frames() -> Iterator[np.ndarray]:
        raise AssertionError("no frame may be asked for")
        yield

    write_numbered(tmp_path / "a.mp4", 3)
    with pytest.raises(OutputError, match="--overwrite"):
        write_video(tmp_path / "a.mp4", frames(), 25)
    write_video(tmp_path / "a.mp4", numbered_frames(7), 25, overwrite=True)
    assert probe_video(tmp_path / "a.mp4").frames == 7


def test_a_missing_folder_and_another_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist; create it"):
        write_video(tmp_path / "none" / "a.mp4", numbered_frames(1), 25)
    with pytest.raises(OutputError, match=r"accepted are \.mp4, .*name it 'a\.mp4'"):
        write_video(tmp_path / "a.gif", numbered_frames(1), 25)


def test_no_frame_or_a_wrong_one_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    good = numbered_frames(1)[0]
    for frames, reason in [
        ([], "no frame to write"),
        ([good, good[:-2]], "Frame 1 is 64 x 46 px"),
        ([good / 255.0], r"is float64 \[48, 64, 3\]; give uint8"),
        ([good[..., 0]], r"is uint8 \[48, 64\]"),
        ([good[:0]], "empty"),
        ([None], "is NoneType"),
    ]:
        with pytest.raises(VideoError, match=reason):
            write_video(tmp_path / "a.mp4", frames, 25)  # type: ignore[arg-type]
    assert left_over(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="the size limit of a process exists on POSIX systems only")
@pytest.mark.parametrize("limit", [0, 4_000, 60_000])
def test_a_full_disk_is_an_output_error_and_leaves_no_file(tmp_path: Path, limit: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 96, 96, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OutputError, match=r"could not be written .*free some space"):
            write_video(tmp_path / "a.mp4", noise, 25, Audio(tone(0.5), 16000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left_over(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_no_space_left_is_told_by_its_name(tmp_path: Path) -> None:
    from fantasytalking.media.container import write_errors

    def write_to_the_full_device() -> None:
        with write_errors(tmp_path / "a.mp4"), av.open("file:/dev/full", "w", format="matroska") as container:
            stream: Any = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frames(1)[0], format="rgb24")))
            container.mux(stream.encode(None))

    with pytest.raises(OutputError, match="the disk is full") as caught:
        write_to_the_full_device()
    assert getattr(caught.value.__cause__, "errno", None) == errno.ENOSPC


def test_what_is_no_video_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    write_sound(tmp_path / "sound.wav", tone(1.0)[None])
    for name, reason in {
        "none.mp4": "does not exist",
        "empty.mp4": r"empty \(0 bytes\)",
        "text.mp4": "not a readable media file",
        "sound.wav": "only sound",
    }.items():
        for function in (probe_video, read_frames, lambda path: list(iterate_frames(path))):
            with pytest.raises(VideoError, match=reason):
                function(tmp_path / name)


def test_a_truncated_video_gives_the_frames_that_are_there(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
    path = write_video(tmp_path / "a.mp4", noise, 25)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 3 < len(read_frames(path)[0]) < 17
    path.write_bytes(data[: data.index(b"mdat") + 8])
    with pytest.raises(VideoError, match="corrupt"):
        read_frames(path)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_bytes_give_frames_or_a_clear_error_and_never_another_one(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    path = write_video(tmp_path / "a.mp4", random.integers(0, 256, (10, 48, 64, 3), np.uint8), 25)
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    count = len(data) // (50 if seed % 2 else 500)
    data[random.integers(0, len(data), count)] = random.integers(0, 256, count)
    path.write_bytes(data.tobytes())
    try:
        frames = read_frames(path)[0]
    except VideoError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert len(frames) > 0
    assert not refusal or str(path) in refusal


def test_the_clips_of_the_data_set_read_as_their_containers_claim() -> None:
    folder = Path(__file__).parents[2].parent / "shared" / "data" / "clips"
    clips = sorted(folder.glob("*.mp4"))[:3]
    if not clips:
        pytest.skip("the shared clips are not on this machine")
    for clip in clips:
        info = probe_video(clip)
        frames, fps = read_frames(clip, max_frames=5)
        assert frames.shape == (5, info.height, info.width, 3) and fps == info.fps
        assert info.has_audio and abs(load_audio(clip).seconds - info.seconds) < 0.2
