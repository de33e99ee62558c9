"""Whether a video is marked as made by a model, and whether its marks hold: any video, not only those of this package."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pydantic

from fantasytalking.errors import InputError, VideoError
from fantasytalking.media.video import iterate_frames, probe_video
from fantasytalking.provenance.bmff import xmp_of
from fantasytalking.provenance.manifest_reader import ManifestReport, read_manifest
from fantasytalking.provenance.marks import MADE_BY_MODELS
from fantasytalking.provenance.signing_identity import own_certificate
from fantasytalking.provenance.watermark import Watermark
from fantasytalking.system.files import existing_file

__all__ = ["ManifestReport", "Verification", "WatermarkReport", "look_for_marks", "verify"]

_FRAMES = 48
_SECONDS = 60.0


@dataclass(frozen=True)
class WatermarkReport:
    """What was found in the frames.

    Attributes:
        found: Whether the watermark of this package is there.
        chance: Probability that an unmarked video looks like this.
        deviations: How far the pattern stands out from chance, in standard deviations.
        identifiers: Of the generation, eight hexadecimal digits each; none where the mark is too damaged to be read, several where a marked
            video was changed and marked again.
        frames: Number of frames that were looked at, all within the first minute.
    """

    found: bool
    chance: float
    deviations: float
    identifiers: tuple[str, ...]
    frames: int


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        path: The video; None where it is no file of this machine, such as one that was sent to a service.
        manifest: The signed manifest.
        watermark: The invisible watermark.
        metadata: IPTC's digital source type in the file's metadata, or nothing. Anybody can write or delete it.
        agree: Whether manifest and watermark name the same generation; None where one of them names none.
        is_marked: Whether both marks are there and hold, and the manifest says that a model had a part in the video.
    """

    path: Path | None
    manifest: ManifestReport
    watermark: WatermarkReport
    metadata: str
    agree: bool | None
    is_marked: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        says = self.manifest.state == "valid" and self.manifest.source_type in MADE_BY_MODELS
        holds = says and self.watermark.found and self.agree is not False
        object.__setattr__(self, "is_marked", holds)

    def summary(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        return {**asdict(self), "path": None if self.path is None else str(self.path)}

    @classmethod
    def from_summary(cls, values: Mapping[str, Any]) -> Verification:
        """The inverse of `summary`.

        Raises:
            ValueError: These are not the values of one.
        """
        return pydantic.TypeAdapter(cls).validate_python(values)


def verify(path: str | os.PathLike[str], trust: str | os.PathLike[str] | None = None) -> Verification:
    """Look for a signed manifest and the invisible watermark in a video.

    Args:
        path: Any video that PyAV reads.
        trust: PEM file of certificates whose signers are trusted, such as C2PA's trust list; None: none is known.

    Raises:
        VideoError: The file is missing, empty, or no video.
        InputError: The list of trusted certificates cannot be read.
    """
    file = existing_file(path, "video", VideoError)
    trusted = (
        None if trust is None else existing_file(trust, "trust list", InputError).read_text("utf-8", errors="replace")
    )
    own = own_certificate()
    return replace(look_for_marks(file, trusted, None if own is None else own.decode()), path=file)


def look_for_marks(file: Path, trusted: str | None, own: str | None) -> Verification:
    """`verify` for a process that knows nothing of this user: the result names no path.

    Args:
        file: The video.
        trusted: Certificates whose signers are trusted, PEM.
        own: This user's own certificates, PEM.

    Raises:
        VideoError: It is no video.
        InputError: The trusted certificates cannot be read.
    """
    reading = Watermark.read(_some_frames(file))
    identifiers = tuple(f"{one:08x}" for one in reading.identifiers)
    watermark = WatermarkReport(reading.found, reading.chance, reading.deviations, identifiers, reading.frames)
    manifest = read_manifest(file, trusted, own)
    agree = manifest.identifier in identifiers if manifest.identifier and identifiers else None
    return Verification(None, manifest, watermark, _metadata(file), agree)


def _some_frames(file: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames spread over the first minute."""
    info = probe_video(file)
    count = min(info.frames, int(_SECONDS * info.fps) + 1)
    # An odd step, so that a rate that was doubled does not show the same frame again and again.
    step = max(1, count // _FRAMES) | 1
    return itertools.islice(iterate_frames(file, max_frames=count), 0, None, step)


def _metadata(file: Path) -> str:
    with contextlib.suppress(OSError):
        packet = xmp_of(file)
        for kind in MADE_BY_MODELS:
            if kind.encode() in packet:
                return kind
    with av.open(f"file:{file.absolute()}", metadata_errors="replace") as container:
        comment = " ".join(value for key, value in container.metadata.items() if key.lower() == "comment")
    return next((kind for kind in MADE_BY_MODELS if kind in comment), "")
