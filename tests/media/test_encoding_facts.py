"""How a picture is encoded, read from files whose encoding is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from fantasytalking.errors import VideoError
from fantasytalking.media.encoding_facts import read_encoding
from fantasytalking.media.video import write_video
from tests.media.files import numbered_frames, tone, write_at_times, write_sound


@pytest.mark.parametrize("crf", [4, 18, 31])
def test_the_quality_that_the_encoder_was_asked_for_is_read_back(tmp_path: Path, crf: int) -> None:
    found = read_encoding(write_video(tmp_path / "clip.mp4", numbered_frames(8), 25, crf=crf, preset="ultrafast"))
    assert (found.container, found.codec, found.quality) == ("mp4", "h264", f"CRF {crf}")
    assert str(found) == f"h264 in mp4, CRF {crf}" and found.kbps > 0


def test_what_a_file_does_not_tell_is_unknown(tmp_path: Path) -> None:
    times = [40 * k for k in range(8)]
    found = read_encoding(write_at_times(tmp_path / "clip.mkv", numbered_frames(8), times, codec="mpeg4"))
    assert (found.container, found.codec, found.quality) == ("matroska", "mpeg4", "")
    assert str(found) == "mpeg4 in matroska, quality unknown"


def test_hevc_tells_it_too(tmp_path: Path) -> None:
    found = read_encoding(
        write_at_times(tmp_path / "clip.mp4", numbered_frames(8), list(range(0, 320, 40)), codec="libx265")
    )
    assert found.codec == "hevc" and found.quality == "CRF 28"


def test_a_file_without_a_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has no picture"):
        read_encoding(write_sound(tmp_path / "sound.wav", tone(0.2)[None]))
    with pytest.raises(VideoError):
        read_encoding(tmp_path / "none.mp4")
