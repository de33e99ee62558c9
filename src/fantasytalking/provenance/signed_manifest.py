"""The signed manifest of a finished file (C2PA 2.4), and the digital source type in its metadata."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from fantasytalking.errors import OutputError
from fantasytalking.provenance.bmff import xmp_box
from fantasytalking.provenance.marks import COMPOSITE, Marks
from fantasytalking.provenance.offline_c2pa import offline_context
from fantasytalking.provenance.signing_identity import signing_identity
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.files import atomic_path, full_disk_error
from fantasytalking.system.held_interrupt import interrupt_held

__all__ = ["GENERATION", "MIME_TYPES", "builder_of", "container_metadata", "sidecar_of", "sign_file", "tool_name"]

GENERATION = "org.fantasytalking.generation"
"""Label of the assertion that holds what this package knows of the generation."""
WATERMARK_ALGORITHM = "org.fantasytalking.watermark.1"
"""Name of the watermark in the assertion that binds it to the manifest."""
MIME_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/x-m4v",
    ".mov": "video/quicktime",
    ".avi": "video/avi",
    ".mkv": "video/x-matroska",
}
"""Ending of a file's name -> type as c2pa knows it."""
_WITHOUT_BOXES = (".mkv",)


def tool_name() -> str:
    """Name and version of this package."""
    return f"FantasyTalking {_version()}".rstrip()


def _version() -> str:
    # Not the package's own constant: its file names the pipeline, which is above this one.
    with contextlib.suppress(PackageNotFoundError):
        return version("fantasytalking")
    return ""


def container_metadata(marks: Marks) -> dict[str, str]:
    """Tags of any container, for players and people."""
    return {"comment": f"Made with AI. Digital source type: {marks.source_type}", "encoder": tool_name()}


def sidecar_of(path: Path) -> Path:
    """The file beside a video that holds its manifest, where the format has no place for one; c2pa's tools look there."""
    return path.with_suffix(".c2pa")


def sign_file(path: Path, marks: Marks, target: Path) -> None:
    """Put the digital source type and the signed manifest into a file that is complete but for them.

    Args:
        path: The file, under a temporary name.
        marks: What the manifest says; nothing is done where it has none.
        target: The file's final name, for the manifest's title. A Matroska file gets its manifest in a file beside that.

    Raises:
        OutputError: The disk is full, or the file cannot be signed.
        SettingsError: The signing certificate cannot be used.
    """
    if not marks.manifest:
        return
    import c2pa

    kind = MIME_TYPES[target.suffix.lower()]
    signer = signing_identity().signer()
    with full_disk_error(target, c2pa.C2paError), signer:
        builder = builder_of(marks, target.name, kind)
        if target.suffix.lower() in _WITHOUT_BOXES:
            builder.set_no_embed()
            with path.open("rb") as source, open(os.devnull, "w+b") as nowhere, interrupt_held():
                manifest = builder.sign(signer, kind, source, nowhere)
            with atomic_path(sidecar_of(target), overwrite=True) as beside:
                beside.write_bytes(manifest)
            return
        with path.open("ab") as file:
            file.write(xmp_box(marks.source_type, tool_name()))
        # Named once more inside, as the path is a temporary one that nobody has asked for.
        with atomic_path(path, overwrite=True) as signed, full_disk_error(target, c2pa.C2paError):
            _sign(builder, signer, kind, path, signed)


def _sign(builder: Any, signer: Any, kind: str, path: Path, signed: Path) -> None:
    import c2pa

    with path.open("rb") as source, signed.open("w+b") as file:
        goal = _Goal(file)
        try:
            with interrupt_held():  # c2pa reads and writes through functions of Python
                builder.sign(signer, kind, source, goal)
        except c2pa.C2paError:
            if goal.failure is not None:
                raise goal.failure from None
            raise


class _Goal:
    """A file that c2pa writes to; keeps the system's error, of which c2pa says only that there was one.

    Args:
        file: The file, open for writing and reading.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        """Write, see `IO.write`."""
        return int(self._kept(self._file.write, data))

    def seek(self, *place: int) -> int:
        """Move, which writes what is buffered; see `IO.seek`."""
        return int(self._kept(self._file.seek, *place))

    def flush(self) -> None:
        """Write what is buffered, see `IO.flush`."""
        self._kept(self._file.flush)

    def _kept(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except OSError as error:
            self.failure = error
            raise


def builder_of(marks: Marks, title: str, kind: str, extra: tuple[dict[str, Any], ...] = ()) -> Any:
    """c2pa's builder of the manifest of a video.

    Args:
        marks: What it says.
        title: Name of the file.
        kind: Its type.
        extra: Further assertions.

    Raises:
        OutputError: Footage that it names cannot be read any more.
    """
    import c2pa

    generation: dict[str, Any] = {"identifier": marks.hex_identifier, "model": marks.model}
    if marks.settings_digest:
        generation["settings_sha256"] = marks.settings_digest
    assertions: list[dict[str, Any]] = [{"label": GENERATION, "data": generation}, *extra]
    if marks.watermark:
        block = {"scope": {}, "value": marks.hex_identifier}
        assertions.append({"label": "c2pa.soft-binding", "data": {"alg": WATERMARK_ALGORITHM, "blocks": [block]}})
    if marks.sources:
        edited = {"action": "c2pa.edited", "digitalSourceType": COMPOSITE, "description": "The mouth says new speech."}
        assertions.append({"label": "c2pa.actions.v2", "data": {"actions": [edited]}})
    builder = c2pa.Builder(
        {
            "claim_generator_info": [{"name": "FantasyTalking", "version": _version()}],
            "title": title,
            "format": kind,
            "assertions": assertions,
        },
        context=offline_context(),
    )
    if not marks.sources:
        builder.set_intent(c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA)
        return builder
    builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
    for number, source in enumerate(marks.sources):
        _add_source(builder, source, "componentOf" if number else "parentOf")
    return builder


def _add_source(builder: Any, source: Path, relationship: str) -> None:
    """Name footage in the manifest: with its own manifest, where it has one, and its checksum."""
    import c2pa

    with full_disk_error(source):
        described = {
            "title": source.name,
            "relationship": relationship,
            "instance_id": f"sha256:{file_sha256(source)}",
        }
        kind = MIME_TYPES.get(source.suffix.lower(), "application/octet-stream")
        with source.open("rb") as file, contextlib.suppress(c2pa.C2paError):
            builder.add_ingredient(described, kind, file)
            return
    # Not a file that c2pa can look into: named by its checksum alone.
    try:
        with source.open("rb") as file:
            builder.add_ingredient(described, "application/octet-stream", file)
    except c2pa.C2paError as error:
        raise OutputError(
            f"The footage '{source}' cannot be named in the manifest ({error}); set manifest to off."
        ) from error
