"""The files that describe a prepared set, checked as they are read: `manifest.json` and the rows of `clips.jsonl`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

from fantasytalking.data.catalogue import Kind
from fantasytalking.errors import InputError
from fantasytalking.system.json import numbered_lines, parse_json_row
from fantasytalking.system.records import field, read_record, record

__all__ = [
    "AGAIN",
    "CLIPS",
    "MANIFEST",
    "SCHEMA",
    "ClipRow",
    "SetManifest",
    "SetModel",
    "ShardEntry",
    "parse_clip",
    "read_clips",
    "read_manifest",
]

SCHEMA = 1
"""Version of the layout."""
MANIFEST = "manifest.json"
CLIPS = "clips.jsonl"

AGAIN = "give the command that prepared the set again, which repairs it, or copy the set again"
"""What to do about a damaged set."""


@record
class SetModel:
    """The model that a set was made for."""

    name: Annotated[str, field("embedded, a model folder, or owner/name on the hub.")]
    frame_rate: Annotated[
        float | None, field("Frame rate of the clips; None means that of the rows.", unit="frames/s")
    ] = None
    encoders: Annotated[dict[str, str], field("Class of each encoder whose output is stored, by component.")] = (
        dataclasses.field(default_factory=dict)
    )
    weights: Annotated[dict[str, str], field("Fingerprint of each file of those encoders.")] = dataclasses.field(
        default_factory=dict
    )


@record
class MotionPercentiles:
    """Raw motion of the training clips at evenly spaced ranks from 0 to 1, the form of a model's motion_percentiles.json."""

    w_face: Annotated[tuple[float, ...], field("Rising values for the face.")]
    w_body: Annotated[tuple[float, ...], field("Rising values for the body.")]


@record
class ShardEntry:
    """A finished shard."""

    name: Annotated[str, field("File name without its ending.")]
    split: Annotated[str, field("Split of all its clips.")]
    samples: Annotated[int, field("Number of clips.", minimum=1)]
    bytes: Annotated[int, field("Size of the file.", minimum=0, unit="bytes")]
    sha256: Annotated[str, field("SHA-256 of the file, 64 hexadecimal digits.")]


def _empty() -> Any:
    return dataclasses.field(default_factory=dict)


@record
class SetManifest:
    """The content of `manifest.json`."""

    schema: Annotated[int, field("Version of the layout.")]
    model: Annotated[SetModel, field("The model that the set was made for.")]
    percentiles: Annotated[MotionPercentiles | None, field("Motion of the training clips; None without any.")]
    shards: Annotated[tuple[ShardEntry, ...], field("Every shard that holds a clip.")]
    clips_sha256: Annotated[str, field("SHA-256 of clips.jsonl, 64 hexadecimal digits.")]
    settings: Annotated[dict[str, Any], field("Fields of PreparationSettings.")] = _empty()
    made_with: Annotated[dict[str, Any], field("Version of this package, and how the command ran.")] = _empty()
    totals: Annotated[dict[str, Any], field("Numbers of videos, candidates and clips, seconds, bytes.")] = _empty()
    dropped: Annotated[dict[str, int], field("Number of dropped candidates by reason.")] = _empty()
    terms: Annotated[dict[str, int], field("Number of kept clips by terms.")] = _empty()
    throughput: Annotated[dict[str, Any], field("Clips and seconds of one worker by stage.")] = _empty()
    plan: Annotated[dict[str, Any], field("Everything that the shards depend on.")] = _empty()


@record
class ClipRow:
    """A row of `clips.jsonl`: a candidate, whether it was kept, and what was measured."""

    key: Annotated[str, field("Unique name of the clip in the set.")]
    kept: Annotated[bool, field("Whether the clip is part of the set.")]
    split: Annotated[str, field("train or val.")]
    shard: Annotated[str, field("Name of its shard; empty where it was dropped.")] = ""
    file: Annotated[str, field("Path of the source video below the folder that was given.")] = ""
    start: Annotated[float, field("Where it begins in the source video.", minimum=0, unit="seconds")] = 0.0
    end: Annotated[float, field("Where it ends in the source video.", minimum=0, unit="seconds")] = 0.0
    reason: Annotated[str, field("Code of the reason why it was dropped; empty where it was kept.")] = ""
    detail: Annotated[str, field("The reason in one sentence.")] = ""
    identity: Annotated[str, field("Name of the person that it shows.")] = ""
    kind: Annotated[Kind, field("Whether it is footage of a person or the output of a model.")] = "real"
    source: Annotated[str, field("Where the video comes from.")] = ""
    terms: Annotated[str, field("Its licence, or the terms under which it may be used.")] = ""
    seconds: Annotated[float, field("Length.", minimum=0, unit="seconds")] = 0.0
    frames: Annotated[int | None, field("Number of frames.", minimum=1)] = None
    fps: Annotated[float | None, field("Frame rate.", unit="frames/s")] = None
    latent_size: Annotated[
        tuple[int, int, int] | None,
        field("Latent frames, rows and columns of its windows; None in a set without latents."),
    ] = None
    caption: Annotated[str, field("What is seen, in words.")] = ""
    sha256: Annotated[
        str, field("SHA-256 of its files in the shard, except json, in alphabetical order; empty in older sets.")
    ] = ""
    measures: Annotated[dict[str, Any], field("Everything else that the stages measured, by name.")] = _empty()


def read_manifest(folder: Path) -> SetManifest:
    """Read the manifest of a set.

    Raises:
        InputError: The folder is no finished set, or its manifest is damaged or of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        begun = (folder / "work").is_dir()
        what = "is not finished: give the command that prepares it again" if begun else "is no prepared set"
        raise InputError(f"The folder '{folder}' has no {MANIFEST} and {what}; 'fantasytalking prepare' makes one.")
    try:
        stored = json.loads(path.read_bytes())
        schema = stored["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is damaged ({error!r}); {AGAIN}.") from error
    if schema != SCHEMA:
        raise InputError(
            f"'{path}' is of version {schema}, and this release reads version {SCHEMA}; prepare the set again."
        )
    return read_record(SetManifest, stored, f"'{path}' is damaged")


def read_clips(folder: Path) -> list[ClipRow]:
    """Read the list of clips of a set, dropped candidates included.

    Raises:
        InputError: The list is missing or damaged; the sentence names the line.
    """
    path = folder / CLIPS
    try:
        lines = numbered_lines(path)
    except (OSError, ValueError) as error:
        raise InputError(f"The prepared set '{folder}' is damaged ({error!r}); {AGAIN}.") from error
    return [parse_clip(line, f"Line {number} of '{path}'") for number, line in lines]


_KNOWN = frozenset(one.name for one in dataclasses.fields(ClipRow)) - {"measures"}


def parse_clip(line: str, where: str) -> ClipRow:
    """Read a row.

    Args:
        line: The row as JSON.
        where: Its place, for messages.

    Raises:
        InputError: The row is damaged.
    """
    row = parse_json_row(line, where, f"the set is damaged: {AGAIN}")
    known = {name: value for name, value in row.items() if name in _KNOWN}
    return read_record(ClipRow, known | {"measures": {k: v for k, v in row.items() if k not in _KNOWN}}, where)
