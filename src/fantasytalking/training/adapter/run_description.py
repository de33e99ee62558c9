"""Description of an adapter run, its base and its data: written when the run begins, checked when it resumes, read by export."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fantasytalking.checkpoints.adapter_layouts import part_of
from fantasytalking.checkpoints.fill_model import Source
from fantasytalking.checkpoints.load_models import open_transformer
from fantasytalking.data.prepared_set import PreparedSet
from fantasytalking.errors import CheckpointError, OutputError, SettingsError
from fantasytalking.pipeline.progress import show_note
from fantasytalking.system.json import read_json, write_json
from fantasytalking.training.adapter.adapter_recipes import DESCRIPTION, AdapterRecipe

__all__ = ["DESCRIPTION", "RUN", "base_checksum", "describe_run", "read_description"]

RUN = "transformer"
"""Subfolder of a run's output with the log and the checkpoints."""


def describe_run(output: Path, recipe: AdapterRecipe, base: Path, prepared: PreparedSet, write: bool) -> None:
    """Write the description of a run, or compare it with an existing one.

    Args:
        output: Folder of the run.
        recipe: Recipe with the model's sizes filled in.
        base: Model that the run starts from.
        prepared: Prepared set that the run trains on.
        write: Whether this process writes the file.

    Raises:
        SettingsError: The folder holds a run with another base, model or LoRA.
        OutputError: The folder cannot be written.
    """
    weights, _ = open_transformer(base)
    now: dict[str, Any] = {
        "base": str(base.expanduser().resolve()),
        "base_checksum": base_checksum(weights),
        "model": recipe.train.model,
        "base_parts": sorted({part for part in map(part_of, weights.plan) if part is not None}),
        "lora": None if recipe.lora is None else asdict(recipe.lora),
        "percentiles": None if prepared.manifest.percentiles is None else asdict(prepared.manifest.percentiles),
        "set": str(prepared.folder.resolve()),
    }
    now = json.loads(json.dumps(now))
    path = output / DESCRIPTION
    before = _earlier(output) if path.is_file() else None
    if before is not None:
        changed = [name for name in ("base_checksum", "model", "lora") if before.get(name) != now[name]]
        if changed:
            raise SettingsError(
                f"The run in {output} was begun with another {changed[0].replace('_checksum', '')} ({before.get(changed[0])}, now "
                f"{now[changed[0]]}); give the same base and recipe to go on, or another output folder."
            )
        return
    if write:
        try:
            output.mkdir(parents=True, exist_ok=True)
            write_json(path, now, indent=1)
        except OSError as error:
            raise OutputError(
                f"The run folder {output} cannot be made ({error}); give a folder that can be written."
            ) from error


def _earlier(output: Path) -> dict[str, Any] | None:
    """Description of an earlier start; None if it is damaged, which is told."""
    try:
        return read_description(output)
    except CheckpointError:
        show_note(
            f"{output / DESCRIPTION} is damaged and is written again; give the base that the run was begun with, as it cannot be "
            "compared."
        )
        return None


def read_description(output: Path) -> dict[str, Any]:
    """Read the description of the run in a folder.

    Raises:
        CheckpointError: The file is damaged.
    """
    found = read_json(output / DESCRIPTION)
    if not isinstance(found, dict) or "base" not in found:
        raise CheckpointError(f"{output / DESCRIPTION} is damaged; give the command that trained the run again.")
    return found


def base_checksum(weights: Source) -> str:
    """Digest of a transformer's names, shapes and two of its tensors, which tells fine-tunes apart without reading all weights."""
    found = hashlib.sha256(json.dumps(sorted((key, list(shape)) for key, shape in weights.shapes().items())).encode())
    for key in ("proj_out.weight", "blocks.0.ffn.net.2.weight"):
        if key in weights.plan:
            found.update(weights.get(key).contiguous().view(torch.uint8).numpy().tobytes())
    weights.weights.release()
    return found.hexdigest()
