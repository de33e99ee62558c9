"""`fantasytalking verify`: whether a video is marked as made by a model, and whether its marks hold."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.errors import VideoError
from fantasytalking.system.files import existing_file

if TYPE_CHECKING:
    from fantasytalking.verification import ManifestReport, Verification

__all__ = ["main"]

_UNMARKED = 1
_TRUST = {
    "own": "with this computer's own key",
    "self-made": "with a key that vouches for nobody: a copy of FantasyTalking made it itself",
    "listed": "by a signer of the list that was given",
    "unlisted": "by a signer on no list that was given",
}


@dataclass(frozen=True)
class Verify:
    """Look for the signed manifest and the invisible watermark in any video.

    Exit status: 0 where both are there and hold, 1 where one is missing or does not hold, 2 where the file is no video. A video without
    marks may still be made by a model, of another program or with its marks removed.
    """

    video: Annotated[Path, tyro.conf.Positional]
    """The video."""
    trust: Path | None = None
    """PEM file of certificates whose signers are trusted, such as C2PA's trust list."""
    json: bool = False
    """Print one JSON object, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking verify --help`."""
    options = parse(Verify, "verify", arguments)
    existing_file(options.video, "video", VideoError)
    # Imported here: --help must not wait for the readers.
    from fantasytalking.verification import verify

    found = verify(options.video, options.trust)
    print(json_module.dumps(found.summary(), ensure_ascii=False) if options.json else _text(found))
    return 0 if found.is_marked else _UNMARKED


def _text(found: Verification) -> str:
    mark = found.watermark
    if not mark.found:
        watermark = f"not found (in {mark.frames} frames of the first minute)"
    else:
        number = f", generation {' and '.join(mark.identifiers)}" if mark.identifiers else ", too damaged to be read"
        watermark = f"found{number}; chance of a false alarm {max(mark.chance, 1e-99):.0e}"
    lines = [f"manifest:   {_manifest_text(found.manifest)}", f"watermark:  {watermark}"]
    lines.append(f"metadata:   {found.metadata.rpartition('/')[2] or 'no digital source type'}")
    if found.agree is False:
        lines.append("Manifest and watermark name different generations: one of them was put there from another video.")
    return "\n".join(lines)


def _manifest_text(report: ManifestReport) -> str:
    if report.state == "none":
        return " ".join(["none;", *report.why]).rstrip("; ")
    if report.state == "invalid":
        return " ".join(["not valid:", *report.why])
    about = {
        "made by": report.generator,
        "source type": report.source_type.rpartition("/")[2],
        "model": report.model,
        "generation": report.identifier,
        "from": ", ".join(report.sources),
    }
    parts = [f"{name} {value}" for name, value in about.items() if value]
    header = " It covers the header of a stream, not its pictures." if report.covers == "header" else ""
    return f"valid, signed {_TRUST[report.trust]} ({report.signer}); {'; '.join(parts)}.{header}"
