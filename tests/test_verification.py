"""`verify` says of any video what marks it has and whether they hold."""

from __future__ import annotations

import struct
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from fantasytalking import verify
from fantasytalking.errors import InputError, VideoError
from fantasytalking.media.video import write_video
from fantasytalking.provenance.bmff import XMP_UUID
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


def test_a_name_without_an_ending_says_the_same(marked: Path, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "video.avi"), "w") as film:
        stream = film.add_stream("mpeg4", rate=25, width=320, height=320)
        film.mux([*stream.encode(av.VideoFrame.from_ndarray(FRAMES[0])), *stream.encode()])
    for path in (marked, tmp_path / "video.avi"):
        bare = tmp_path / path.suffix[1:]
        bare.write_bytes(path.read_bytes())
        assert replace(verify(bare), path=path) == verify(path)


def test_the_network_is_not_asked_for_a_manifest(marked: Path, tmp_path: Path) -> None:
    """A file can name the address of its manifest, and whoever reads it would ask any server that its maker chose."""
    asked: list[str] = []

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    xmp = f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/"
        dcterms:provenance="http://127.0.0.1:{server.server_port}/manifest.c2pa"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()
    body = XMP_UUID + xmp
    path = write_video(tmp_path / "plain.mp4", FRAMES, 25)
    with path.open("ab") as file:
        file.write(struct.pack(">I", len(body) + 8) + b"uuid" + body)
    found = verify(path)
    # footage that is dubbed is read likewise
    dubbed = verify(write_video(tmp_path / "dubbed.mp4", FRAMES, 25, marks=Marks(sources=(path,))))
    server.shutdown()
    server.server_close()
    assert asked == []
    assert (found.manifest.state, dubbed.manifest.state, dubbed.manifest.sources) == ("none", "valid", ("plain.mp4",))
    assert found.manifest.why == (
        "The file names an address of its manifest, and nothing is fetched from the network.",
    )


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
