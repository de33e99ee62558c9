"""`fantasytalking export`: the trained weights of a run in any layout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fantasytalking.cli.options import parse

__all__ = ["Export", "main", "run"]

Layout = Literal["pipeline", "transformer", "wan-original", "released", "safetensors", "comfyui", "model", "lora"]


@dataclass(frozen=True)
class Export:
    """Write the averaged weights of a training run, finished or at its newest checkpoint.

    What a layout cannot hold is said on stderr. The path of the result is the last line of the output.
    """

    run_folder: Annotated[Path, tyro.conf.Positional]
    """The run: what --output of 'fantasytalking train' named."""
    target: Annotated[Path, tyro.conf.Positional]
    """The file to write (released, safetensors, comfyui, model) or the folder (the others)."""
    layout: Layout
    """pipeline (a model folder), transformer (its transformer alone), wan-original (the backbone under Wan's names, LoRA
    merged), released, safetensors, comfyui (the audio part as published), model (all trained parts), lora (as
    load_lora_weights reads it). LoRA is merged into pipeline and transformer."""
    base: Path | None = None
    """Place of the run's base model, if it was moved."""
    pipeline: Path | None = None
    """Model folder that VAE and encoders are copied from, for pipeline where the base is a transformer alone."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Type of the weights; norms and the time embedding of whole transformers stay in float32."""
    overwrite: bool = False
    """Replace what is there."""
    json: bool = False
    """Print one JSON object instead of the path, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking export --help`."""
    return run(parse(Export, "export", arguments))


def run(options: Export) -> int:
    """Export as the options say.

    Raises:
        CheckpointError: No run, no checkpoint, or another base model.
        SettingsError: The layout can hold nothing of this run.
        OutputError: The target exists or cannot be written.
    """
    # Here and not above: --help must not wait for the frameworks.
    import torch

    from fantasytalking.training.adapter.export_run import export_run

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
        print(f"note: {note}", file=sys.stderr)
    path = str(exported.path)
    print(json.dumps({"output": path, "layout": options.layout, "notes": exported.notes}) if options.json else path)
    return 0
