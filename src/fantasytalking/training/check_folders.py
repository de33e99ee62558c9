"""Checks of a run's folders before anything is written: data of a kind that the recipe takes, a folder of its own, no other run in it.

Needs no framework, so that the command line answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fantasytalking.data.catalogue import CATALOGUE, read_catalogue
from fantasytalking.data.set_records import MANIFEST, read_manifest
from fantasytalking.errors import InputError, OutputError, SettingsError
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.system.digests import file_fingerprint, json_sha256
from fantasytalking.system.json import read_json, write_json

__all__ = [
    "CHOICES",
    "DataKind",
    "check_data",
    "check_output_folder",
    "data_digest",
    "keep_choices",
    "make_run_folder",
    "model_digest",
]

DataKind = Literal["set", "catalogue", "tracks"]
"""Kinds of training data: prepared set, folder of videos with a catalogue, folder of face tracks (or a run folder with one)."""
CHOICES = "choices.json"
"""File in a run folder with the settings that no part of the run records, and digests of the models that it starts from."""
_SENTENCES: dict[DataKind, str] = {
    "set": f"a prepared set (a folder with {MANIFEST}; 'fantasytalking prepare VIDEOS --output SET' makes one)",
    "catalogue": f'a folder of videos with {CATALOGUE} (one line a clip: {{"file": "a.mp4", "identity": "anna", "kind": "real", '
    '"split": "train"})',
    "tracks": "a folder of face tracks, or a run folder that has some",
}


def check_data(data: Path, kinds: tuple[DataKind, ...]) -> DataKind:
    """Find out of which kind a data folder is, and check its manifest or its catalogue.

    Args:
        data: The folder.
        kinds: Kinds that the recipe takes.

    Raises:
        InputError: There is no such folder, it is of no such kind, or the set is unfinished or damaged.
        SettingsError: A row of the catalogue is not accepted.
    """
    wanted = ", or ".join(_SENTENCES[kind] for kind in kinds)
    if not data.is_dir():
        what = f"'{data}' is a file" if data.exists() else f"There is no folder '{data}'"
        raise InputError(f"{what}; --data must be {wanted}.")
    if "set" in kinds and ((data / MANIFEST).is_file() or not (data / CATALOGUE).is_file()) and _looks_prepared(data):
        read_manifest(data)
        return "set"
    if "catalogue" in kinds and (data / CATALOGUE).is_file():
        read_catalogue(data / CATALOGUE)
        return "catalogue"
    if "tracks" in kinds and any(any(place.glob("*.safetensors")) for place in (data / "tracks", data)):
        return "tracks"
    raise InputError(f"The folder '{data}' holds no training data for this recipe; --data must be {wanted}.")


def _looks_prepared(data: Path) -> bool:
    """Whether a folder is a prepared set, or one whose preparation was begun."""
    return (data / MANIFEST).is_file() or (data / "work").is_dir()


def check_output_folder(output: Path, data: Path, **models: str | Path | None) -> None:
    """Check that a run gets a folder of its own.

    Args:
        output: The run folder.
        data: The data folder.
        models: Folders of models that the run reads, by the option that names them: base, teacher or start.

    Raises:
        OutputError: The run folder is a file, lies inside the data or inside a model, or holds the model that the run starts from.
    """
    place = output.expanduser().resolve()
    if output.exists() and not output.is_dir():
        raise OutputError(f"The run folder '{output}' cannot be made: it is a file; give the name of a folder.")
    inside = data.expanduser().resolve()
    if place.is_relative_to(inside):
        raise OutputError(f"The run folder '{output}' lies in the data folder '{data}'; give a folder outside it.")
    for option, model in models.items():
        if not model or not Path(model).expanduser().is_dir():
            continue
        folder = Path(model).expanduser().resolve()
        if place.is_relative_to(folder) or folder.is_relative_to(place):
            raise OutputError(
                f"The run folder '{output}' and '{model}', which --{option} names, lie in each other, so the run would write into "
                "the model that it reads; give another run folder."
            )


def model_digest(model: str | Path) -> str:
    """Digest that tells models apart: of size, beginning and end of each weights file of a folder, otherwise of the model's name."""
    place = Path(str(resolve_model(str(model))) if not Path(model).exists() else model)
    if place.is_file():
        return file_fingerprint(place)
    files = sorted(path for path in place.rglob("*.safetensors")) if place.is_dir() else []
    found = [[str(path.relative_to(place)), file_fingerprint(path)] for path in files]
    return json_sha256(found or str(model))[:32]


def data_digest(data: Path, kind: DataKind) -> str:
    """Digest that tells data apart: of a set's list of clips and shards, of a catalogue, or of the face tracks."""
    if kind == "set":
        manifest = read_manifest(data)
        return json_sha256([manifest.clips_sha256, [shard.sha256 for shard in manifest.shards]])[:32]
    if kind == "catalogue":
        return file_fingerprint(data / CATALOGUE)
    folder = data / "tracks" if (data / "tracks").is_dir() else data
    return json_sha256([[path.name, file_fingerprint(path)] for path in sorted(folder.glob("*.safetensors"))])[:32]


def keep_choices(output: Path, now: Mapping[str, Any], *, allowed: tuple[str, ...] = (), write: bool = True) -> None:
    """Compare the choices of a run with those that it was begun with, or keep them for the next start.

    Args:
        output: The run folder.
        now: Choices by the name of their option, as JSON values.
        allowed: Names that may differ this time.
        write: Whether this process writes the file.

    Raises:
        SettingsError: The run was begun with another choice, and has done some work since.
        OutputError: The run folder cannot be made.
    """
    path = output / CHOICES
    before = read_json(path)
    if isinstance(before, dict) and _begun(output):
        for name, value in now.items():
            if name in before and before[name] != value and name not in allowed:
                option = "--" + name.replace("_", "-")
                shown = f"{option} {before[name]}, but now it is {value}"
                if isinstance(value, str) and len(value) == len(str(before[name])) == 32:
                    shown = f"{option} naming other content"
                raise SettingsError(
                    f"The run in {output} was begun with {shown}; give the same to go on, or another run folder for a new run."
                )
    if write:
        make_run_folder(output)
        write_json(path, dict(now), indent=1)


def make_run_folder(output: Path, part: str = "") -> Path:
    """Make the folder of a run, or a part of it; returns what was made.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        (output / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The run folder {output} cannot be made ({error}); give a folder that can be written."
        ) from error
    return output / part


def _begun(output: Path) -> bool:
    """Whether a run has a result that depends on its choices: painter's pairs or a checkpoint."""
    return (output / "mouth_pairs.npz").exists() or any(output.glob("*/step-*"))
