"""A fragmented MP4 is signed as far as it goes, at every moment; through a pipe the header is."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from fantasytalking import verify
from fantasytalking.media.stream_writer import StreamWriter
from fantasytalking.provenance.bmff import iterate_boxes, moved_fragment_index
from fantasytalking.provenance.manifest_reader import read_manifest
from fantasytalking.provenance.marks import Marks
from tests.pipeline.tiny_pipeline import portrait

MARKS = Marks(identifier=0x1234ABCD, model="tiny", settings_digest="0" * 64)
SILENCE = np.zeros(3200, np.float32)


def write(target: object, frames: int, side: int = 64, seen: object = None) -> None:
    picture = portrait(side)
    with StreamWriter(target, 5, 16000, marks=MARKS) as writer:  # type: ignore[arg-type]
        for number in range(frames):
            writer.write(np.roll(picture, number % 7, axis=1), SILENCE)
            if callable(seen):
                seen(number)


def test_the_first_minute_of_a_stream_verifies_while_it_grows(tmp_path: Path) -> None:
    path, copies = tmp_path / "growing.mp4", []

    def look(number: int) -> None:
        if number % 50 == 49:
            copy = tmp_path / f"{number + 1}.mp4"
            copy.write_bytes(path.read_bytes())
            copies.append(copy)

    write(path, 320, seen=look)
    assert len(copies) == 6
    for copy in copies:
        report = read_manifest(copy)
        assert (report.state, report.covers, report.why, report.identifier) == ("valid", "all", (), "1234abcd")
        with av.open(str(copy)) as container:
            shown = sum(1 for _ in container.decode(video=0))
        # A fragment is a quarter of a second, and the encoder's tail may lie in the next one.
        assert int(copy.stem) - 5 <= shown <= int(copy.stem)
    assert read_manifest(path).state == "valid"
    # The sixth copy is a minute: what is signed there is not the whole, but all that was there.
    assert copies[-1].stat().st_size < path.stat().st_size


def test_a_growing_file_verifies_with_both_marks(tmp_path: Path) -> None:
    path, found = tmp_path / "growing.mp4", []
    write(path, 20, 320, lambda number: found.append(verify(path)) if number == 14 else None)
    assert found[0].is_marked and found[0].agree and found[0].manifest.covers == "all"


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_changed_byte_is_found(place: float, tmp_path: Path) -> None:
    path = tmp_path / "stream.mp4"
    write(path, 20)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    assert read_manifest(path).state == "invalid"


def test_what_went_through_a_pipe_has_a_signed_header_at_any_length(tmp_path: Path) -> None:
    pieces: list[bytes] = []
    write(pieces.append, 20)
    whole = b"".join(pieces)
    for share in (0.5, 1.0):
        path = tmp_path / "piped.mp4"
        path.write_bytes(whole[: int(share * len(whole))])
        report = read_manifest(path)
        assert (report.state, report.covers, report.identifier) == ("valid", "header", "1234abcd")
    path.write_bytes(whole.replace(b"FantasyTalking", b"FantasyWalking"))
    assert read_manifest(path).state == "invalid"


def test_the_index_of_fragments_points_to_the_fragments(tmp_path: Path) -> None:
    path = tmp_path / "stream.mp4"
    write(path, 20)
    content = path.read_bytes()
    with path.open("rb") as file:
        boxes = list(iterate_boxes(file))
    fragments = {at for kind, at, _ in boxes if kind == b"moof"}
    (place, size) = next((at, size) for kind, at, size in boxes if kind == b"mfra")
    index = content[place : place + size]
    assert moved_fragment_index(index, 0) == index
    named = {at for at in fragments if at.to_bytes(8, "big") in index or at.to_bytes(4, "big") in index}
    assert min(fragments) in named and len(named) > 1


def test_a_stream_that_breaks_off_verifies_as_far_as_it_came(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"

    def break_off(number: int) -> None:
        if number == 12:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError):
        write(path, 20, seen=break_off)
    assert read_manifest(path).state == "valid"
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 13
