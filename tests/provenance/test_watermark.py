"""The watermark is read back after what happens to videos, is faint, and is not found where it is not."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.media.encoder_input import encodable
from fantasytalking.media.video_writer import add_picture, even_frame
from fantasytalking.provenance.watermark import Watermark
from fantasytalking.provenance.watermark_code import decode, encode
from tests.pipeline.tiny_pipeline import portrait

IDENTIFIER = 0xC0FFEE42
Frames = list[NDArray[np.uint8]]


def after_h264(frames: Frames, crf: int) -> Frames:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        height, width = even_frame(frames[0]).shape[:2]
        stream = add_picture(container, Fraction(25), (width, height), {"crf": str(crf), "preset": "veryfast"}, 1)
        for number, frame in enumerate(frames):
            container.mux(stream.encode(encodable(even_frame(frame), number, Fraction(25))))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def frames() -> Frames:
    """A portrait that sways, 12 frames of 448 pixels."""
    big = portrait(480)
    return [np.ascontiguousarray(big[8:456, 8 + step : 456 + step]) for step in (0, 1, 2, 3, 2, 1) * 2]


@pytest.fixture(scope="module")
def marked(frames: Frames) -> Frames:
    return list(Watermark(IDENTIFIER).embed(frames))


def test_the_mark_is_faint_and_leaves_the_frames_that_it_is_given(frames: Frames, marked: Frames) -> None:
    before = [frame.copy() for frame in frames]
    again = list(Watermark(IDENTIFIER).embed(frames))
    np.testing.assert_array_equal(again, marked)
    np.testing.assert_array_equal(before, frames)
    difference = np.array(marked).astype(int) - np.array(frames)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 43
    assert np.abs(difference).max() <= 6
    assert abs(difference.mean()) < 0.1


@pytest.mark.parametrize("crf", [18, 23, 28])
def test_it_is_read_after_encoding(crf: int, marked: Frames) -> None:
    reading = Watermark.read(after_h264(marked, crf))
    assert reading.found and reading.chance < 1e-6
    assert reading.identifiers == (IDENTIFIER,) or crf == 28


def test_it_is_read_after_cropping_and_tells_by_how_much(marked: Frames) -> None:
    reading = Watermark.read([frame[22:426, 22:426] for frame in after_h264(marked, 18)])
    assert reading.found and reading.identifiers == (IDENTIFIER,)
    assert reading.scale == pytest.approx(448 / 404, rel=0.01)


def test_it_is_found_in_a_smaller_copy(marked: Frames) -> None:
    small = [cv2.resize(frame, (336, 336), interpolation=cv2.INTER_AREA) for frame in marked]
    assert Watermark.read(after_h264(small, 20)).found


def test_it_is_not_found_where_it_is_not(frames: Frames) -> None:
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (200, 240, 3)).astype(np.uint8) for _ in range(3)]
    flat = [np.full((120, 160, 3), level, np.uint8) for level in (0, 128, 255)]
    for unmarked in (frames, after_h264(frames, 23), noise, flat, []):
        reading = Watermark.read(unmarked)
        assert not reading.found and reading.identifiers == () and reading.chance > 1e-3


def test_two_marks_over_each_other_are_both_read(marked: Frames) -> None:
    twice = list(Watermark(0x0BADCAFE).embed(marked))
    assert set(Watermark.read(after_h264(twice, 18)).identifiers) == {IDENTIFIER, 0x0BADCAFE}


def test_frames_of_any_size_are_marked() -> None:
    for shape in ((1, 1, 3), (2, 3, 3), (64, 64, 3), (90, 320, 3)):
        frame = np.full(shape, 255, np.uint8)
        assert Watermark(1).mark(frame).shape == shape


def test_the_pattern_is_not_made_anew_for_each_frame(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    renew = Watermark._renew
    monkeypatch.setattr(Watermark, "_renew", lambda self, frame: [made.append(1), renew(self, frame)][1])  # type: ignore[func-returns-value]
    for _ in Watermark(1).embed(frames * 10):
        pass
    assert len(made) == 3


def test_the_code_corrects_what_noise_leaves_doubtful() -> None:
    random = np.random.default_rng(1)
    for noise, least in ((0.6, 40), (0.8, 38), (1.0, 30)):
        right = 0
        for _ in range(40):
            identifier = int(random.integers(2**32))
            read = np.where(encode(identifier), 1, -1) + noise * random.normal(size=128)
            right += decode(read)[0] == identifier
        assert right >= least


def test_noise_is_no_code_word() -> None:
    random = np.random.default_rng(2)
    assert [decode(random.normal(size=128))[0] for _ in range(200)] == [None] * 200
