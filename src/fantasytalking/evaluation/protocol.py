"""How a number was made: everything that moves a metric, stored beside it.

The same model gets FID 14.9 to 53.1 on "HDTF" in different papers, because frame rate, size, filter, crop, clip length and sampling
differ. A `Protocol` fixes them; a report stores it with the digests of all weights and the versions of the software, and two reports
whose protocols differ are not put in one table without a warning.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.system.machine import library_versions

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


def _option(default: Any, help: str, minimum: float = 0.0, maximum: float = 1e9) -> Any:
    return field(default=default, metadata={"help": help, "minimum": minimum, "maximum": maximum})


@dataclass(frozen=True)
class Protocol:
    """Every choice that a metric depends on. Frames are at `fps`.

    Raises:
        SettingsError: a value outside its range.
    """

    name: str = field(default="standard", metadata={"help": "of the protocol, for people"})
    fps: float = _option(
        25.0, "frame rate to which every clip is resampled by time (nearest frame); sound is untouched", 1
    )
    longest_side: int = _option(512, "longest side in pixels to which every clip is brought", 64)
    resize_filter: str = field(default="lanczos", metadata={"help": "how: lanczos, bicubic, bilinear or area"})
    max_seconds: float = _option(20.0, "of a clip that are looked at, from its beginning", 0.2)
    min_track: int = _option(
        50, "frames in a row with a face that sync needs; SyncNet's own 100 skips 81-frame clips", 5
    )
    max_offset: int = _option(15, "frames by which sound and face are shifted against each other, either way", 1, 100)
    image_stride: int = _option(5, "every n-th frame is an image of FID, CSIM and the quality metrics", 1)
    video_frames: int = _option(16, "frames of a video of FVD", 2)
    video_stride: int = _option(8, "frames between the beginnings of two videos of FVD", 1)
    video_side: int = _option(224, "side of a video of FVD, centre crop", 16)
    face_margin: float = _option(1.5, "side of the face crop of IDC over the larger side of the face's mesh", 0.5, 10)
    min_images: int = _option(2048, "images below which a Frechet distance comes with a warning", 2)
    min_videos: int = _option(2048, "videos below which FVD comes with a warning", 2)
    min_clips: int = _option(10, "clips below which an interval comes with a warning", 2)
    resamples: int = _option(1000, "bootstrap resamples of clips for the mean of a metric", 10)
    frechet_resamples: int = _option(100, "bootstrap resamples of clips for a Frechet distance", 10)
    confidence: float = _option(0.95, "coverage of the intervals", 0.5, 0.999)
    seed: int = _option(0, "of the resampling", 0)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value, low, high = getattr(self, f.name), f.metadata.get("minimum"), f.metadata.get("maximum")
            if low is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            whole = isinstance(f.default, int)
            if not number or (whole and int(value) != value) or not low <= value <= high:
                kind = "a whole number" if whole else "a number"
                raise SettingsError(f"{f.name} must be {kind} from {low:g} to {high:g}, but {value!r} was given.")
            object.__setattr__(self, f.name, int(value) if whole else float(value))
        if self.resize_filter not in ("lanczos", "bicubic", "bilinear", "area"):
            raise SettingsError(
                f"resize_filter must be lanczos, bicubic, bilinear or area, but {self.resize_filter!r} was given."
            )

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """The protocol of a report or a file.

        Raises:
            SettingsError: an unknown field or a bad value.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise SettingsError(f"A protocol has no field {', '.join(unknown)}; its fields are {', '.join(names)}.")
        return cls(**values)

    @property
    def measuring(self) -> dict[str, Any]:
        """The fields that what is measured of a clip depends on; the rest only summarises."""
        summary = {
            "name",
            "min_images",
            "min_videos",
            "min_clips",
            "resamples",
            "frechet_resamples",
            "confidence",
            "seed",
        }
        return {k: v for k, v in self.to_dict().items() if k not in summary}


PROTOCOLS = {
    "standard": Protocol(),
    "small": Protocol(name="small", longest_side=256, max_seconds=10.0),
}
"""`standard`: 512 pixels, as the paper's videos. `small`: 256 pixels and 10 seconds of a clip, for processors."""


def load_protocol(name: str) -> Protocol:
    """A protocol by name, from a JSON file of its fields, or from a report.

    Raises:
        InputError: no such protocol, or the file is not one.
        SettingsError: an unknown field or a bad value in it.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    path = Path(name)
    if path.is_dir():
        path = path / "report.json"
    if not path.is_file():
        nearest = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f" (did you mean '{nearest[0]}'?)" if nearest else ""
        raise InputError(
            f"There is no protocol '{name}'{hint}; give {', '.join(PROTOCOLS)}, a JSON file of fields, or a report to repeat."
        )
    try:
        raw = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"The protocol '{path}' is not JSON ({error}); give an object of fields.") from error
    if isinstance(raw, dict) and isinstance(raw.get("protocol"), dict):
        raw = raw["protocol"]
    if not isinstance(raw, dict):
        raise InputError(f"The protocol '{path}' is a {type(raw).__name__}; give an object of fields.")
    return Protocol.from_dict(raw)


def software_versions() -> dict[str, str]:
    """Versions of what measures: name -> version, of the packages that are installed."""
    return {"python": platform.python_version(), **library_versions(_PACKAGES)}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """In what two reports differ that moves their numbers, a sentence each.

    Args:
        first: a report as a dict: `protocol`, `columns` (with definition and weights' digest), `software`.
        second: another one.

    Returns:
        Sentences, empty when the numbers may stand in one table.
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
