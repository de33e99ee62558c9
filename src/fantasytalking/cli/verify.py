"""`fantasytalking verify`: whether a video is marked as made by a model, and whether its marks hold."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.cli.server_run import check_server_options
from fantasytalking.errors import VideoError
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions
from fantasytalking.provenance.marks import MADE_BY_MODELS
from fantasytalking.system.files import existing_file

if TYPE_CHECKING:
    from fantasytalking.verification import ManifestReport, Verification

__all__ = ["main"]

_UNMARKED = 1
_TRUST = {
    "own": "with {owner} own key",
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
    server: str | None = None
    """Address of a service ('fantasytalking serve') that looks into the video, such as http://127.0.0.1:8000; it keeps nothing of it."""
    token_file: Path | None = None
    """With --server: file with the access token."""
    json: bool = False
    """Print one JSON object, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking verify --help`."""
    options = parse(Verify, "verify", arguments)
    existing_file(options.video, "video", VideoError)
    plan = MemoryOptions(), ProfileOptions()
    check_server_options(options.server, options.token_file, RunOptions(), plan, {"trust": options.trust is not None})
    found = _found(options)
    owner = "this computer's" if options.server is None else "the server's"
    print(json_module.dumps(found.summary(), ensure_ascii=False) if options.json else _text(found, owner))
    return 0 if found.is_marked else _UNMARKED


def _found(options: Verify) -> Verification:
    # Imported here: --help must not wait for the readers.
    if options.server is not None:
        from fantasytalking.serving.client import Client

        with Client(options.server, token_file=options.token_file) as client:
            return client.verify(options.video)
    from fantasytalking.verification import verify

    return verify(options.video, options.trust)


def _text(found: Verification, owner: str) -> str:
    mark = found.watermark
    if not mark.found:
        watermark = f"not found (in {mark.frames} frames of the first minute)"
    else:
        number = f", generation {' and '.join(mark.identifiers)}" if mark.identifiers else ", too damaged to be read"
        watermark = f"found{number}; chance of a false alarm {max(mark.chance, 1e-99):.0e}"
    lines = [f"manifest:   {_manifest_text(found.manifest, owner)}", f"watermark:  {watermark}"]
    lines.append(f"metadata:   {found.metadata.rpartition('/')[2] or 'no digital source type'}")
    if found.agree is False:
        lines.append("Manifest and watermark name different generations: one of them was put there from another video.")
    if found.manifest.state == "valid" and found.manifest.source_type not in MADE_BY_MODELS:
        lines.append("The manifest does not say that a model had a part in the video.")
    return "\n".join(lines)


def _manifest_text(report: ManifestReport, owner: str) -> str:
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
    return f"valid, signed {_TRUST[report.trust].format(owner=owner)} ({report.signer}); {'; '.join(parts)}.{header}"
