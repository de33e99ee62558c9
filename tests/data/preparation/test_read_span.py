"""A part of a long video is sought, and is what reading it from the beginning gives."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.data.preparation.clip_records import ClipSpan, Refusal
from fantasytalking.data.preparation.read_span import _MAX_BYTES, ReplayableFrames, SpanReader
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.sound_frames import sound_frames
from fantasytalking.media.video import iterate_frames, write_video
from tests.data.preparation.footage import source
from tests.media.files import join, write_sound

SECONDS = 24


def counting_frames(count: int) -> np.ndarray:
    """Frames that hold their number in binary, in blocks of 16 pixels."""
    bits = (np.arange(count)[:, None] >> np.arange(10)) & 1
    rows = np.repeat(np.repeat(40 + 170 * bits, 16, 1)[:, None], 32, 1)
    return np.repeat(rows[..., None], 3, -1).astype(np.uint8)


def numbers(frames: Iterable[np.ndarray]) -> list[int]:
    bits = np.stack([frame[16, 8::16, 0] for frame in frames]) > 125
    return [int(row @ (1 << np.arange(10))) for row in bits]


def sweep() -> np.ndarray:
    """A sound in which every moment is another: a tone that rises."""
    time = np.arange(SECONDS * 44100) / 44100
    return (0.4 * np.sin(2 * np.pi * (150 * time + 20 * time**2))).astype(np.float32)


@pytest.fixture(scope="module", params=["mp4", "mkv"])
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / f"long.{request.param}"
    return write_video(path, counting_frames(SECONDS * 25), 25, Audio(sweep(), 44100), preset="ultrafast")


def test_frames_of_a_span_are_those_of_its_times(film: Path) -> None:
    span = ClipSpan(source(film), 0, 17.32, 19.4)
    reader = SpanReader(span, 25.0)
    assert numbers(list(reader.frames())) == list(range(433, 433 + 52))
    assert SpanReader(span, 23.0).count == 47
    expected = [round((17.32 + k / 23) * 25 - 1e-6) for k in range(47)]
    assert np.abs(np.subtract(numbers(list(SpanReader(span, 23.0).frames())), expected)).max() <= 1


@pytest.mark.parametrize("start", [2.0, 8.04, 17.32, 21.9])
def test_sound_that_is_sought_is_the_sound_at_that_time(film: Path, start: float) -> None:
    whole = load_audio(film).samples
    part = load_audio(film, start=start, seconds=2.0, min_seconds=0).samples
    first = round(start * 16000)
    assert len(part) == min(32000, len(whole) - first)
    # Matroska tells times to a millisecond: half of one is 8 samples
    reach = 8 if film.suffix == ".mkv" else 0
    middle = part[reach : len(part) - reach]
    moved = [whole[first + reach + k :][: len(middle)] for k in range(-reach, reach + 1)]
    assert min(float(np.abs(middle - other).max()) for other in moved) < (0.1 if reach else 2e-3)


def test_sound_is_not_decoded_from_the_beginning(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    frames = sound_frames

    def counting(*arguments: object) -> object:
        for frame in frames(*arguments):  # type: ignore[arg-type]
            decoded.append(frame.samples)
            yield frame

    monkeypatch.setattr("fantasytalking.media.audio.sound_frames", counting)
    load_audio(film, start=20, seconds=1)
    assert sum(decoded) < 7 * 48000


def test_sound_of_a_span_is_as_long_as_its_frames(film: Path) -> None:
    reader = SpanReader(ClipSpan(source(film), 0, 3.0, 6.03), 25.0)
    assert reader.count == 75
    assert len(reader.sound()) == 48000


def test_silence_at_the_end_of_the_sound_stays(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", counting_frames(75), 25, Audio(sweep()[:44100], 44100), preset="ultrafast")
    samples = SpanReader(ClipSpan(source(path), 0, 0.0, 3.0), 25.0).sound()
    assert len(samples) == 48000
    assert np.abs(samples[:15000]).max() > 0.3
    assert np.abs(samples[20000:]).max() < 1e-3
    with pytest.raises(Refusal) as refusal:
        SpanReader(ClipSpan(source(path), 1, 1.5, 3.0), 25.0).sound()
    assert refusal.value.reason == "silent"


def test_sound_that_ends_before_the_clip_is_not_continued_with_silence(tmp_path: Path) -> None:
    picture = write_video(tmp_path / "p.mp4", counting_frames(75), 25, preset="ultrafast")
    path = join(tmp_path / "a.mkv", picture, write_sound(tmp_path / "s.mka", sweep()[None, :44100], 44100, "aac"))
    with pytest.raises(Refusal, match=r"The sound ends (1\.9|2\.0)\d s before the picture of the clip\.") as refusal:
        SpanReader(ClipSpan(source(path), 0, 0.0, 3.0), 25.0).sound()
    assert refusal.value.reason == "no-sound"
    assert len(SpanReader(ClipSpan(source(path), 0, 0.0, 1.0), 25.0).sound()) == 16000


def test_small_frames_are_kept_and_large_ones_are_read_again() -> None:
    reads = []

    def read(size: int) -> ReplayableFrames:
        def frames() -> object:
            reads.append(size)
            frame = np.broadcast_to(np.zeros(1, np.uint8), (size,))
            return iter([frame, frame, frame])

        return ReplayableFrames(frames)  # type: ignore[arg-type]

    for size, times in ((10, 1), (_MAX_BYTES // 2, 2)):
        reads.clear()
        kept = read(size)
        assert len(list(kept)) == len(list(kept)) == 3
        assert len(reads) == times


def test_frames_can_be_shrunk_while_they_are_read(film: Path) -> None:
    (frame,) = iterate_frames(film, max_frames=1, longest_side=80)
    assert frame.shape == (16, 80, 3)
    (frame,) = iterate_frames(film, max_frames=1, longest_side=500)
    assert frame.shape == (32, 160, 3)
