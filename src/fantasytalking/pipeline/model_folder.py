"""Model folders: the check of their contents, and the classes that diffusers may load from here.

A model folder is what `save_pretrained` writes: a `model_index.json` that names the class of each component, and a
folder for each component.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import diffusers
import torch
from diffusers.pipelines import pipeline_loading_utils

from fantasytalking.checkpoints.backbone import quantisation_of
from fantasytalking.checkpoints.fill_model import expected_shapes
from fantasytalking.checkpoints.key_tables import compare_keys
from fantasytalking.checkpoints.weights_reader import indexed_shards, open_weights
from fantasytalking.errors import CheckpointError
from fantasytalking.pipeline.model_names import model_index

__all__ = [
    "LIBRARY",
    "TRANSFORMER",
    "check_folder",
    "check_weights",
    "register_components",
    "register_pipeline",
    "usual_dtype",
]

LIBRARY = "fantasytalking"
"""Name of this package in `model_index.json`, as the library that a component comes from."""
TRANSFORMER = "FantasyTalkingTransformer3DModel"

Pipeline = TypeVar("Pipeline")

_METHODS = ["save_pretrained", "from_pretrained"]
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")


def register_components(*names: str) -> None:
    """Let diffusers load and save classes of this package by their public names.

    diffusers loads component classes only from the libraries in its own table, so that a model folder cannot make it
    import arbitrary code; any other class is written with its module path and found again only if its base class
    happens to be a name in that module.
    """
    table = {name: list(_METHODS) for name in names}
    pipeline_loading_utils.LOADABLE_CLASSES.setdefault(LIBRARY, {}).update(table)
    pipeline_loading_utils.ALL_IMPORTABLE_CLASSES.update(table)


def register_pipeline(kind: type[Pipeline]) -> type[Pipeline]:
    """Let `diffusers.DiffusionPipeline.from_pretrained` open folders of a pipeline class; it looks for the class in diffusers itself."""
    setattr(diffusers, kind.__name__, kind)
    return kind


def check_folder(folder: Path) -> None:
    """Check the contents of a model folder before anything is loaded.

    Raises:
        CheckpointError: There is no index, it is another kind of model, a component has no folder, a shard is missing, or
            there are weights only as pickles.
    """
    index = _index(folder)
    kind = (index.get("transformer") or [None, None])[1]
    if kind != TRANSFORMER:
        raise CheckpointError(
            f"The folder '{folder}' holds a {index.get('_class_name')} whose transformer is a {kind}, not "
            "FantasyTalking; put the adapter on it with 'fantasytalking convert'."
        )
    for name, entry in index.items():
        if not (isinstance(entry, list) and len(entry) == 2 and entry[0] is not None):
            continue
        component = folder / name
        if not component.is_dir():
            raise CheckpointError(
                f"The model folder '{folder}' lacks the part '{name}/'; download or convert the model again."
            )
        _check_component(component)
    if (index.get("vae") or [None, None])[1] == "MeshAutoencoder":
        _check_motion(folder)


def check_weights(folder: Path, name: str, module: Any) -> None:
    """Compare a loaded part with its files: diffusers only warns about missing weights and initialises them at random.

    Raises:
        CheckpointError: Weights are missing, unexpected or of another shape; the message names them.
    """
    weights = open_weights(folder / name)
    found = {key: info.shape for key, info in weights.infos.items()}
    expected = expected_shapes(module)
    if quantisation_of(folder / name) is not None:
        found = _quantised_names(expected, found, weights.metadata)
    report = compare_keys(expected, found)
    report.raise_if_bad(str(folder / name), f"a {type(module).__name__}", "download or convert the model again")


def usual_dtype(model: Path | str) -> Any:
    """Types in which a model is loaded where none is given: float32, but weights that torchao quantised work in bfloat16 alone."""
    if isinstance(model, Path) and quantisation_of(model / "transformer") == "torchao":
        return {"default": torch.float32, "transformer": torch.bfloat16}
    return torch.float32


def _quantised_names(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]
) -> dict[str, tuple[int, ...]]:
    """The tensors of a quantised part by the names in the model, whose shapes the file need not have.

    torchao stores a weight as several tensors and its name in the metadata; others store what belongs to `X.weight` as `X.weight...`.
    """
    whole = {key for key in (*found, *metadata) if key in expected}
    pieces = {key.rpartition(".")[0] + "._" for key in metadata if key in whole}
    rest = [key for key in found if key not in whole and not key.startswith((*pieces, *(key + "." for key in whole)))]
    return {key: expected[key] for key in whole} | {key: found[key] for key in rest}


def _index(folder: Path) -> dict[str, Any]:
    path = model_index(folder)
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"'{path}' is not valid JSON ({error}); download or convert the model again.") from error
    return index


def _check_component(component: Path) -> None:
    missing = [
        shard for listing in component.glob("*.index.json") for shard in indexed_shards(listing) if not shard.is_file()
    ]
    if missing:
        names = ", ".join(shard.name for shard in missing)
        raise CheckpointError(
            f"The model part '{component}' lacks {len(missing)} of its weight files ({names}); "
            "download the model again, what is there is kept."
        )
    kinds = {path.suffix for path in component.iterdir() if path.suffix in _WEIGHTS}
    if kinds and ".safetensors" not in kinds:
        raise CheckpointError(
            f"The model part '{component}' has its weights only as {' and '.join(sorted(kinds))}, a format that can "
            "run code while it is read; convert it to safetensors with 'fantasytalking convert'."
        )


def _check_motion(folder: Path) -> None:
    """Refuse motion latents of before expression was relative to closed lips: their numbers would be taken for something else."""
    if not any((folder / "vae").glob("*.safetensors")):
        return
    names = open_weights(folder / "vae").infos
    if "codec.template" in names and "codec.opening_knots" not in names:
        raise CheckpointError(
            f"The model '{folder}' was made by an earlier version, whose motion was relative to the portrait's mouth and had no lids; "
            "make it again with 'fantasytalking train embedded', or use the packaged model, embedded."
        )
