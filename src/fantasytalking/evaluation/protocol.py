"""Evaluation protocol: everything that affects the value of a metric, stored with it.

The same model gets FID 14.9 to 53.1 on "HDTF" in different papers, because frame rate, size, filter, crop, clip length and sampling
differ. A `Protocol` fixes them; a report stores it with the digests of all weights and the versions of the software, and reports whose
protocols differ are not put into one table without a warning.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from fantasytalking.errors import InputError
from fantasytalking.system.records import field, nearest_name, read_record, record

__all__ = ["PROTOCOLS", "Protocol", "differences", "load_protocol", "software_versions"]

_PACKAGES = (
    *(
        "fantasytalking",
        "torch",
        "torchvision",
        "transformers",
        "numpy",
        "opencv-python-headless",
        "av",
        "ai-edge-litert",
    ),
    *("soxr", "pillow", "torch-fidelity", "pyiqa"),
)
_SUMMARISING = frozenset(
    ["name", "min_images", "min_videos", "min_clips", "resamples", "frechet_resamples", "confidence", "seed"]
)


@record
class Protocol:
    """Every choice that a metric depends on; frames are those at `fps`.

    Raises:
        SettingsError: A value is outside its range.
    """

    name: Annotated[str, field("Name of the protocol.")] = "standard"
    fps: Annotated[
        float,
        field(
            "Frame rate to which every clip is resampled by time (nearest frame); the sound is left as it is.",
            minimum=1,
            unit="frames per second",
        ),
    ] = 25.0
    longest_side: Annotated[int, field("Longest side to which every clip is resized.", minimum=64, unit="pixels")] = 512
    resize_filter: Annotated[Literal["lanczos", "bicubic", "bilinear", "area"], field("Filter of the resizing.")] = (
        "lanczos"
    )
    max_seconds: Annotated[
        float, field("Length looked at, from the beginning of a clip.", minimum=0.2, unit="seconds")
    ] = 20.0
    min_track: Annotated[
        int,
        field(
            "Frames in a row with a face that sync needs; SyncNet's own 100 would skip clips of 81 frames.", minimum=5
        ),
    ] = 50
    max_offset: Annotated[
        int,
        field("Frames by which sound and face are shifted against each other, either way.", minimum=1, maximum=100),
    ] = 15
    image_stride: Annotated[
        int, field("Every n-th frame is an image of FID, CSIM and the quality metrics.", minimum=1)
    ] = 5
    video_frames: Annotated[int, field("Frames of a video of FVD.", minimum=2)] = 16
    video_stride: Annotated[int, field("Frames between the beginnings of two videos of FVD.", minimum=1)] = 8
    video_side: Annotated[int, field("Side of a video of FVD, centre crop.", minimum=16, unit="pixels")] = 224
    face_margin: Annotated[
        float,
        field("Side of the face crop of IDC over the larger side of the face's mesh.", minimum=0.5, maximum=10),
    ] = 1.5
    min_images: Annotated[
        int, field("Number of images below which a Frechet distance comes with a warning.", minimum=2)
    ] = 2048
    min_videos: Annotated[int, field("Number of videos below which FVD comes with a warning.", minimum=2)] = 2048
    min_clips: Annotated[int, field("Number of clips below which an interval comes with a warning.", minimum=2)] = 10
    resamples: Annotated[int, field("Bootstrap resamples of clips for the mean of a metric.", minimum=10)] = 1000
    frechet_resamples: Annotated[int, field("Bootstrap resamples of clips for a Frechet distance.", minimum=10)] = 100
    confidence: Annotated[float, field("Coverage of the intervals.", minimum=0.5, maximum=0.999)] = 0.95
    seed: Annotated[int, field("Seed of the resampling.", minimum=0)] = 0

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return dataclasses.asdict(self)

    @property
    def max_frames(self) -> int:
        """Largest number of frames of a clip that are looked at."""
        return math.ceil(self.max_seconds * self.fps - 1e-6)

    @property
    def measuring(self) -> dict[str, Any]:
        """The fields that the measurements of a clip depend on; the others only affect the summary."""
        return {key: value for key, value in self.to_dict().items() if key not in _SUMMARISING}


PROTOCOLS = {
    "standard": Protocol(),
    "small": Protocol(name="small", longest_side=256, max_seconds=10.0),
}
"""`standard`: 512 pixels, as in the paper. `small`: 256 pixels and 10 seconds of a clip, for CPUs."""


def load_protocol(name: str) -> Protocol:
    """Find a protocol by name, in a JSON file of its fields, or in a report.

    Args:
        name: Key of `PROTOCOLS`, path of a JSON file, or path of a report or its folder.

    Raises:
        InputError: There is no such protocol, or the file is not one.
        SettingsError: A field is unknown, or its value is not accepted.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    path = Path(name)
    if path.is_dir():
        path = path / "report.json"
    if not path.is_file():
        raise InputError(
            f"There is no protocol '{name}'; {nearest_name(name, PROTOCOLS, 'protocols')} "
            "A JSON file of fields and the folder of a report are accepted as well."
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"The protocol '{path}' is not JSON ({error}); give an object of fields.") from error
    if isinstance(raw, dict) and isinstance(raw.get("protocol"), dict):
        raw = raw["protocol"]
    if not isinstance(raw, dict):
        raise InputError(f"The protocol '{path}' is a {type(raw).__name__}; give an object of fields.")
    return read_record(Protocol, raw, f"The protocol '{path}'", "field")


def software_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that figures depend on: name -> version."""
    # Imported here, as it loads PyTorch: a mistyped protocol must not wait for that.
    from fantasytalking.system.machine import library_versions

    return {"python": platform.python_version(), **library_versions(_PACKAGES)}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Differences between two reports that affect their numbers.

    Args:
        first: A report as a dict: `protocol`, `columns` (with definition and digests of weights), `software`.
        second: The other one.

    Returns:
        A clause for each difference; empty if the numbers may be put into one table.
    """
    found = []
    a, b = first["protocol"], second["protocol"]
    for name in sorted(set(a) | set(b)):
        if name != "name" and a.get(name) != b.get(name):
            found.append(f"{name} is {a.get(name)} in one and {b.get(name)} in the other")
    columns = [{c["key"]: c for c in report["columns"]} for report in (first, second)]
    for key in columns[0].keys() & columns[1].keys():
        one, other = columns[0][key], columns[1][key]
        if one["label"] != other["label"]:
            found.append(f"{one['stands_for'] or key} is {one['label']} in one and {other['label']} in the other")
        elif one.get("weights") != other.get("weights"):
            found.append(f"{one['label']} was made with other weights")
    for package in sorted(set(first["software"]) & set(second["software"])):
        if first["software"][package] != second["software"][package]:
            versions = f"{first['software'][package]} and {second['software'][package]}"
            found.append(f"{package} has the versions {versions}")
    return found
