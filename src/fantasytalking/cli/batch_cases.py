"""The manifest of a batch, checked as a whole before a model is loaded, and what its output folder says of each case.

```
OUTPUT/NAME.mp4             one video a case
OUTPUT/report.jsonl         one line a case: done, kept from an earlier run, or failed and why
OUTPUT/.cases/NAME.json     key of what determines the video, and a fingerprint of the file
OUTPUT/.cases/NAME.mp4      a video that is complete and not in its place yet
OUTPUT/.cases/NAME.tries    one line for each time that a worker began the case
```
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fantasytalking.errors import AudioError, FantasyTalkingError, ImageError, InputError, OutputError
from fantasytalking.pipeline.settings import GenerationSettings, settings_list
from fantasytalking.system.digests import file_fingerprint, json_sha256
from fantasytalking.system.files import check_name, existing_file
from fantasytalking.system.json import numbered_lines, parse_json_row, read_json_object
from fantasytalking.system.records import nearest_name

__all__ = ["WORK", "BatchCase", "check_batch_folder", "read_cases"]

_OWN_KEYS = ("name", "image", "audio")
WORK = ".cases"
"""Subfolder of the records."""


@dataclass(frozen=True)
class BatchCase:
    """One line of the manifest.

    Attributes:
        name: Name of the video, without its ending.
        image: The portrait.
        audio: The speech.
        settings: Settings that the line gives, by name, after those of the command line.
        output: Folder of the batch.
        key: SHA-256 of everything that determines the video.
    """

    name: str
    image: Path
    audio: Path
    settings: Mapping[str, Any]
    output: Path
    key: str

    @property
    def video(self) -> Path:
        """The video."""
        return self.output / f"{self.name}.mp4"

    @property
    def staged(self) -> Path:
        """Where the complete video lies until its record is written."""
        return self.output / WORK / f"{self.name}.mp4"

    @property
    def record(self) -> Path:
        """The record that vouches for the video."""
        return self.output / WORK / f"{self.name}.json"

    @property
    def tries(self) -> Path:
        """The list of tries."""
        return self.output / WORK / f"{self.name}.tries"

    def is_made(self) -> bool:
        """Whether the video is there, complete and as the line says; one that waits for its place is put there."""
        record = read_json_object(self.record)
        if record.get("key") != self.key:
            return False
        if file_fingerprint(self.video) == record.get("fingerprint"):
            return True
        if file_fingerprint(self.staged) != record.get("fingerprint"):
            return False
        os.replace(self.staged, self.video)
        return True


def read_cases(manifest: Path, output: Path, given: Mapping[str, Any], model: Mapping[str, Any]) -> list[BatchCase]:
    """Read and check a manifest.

    Args:
        manifest: File of JSON lines.
        output: Folder of the batch.
        given: Settings of the command line, for lines that do not give their own.
        model: What else determines the videos, as plain values.

    Raises:
        InputError: The manifest cannot be used; the first line at fault is told, and how many there are.
    """
    file = existing_file(manifest, "manifest", InputError)
    try:
        lines = numbered_lines(file)
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"The manifest '{file}' is not a text file in UTF-8 ({error}); give JSON lines.") from error
    cases: list[BatchCase] = []
    seen: dict[str, int] = {}
    faults: list[FantasyTalkingError] = []
    for number, line in lines:
        where = f"Line {number} of '{file}'"
        try:
            case = _read_case(line, where, file.parent, output, given, model)
            # Some file systems take capitals for small letters.
            first = seen.setdefault(case.name.casefold(), number)
            if first != number:
                raise InputError(
                    f"{where}: the name {case.name!r} is that of line {first}, too; give each line a name of its own."
                )
            cases.append(case)
        except FantasyTalkingError as error:
            faults.append(error)
    if faults:
        more = "" if len(faults) == 1 else f" ({len(faults)} lines cannot be used; this is the first.)"
        raise type(faults[0])(f"{faults[0]}{more}")
    if not cases:
        raise InputError(f"The manifest '{file}' has no lines; give one JSON object a line, with 'image' and 'audio'.")
    return cases


def _read_case(
    line: str, where: str, folder: Path, output: Path, given: Mapping[str, Any], model: Mapping[str, Any]
) -> BatchCase:
    values = parse_json_row(line, where, "give one object a line, in braces")
    known = (*_OWN_KEYS, *(setting.name for setting in settings_list()))
    for key in values:
        if key not in known:
            raise InputError(f"{where} has an unknown key {key!r}; {nearest_name(key, known, 'keys')}")
    for key in _OWN_KEYS[1:]:
        if not isinstance(values.get(key), str):
            raise InputError(
                f"{where} needs '{key}', the path of a file, but "
                f"{'it has none' if key not in values else f'{values[key]!r} was given'}; add it."
            )
    settings = {**given, **{key: value for key, value in values.items() if key not in _OWN_KEYS}}
    try:
        GenerationSettings.create(settings)
        image = existing_file(folder / Path(values["image"]).expanduser(), "image", ImageError)
        audio = existing_file(folder / Path(values["audio"]).expanduser(), "audio", AudioError)
        name = _name(values.get("name", f"{image.stem}-{audio.stem}"), output)
    except FantasyTalkingError as error:
        raise type(error)(f"{where}: {error}") from error
    decides = {
        "image": file_fingerprint(image),
        "audio": file_fingerprint(audio),
        "settings": settings,
        **model,
    }
    return BatchCase(name, image.resolve(), audio.resolve(), settings, output, json_sha256(decides))


def _name(name: Any, output: Path) -> str:
    if not isinstance(name, str) or not name.strip() or name.startswith(".") or set(name) & set('/\\:*?"<>|\0\n'):
        raise InputError(
            f"the name must be usable as a file name, but {name!r} was given; use letters, digits, dashes and underscores."
        )
    # The longest ending of a case's files.
    check_name(output / f"{name}.tries", OutputError)
    return name


def check_batch_folder(output: Path, cases: list[BatchCase], overwrite: bool) -> None:
    """Check that the output folder can be written and that no video in it is somebody else's; nothing is written.

    Args:
        output: The folder.
        cases: All cases.
        overwrite: Whether videos may be replaced that no batch wrote.

    Raises:
        OutputError: The folder cannot be used.
    """
    check_name(output, OutputError)
    if output.exists() and not output.is_dir():
        raise OutputError(f"The output '{output}' is a file; give a folder.")
    existing = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise OutputError(f"The output '{output}' cannot be made, as '{existing}' is a file; choose another folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(
            f"The output folder '{existing}' is not writable; choose another one or change its permissions."
        )
    for case in cases:
        if case.video.is_dir():
            raise OutputError(f"The output '{case.video}' is a folder; remove it or choose another --output.")
        if case.video.exists() and not overwrite and not (case.record.exists() or case.tries.exists()):
            raise OutputError(
                f"The output '{case.video}' exists already and is not of this batch; choose another folder, or pass --overwrite to "
                "replace it."
            )
