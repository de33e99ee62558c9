"""The signed manifest of a fragmented MP4 while it grows.

Its place is in front of the header, where a player skips it. In a file it is renewed with each fragment, so that at every moment all
that is there is signed: the hash goes on from fragment to fragment (C2PA 2.4, 18.6: place and bytes of each box), and the new signature
takes the old one's place. What goes through a pipe cannot be changed any more, so there the manifest covers the header, and says so by
excluding the fragments.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any

from fantasytalking.errors import OutputError
from fantasytalking.provenance.bmff import box_header, iterate_boxes, moved_fragment_index, xmp_box
from fantasytalking.provenance.marks import Marks
from fantasytalking.provenance.signed_manifest import builder_of, tool_name
from fantasytalking.provenance.signing_identity import signing_identity

__all__ = ["GrowingManifest"]

_KIND = "video/mp4"
# Extended type of the box with the manifest (C2PA 2.4, A.5), which cannot be part of its own hash.
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_FRAGMENTS = (b"moof", b"mdat")


class GrowingManifest:
    """Takes the bytes of a fragmented MP4 in order and hands them on with a manifest.

    Args:
        write: Appends bytes to the file or pipe.
        rewrite: Replaces the bytes at a place of the file; None: it is a pipe.
        marks: What the manifest says.
        title: Name of the video.

    Raises:
        SettingsError: The signing certificate cannot be used.
        OutputError: The own key cannot be stored.
    """

    def __init__(
        self, write: Callable[[bytes], object], rewrite: Callable[[int, bytes], object] | None, marks: Marks, title: str
    ) -> None:
        self._write, self._rewrite = write, rewrite
        self._marks, self._title = marks, title
        self._signer = signing_identity().signer()
        self._pending = bytearray()
        self._header = bytearray()
        self._begun = False
        self._hash = hashlib.sha256()
        # Place and size of the manifest, bytes that it and the XMP add before the fragments, bytes written so far.
        self._place = self._size = self._added = self._written = 0

    def write(self, data: bytes) -> int:
        """Take the next bytes; whole boxes are handed on.

        Raises:
            OSError: They cannot be written.
        """
        self._pending += data
        while (header := box_header(self._pending)) is not None and 0 < header[1] <= len(self._pending):
            box = bytes(self._pending[: header[1]])
            del self._pending[: header[1]]
            self._take(header[0], box)
        return len(data)

    def close(self) -> None:
        """Let go of the key; what is no whole box would neither play nor be signed."""
        self._signer.close()

    def _take(self, kind: bytes, box: bytes) -> None:
        if not self._begun and kind not in _FRAGMENTS:
            self._header += box
            return
        if not self._begun:
            self._begin()
        if kind == b"mfra":
            self._append(moved_fragment_index(box, self._added))
            return
        self._update(self._written, box)
        self._append(box)
        if kind == b"mdat" and self._rewrite is not None:
            self._rewrite(self._place, self._manifest(self._hash.digest()))

    def _begin(self) -> None:
        """Write the header with its first manifest."""
        self._begun = True
        header, self._added = bytes(self._header), -len(self._header)
        self._header.clear()
        boxes = list(iterate_boxes(io.BytesIO(header)))
        xmp = xmp_box(self._marks.source_type, tool_name())
        first = boxes[0][2]
        # ftyp, manifest, XMP, the rest
        self._place, self._rest = first, xmp + header[first:]
        self._front = header[:first]
        self._size = len(self._signed(bytes(32))) - len(self._front) - len(self._rest)
        place = first + self._size
        for _, at, size in iterate_boxes(io.BytesIO(self._rest)):
            self._update(place + at, self._rest[at : at + size])
        whole = self._front + self._manifest(self._hash.digest()) + self._rest
        self._added += len(whole)
        self._append(whole)

    def _update(self, place: int, box: bytes) -> None:
        if self._rewrite is not None or not self._begun or box[4:8] not in _FRAGMENTS:
            self._hash.update(place.to_bytes(8, "big"))
            self._hash.update(box)

    def _append(self, data: bytes) -> None:
        if data:
            self._write(data)
            self._written += len(data)

    def _manifest(self, digest: bytes) -> bytes:
        """The box of the manifest."""
        box = self._signed(digest)[self._place : -len(self._rest)]
        if len(box) != self._size:
            raise OutputError(
                f"The manifest of '{self._title}' changed its size while the video grew; set manifest to off."
            )
        return box

    def _signed(self, digest: bytes) -> bytes:
        """The header with the manifest of a hash."""
        excluded: list[dict[str, Any]] = [{"xpath": "/uuid", "data": [{"offset": 8, "value": list(_C2PA_UUID)}]}]
        excluded += [{"xpath": "/ftyp"}, {"xpath": "/mfra"}]
        if self._rewrite is None:
            excluded += [{"xpath": f"/{kind.decode()}"} for kind in _FRAGMENTS]
        # c2pa reads this into a struct whose fields it wants to see, all of them.
        empty = dict.fromkeys(("length", "data", "subset", "version", "flags", "exact"))
        data = {
            "exclusions": [empty | one for one in excluded],
            "alg": "sha256",
            "hash": list(digest),
            "name": "jumbf manifest",
        }
        builder = builder_of(self._marks, self._title, _KIND, ({"label": "c2pa.hash.bmff.v3", "data": data},))
        signed = io.BytesIO()
        builder.sign(self._signer, _KIND, io.BytesIO(self._front + self._rest), signed)
        return signed.getvalue()
