"""`fantasytalking export`: write the trained weights of a run in any layout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.errors import CheckpointError, OutputError, SettingsError
from fantasytalking.pipeline.model_names import INDEX
from fantasytalking.pipeline.progress import show_note
from fantasytalking.training.adapter.adapter_recipes import DESCRIPTION

__all__ = ["Export", "main", "run"]

Layout = Literal["pipeline", "transformer", "wan-original", "released", "safetensors", "comfyui", "model", "lora"]


@dataclass(frozen=True)
class Export:
    """Write the averaged weights of a training run, finished or at its newest checkpoint.

    Parts that the layout cannot hold are named on stderr. The path of the result is the last line of the output.
    """

    run_folder: Annotated[Path, tyro.conf.Positional]
    """The run folder: the --output of 'fantasytalking train'."""
    target: Annotated[Path, tyro.conf.Positional]
    """The file (released, safetensors, comfyui, model) or folder (other layouts) to write."""
    layout: Layout
    """Of every run: pipeline (a model folder) and transformer (only its transformer), both with LoRA merged. Only of runs of
    adapter-* and lora-*: released, safetensors, comfyui (the audio part as published) and model (all trained parts). Only of runs
    of lora-*: lora (as load_lora_weights reads it) and wan-original (the backbone under Wan's names, LoRA merged). Runs of
    distil-14b and lip-sync have written their only layout already."""
    base: Path | None = None
    """Present location of the run's base model, if it was moved."""
    pipeline: Path | None = None
    """Model folder from which VAE and encoders are copied, for the layout pipeline if the base is only a transformer."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Type of the weights; norms and the time embedding of whole transformers stay in float32."""
    overwrite: bool = False
    """Replace an existing target."""
    json: bool = False
    """Print one JSON object instead of the path, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking export --help`."""
    return run(parse(Export, "export", arguments))


def check_run(folder: Path, layout: str) -> None:
    """Check that a folder holds a run, and one that has a layout, before frameworks are imported.

    Raises:
        CheckpointError: There is no such folder, or no run in it that can be exported.
        SettingsError: The run has no such layout.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"There is no folder '{folder}'; give the --output folder of a 'fantasytalking train' run."
        )
    if (folder / DESCRIPTION).is_file():
        return
    if not (folder / "model" / INDEX).is_file():
        written = [name for name in ("lora", "lip_sync.safetensors") if (folder / name).exists()]
        if written:
            raise CheckpointError(f"The result of the run in {folder} is {folder / written[0]}, which needs no export.")
        raise CheckpointError(
            f"{folder} holds no finished run; give the --output folder of a 'fantasytalking train' run, and let that "
            "finish first if it was stopped."
        )
    if layout not in ("pipeline", "transformer"):
        raise SettingsError(
            f"The run in {folder} trained a whole model, so it has no {layout} layout; export it with --layout pipeline or transformer."
        )


def run(options: Export) -> int:
    """Export with the given options.

    Raises:
        CheckpointError: There is no run or no checkpoint, or the base model is another one.
        SettingsError: The layout cannot hold any part of this run.
        OutputError: The target exists or cannot be written.
    """
    check_run(options.run_folder, options.layout)
    if options.target.exists() and not options.overwrite:
        raise OutputError(f"{options.target} exists already; give another name, or --overwrite.")
    for option, model in (("base", options.base), ("pipeline", options.pipeline)):
        if model is not None and not model.expanduser().exists():
            raise CheckpointError(
                f"There is no model '{model}'; --{option} must be a model folder or a file of weights."
            )
    # Imported here: --help must not wait for the frameworks.
    import torch

    from fantasytalking.system.folder_owner import owned
    from fantasytalking.training.adapter.export_run import export_run

    # A run may be read while it is trained, but not written into.
    inside = options.target.expanduser().absolute().is_relative_to(options.run_folder.expanduser().absolute())
    with owned(options.run_folder, "exporting into", kind="run folder") if inside else nullcontext():
        exported = export_run(
            options.run_folder,
            options.target,
            options.layout,
            base=options.base,
            pipeline=options.pipeline,
            dtype=getattr(torch, options.dtype),
            overwrite=options.overwrite,
            report=lambda line: print(line, file=sys.stderr),
        )
    for note in exported.notes:
        show_note(f"{note}")
    path = str(exported.path)
    print(json.dumps({"output": path, "layout": options.layout, "notes": exported.notes}) if options.json else path)
    return 0
