"""Reading of a video's signed manifest with c2pa's own reader."""

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from fantasytalking.errors import InputError
from fantasytalking.provenance.manifest_claims import Claims, text_of
from fantasytalking.provenance.offline_c2pa import offline_context
from fantasytalking.provenance.signed_manifest import MIME_TYPES, sidecar_of
from fantasytalking.provenance.signing_identity import SELF_MADE
from fantasytalking.system.held_interrupt import interrupt_held

__all__ = ["ManifestReport", "read_manifest"]

_UNTRUSTED = "signingCredential.untrusted"
_MOST_REASONS = 10
_SENTENCES = {
    "assertion.bmffHash.mismatch": "The file was changed after it was signed.",
    "assertion.dataHash.mismatch": "The file was changed after it was signed.",
    "assertion.hashedURI.mismatch": "A statement of the manifest was changed after it was signed.",
    "claimSignature.mismatch": "The signature is not that of the manifest.",
    "signingCredential.expired": "The certificate had expired when the manifest was signed.",
}
_ELSEWHERE = "The file names an address of its manifest, and nothing is fetched from the network."
# A file that was written to so lately may still grow. Its manifest is renewed within milliseconds of each fragment.
_GROWING_SECONDS, _TRIES, _LARGEST_COPY = 3.0, 5, 1 << 30

_Known = tuple[str | None, str | None]
"""Certificates, PEM: this user's own, and the trusted ones."""
Trust = Literal["own", "self-made", "listed", "unlisted", "none"]


@dataclass(frozen=True)
class ManifestReport:
    """What c2pa's reader says of the manifest.

    Attributes:
        state: `valid`, `invalid`, or `none` where the file has no manifest.
        why: Reasons why it is invalid, one sentence each; or a remark.
        signer: Name in the certificate.
        trust: `own` (this user's own key), `self-made` (says that some copy of this package made it), `listed` (on the list that was
            given), `unlisted` (any other certificate), or `none`.
        generator: Name and version of the program.
        source_type: IPTC's digital source type, an address, or nothing.
        identifier: Of the generation, eight hexadecimal digits, or None.
        model: Name of the model.
        settings_sha256: Digest of the settings.
        sources: Names of the footage that was changed.
        covers: `all`, or `header`: of a stream through a pipe, or of another program, whose pictures are not signed; `nothing`.
        is_beside: Whether it lies in a file beside the video.
    """

    state: Literal["valid", "invalid", "none"]
    why: tuple[str, ...] = ()
    signer: str = ""
    trust: Literal["own", "self-made", "listed", "unlisted", "none"] = "none"
    generator: str = ""
    source_type: str = ""
    identifier: str | None = None
    model: str = ""
    settings_sha256: str = ""
    sources: tuple[str, ...] = ()
    covers: Literal["all", "header", "nothing"] = "nothing"
    is_beside: bool = False


def read_manifest(file: Path, trusted: str | None = None, own: str | None = None) -> ManifestReport:
    """Read and check the manifest in a video, or in the file beside it.

    Args:
        file: The video.
        trusted: Certificates whose signers are trusted, PEM.
        own: This user's own certificates, PEM.

    Raises:
        InputError: These certificates cannot be read.
    """
    kind, beside = MIME_TYPES.get(file.suffix.lower()) or _kind_of(file), sidecar_of(file)
    for tried in range(_TRIES):
        report = _read(file, kind, None, (own, trusted))
        if report.state != "invalid" or not _may_grow(file):
            break
        time.sleep(0.02 * tried)
    if report.state == "none" and beside != file and beside.is_file():
        return _read(file, kind, beside.read_bytes(), (own, trusted))
    return report


def _read(file: Path, kind: str, manifest: bytes | None, known: _Known) -> ManifestReport:
    import c2pa

    try:
        with file.open("rb") as stream:
            content: BinaryIO = io.BytesIO(stream.read()) if _may_grow(file) else stream
            return _report(content, kind, manifest, known)
    except c2pa.C2paError.ManifestNotFound:
        return ManifestReport("none")
    except c2pa.C2paError.NotSupported:
        return ManifestReport(
            "none", ("Files of this format have no place for a manifest, and there is none beside it.",)
        )
    except c2pa.C2paError as error:
        if "fetch remote manifests" in str(error):  # c2pa has no class of its own for it
            return ManifestReport("none", (_ELSEWHERE,))
        return ManifestReport("invalid", (f"The manifest cannot be read: {text_of(str(error))}.",))
    except InputError:  # the certificates' fault, not the manifest's; a ValueError, too
        raise
    except (KeyError, ValueError, RecursionError):  # c2pa's reader gave what is no JSON of a manifest
        return ManifestReport("invalid", ("The manifest cannot be read: it is not built as C2PA's rules say.",))


def _may_grow(file: Path) -> bool:
    found = file.stat()
    return time.time() - found.st_mtime < _GROWING_SECONDS and found.st_size < _LARGEST_COPY


def _kind_of(file: Path) -> str:
    """Type of a file whose name does not tell it, such as an upload."""
    with file.open("rb") as stream:
        head = stream.read(12)
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return "video/avi" if (head[:4], head[8:]) == (b"RIFF", b"AVI ") else "application/octet-stream"


def _report(content: BinaryIO, kind: str, manifest: bytes | None, known: _Known) -> ManifestReport:
    found = _found(content, kind, manifest, None)
    claims = Claims(found["manifests"][found["active_manifest"]])
    valid = found["validation_state"] in ("Valid", "Trusted")
    trust: Trust = "none"
    if valid:
        trust = "self-made" if claims.organisation == SELF_MADE else "unlisted"
        for name, anchors in zip(("own", "listed"), known, strict=True):
            if anchors is not None and _found(content, kind, manifest, anchors)["validation_state"] == "Trusted":
                trust = name  # type: ignore[assignment]  # a literal of the loop
    return ManifestReport(
        "valid" if valid else "invalid",
        () if valid else tuple(dict.fromkeys(_reasons(found))),
        claims.signer,
        trust,
        claims.generator,
        claims.source_type,
        claims.identifier,
        claims.model,
        claims.settings_sha256,
        claims.sources,
        claims.covers if valid else "nothing",
        manifest is not None,
    )


def _found(content: BinaryIO, kind: str, manifest: bytes | None, anchors: str | None) -> dict[str, Any]:
    """All that c2pa's reader says, if the certificates given are trusted."""
    import c2pa

    content.seek(0, os.SEEK_SET)
    try:
        context = offline_context(anchors)
    except c2pa.C2paError as error:
        raise InputError(f"The trusted certificates cannot be read ({error}); give a PEM file.") from error
    # c2pa reads through functions of Python
    with interrupt_held(), c2pa.Reader(kind, content, manifest, context=context) as reader:
        found: dict[str, Any] = json.loads(reader.json())
        return found | {"validation_state": reader.get_validation_state()}


def _reasons(found: dict[str, Any]) -> list[str]:
    """Why a manifest is invalid, one sentence each; the first ones, as a manifest may have any number of faults."""
    failures = [one for one in found.get("validation_status", []) if one["code"] != _UNTRUSTED][:_MOST_REASONS]
    return [
        _SENTENCES.get(
            one["code"], f"{text_of(one.get('explanation')) or text_of(one['code'])} ({text_of(one['code'])})."
        )
        for one in failures
    ]
