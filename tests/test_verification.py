"""`verify` says of any video what marks it has and whether they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fantasytalking import verify
from fantasytalking.errors import InputError, VideoError
from fantasytalking.media.video import write_video
from fantasytalking.provenance.marks import Marks
from tests.pipeline.tiny_pipeline import portrait

FRAMES = [np.roll(portrait(320), step, axis=1) for step in (0, 1, 2, 1, 0, 1)]
MARKS = Marks(identifier=7, model="tiny")


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("marked") / "video.mp4", FRAMES, 25, marks=MARKS)


def test_what_was_just_written_holds(marked: Path) -> None:
    found = verify(marked)
    assert found.is_marked and found.agree
    assert (found.manifest.identifier, found.watermark.identifiers) == ("00000007", ("00000007",))
    summary = found.summary()
    assert summary["is_marked"] is True and summary["manifest"]["state"] == "valid"


def test_c2pas_own_reader_says_the_same(marked: Path) -> None:
    import c2pa

    with c2pa.Reader(str(marked)) as reader:
        assert reader.get_validation_state() == "Valid"
        manifest = reader.get_active_manifest()
    assert manifest is not None
    created = next(one for one in manifest["assertions"] if one["label"] == "c2pa.actions.v2")["data"]["actions"]
    assert [one["action"] for one in created] == ["c2pa.created"]
    assert created[0]["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    bound = next(one for one in manifest["assertions"] if one["label"] == "c2pa.soft-binding")["data"]
    assert (bound["alg"], bound["blocks"][0]["value"]) == ("org.fantasytalking.watermark.1", "00000007")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_a_changed_byte_is_found(place: float, marked: Path, tmp_path: Path) -> None:
    content = bytearray(marked.read_bytes())
    content[int(place * len(content))] ^= 1
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(content)
    found = verify(changed)
    assert found.manifest.state == "invalid" and found.manifest.why == ("The file was changed after it was signed.",)
    assert found.manifest.covers == "nothing" and found.watermark.found and not found.is_marked


def test_an_unmarked_video_has_neither(tmp_path: Path) -> None:
    found = verify(write_video(tmp_path / "plain.mp4", FRAMES, 25))
    assert (found.manifest.state, found.watermark.found, found.metadata, found.agree) == ("none", False, "", None)


def test_a_manifest_beside_a_matroska_file_holds_for_that_file_alone(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mkv", FRAMES, 25, marks=MARKS)
    found = verify(path)
    assert found.is_marked and found.manifest.is_beside and found.manifest.covers == "all"
    write_video(path, FRAMES[::-1], 25, overwrite=True)
    assert verify(path).manifest.state == "invalid"


def test_marks_of_two_generations_do_not_agree(marked: Path, tmp_path: Path) -> None:
    other = Marks(identifier=8, watermark=False)
    found = verify(write_video(tmp_path / "mixed.mp4", list(_frames(marked)), 25, crf=10, marks=other))
    assert found.manifest.state == "valid" and found.agree is False and not found.is_marked


def _frames(path: Path) -> np.ndarray:
    from fantasytalking.media.video import read_frames

    return read_frames(path)[0]


def test_what_is_no_video_is_told_in_one_sentence(tmp_path: Path, marked: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match="not a readable media file"):
        verify(tmp_path / "text.mp4")
    with pytest.raises(VideoError, match="does not exist"):
        verify(tmp_path / "nowhere.mp4")
    with pytest.raises(InputError, match=r"trust list file .* does not exist"):
        verify(marked, tmp_path / "nowhere.pem")
    (tmp_path / "list.pem").write_text("no list")
    with pytest.raises(InputError, match=r"trusted certificates cannot be read .*PEM file\."):
        verify(marked, tmp_path / "list.pem")
