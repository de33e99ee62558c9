"""`fantasytalking convert`: checkpoint layouts into one another."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.errors import CheckpointError, OutputError

__all__ = ["Convert", "main", "run"]

Target = Literal["released", "safetensors", "comfyui", "model", "pipeline"]


@dataclass(frozen=True)
class Convert:
    """Turn an adapter into another layout, or Wan, the adapter and the speech encoder into one model folder.

    The layout of the source is recognised. The path of the result is the last line of the output.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """An adapter file; or, for --layout pipeline, the folder of Wan2.1-I2V (original files or the -Diffusers
    layout)."""
    target: Annotated[Path, tyro.conf.Positional]
    """The file to write; or, for --layout pipeline, the folder."""
    layout: Target
    """released (.ckpt of two dicts), safetensors (prefixed names), comfyui, model (the model's own names),
    pipeline."""
    adapter: Path | None = None
    """For pipeline: the FantasyTalking adapter, in any layout."""
    audio_encoder: Path | None = None
    """For pipeline: the folder of wav2vec2-base-960h."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """For pipeline: type of the transformer and of the text encoder; the rest stays in float32."""
    config: Path | None = None
    """For pipeline: JSON file of component name to sizes, where shapes do not tell them (heads of a model of other
    widths)."""
    overwrite: bool = False
    """Replace the target file if it exists."""
    json: bool = False
    """Print one JSON object instead of the path, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking convert --help`."""
    return run(parse(Convert, "convert", arguments))


def run(options: Convert) -> int:
    """Convert as the options say.

    Args:
        options: The parsed command line.

    Returns:
        The exit status, 0.

    Raises:
        CheckpointError: The source cannot be read, or cannot become that layout.
        OutputError: The target exists or cannot be written.
    """
    # Here and not above: --help must not wait for the frameworks.
    from fantasytalking.checkpoints.detect_layout import detect_layout

    found = detect_layout(options.source)
    target = _to_pipeline(options) if options.layout == "pipeline" else _to_adapter(options, found)
    print(json.dumps({"output": str(target), "from": found, "layout": options.layout}) if options.json else target)
    return 0


def _to_adapter(options: Convert, found: str) -> Path:
    from fantasytalking.checkpoints.adapter_layouts import convert_adapter

    assert options.layout != "pipeline"
    if not found.startswith("adapter-"):
        raise CheckpointError(
            f"{options.source} is in the layout {found} and only an adapter can become {options.layout}; "
            "for a whole model use --layout pipeline."
        )
    if options.target.exists() and not options.overwrite:
        raise OutputError(f"{options.target} exists already; give another name or --overwrite.")
    return convert_adapter(options.source, options.target, options.layout)


def _to_pipeline(options: Convert) -> Path:
    import torch

    from fantasytalking.checkpoints.assemble_folder import assemble_pipeline

    if options.audio_encoder is None:
        raise CheckpointError(
            "A pipeline needs a speech encoder and none was given; give the folder of wav2vec2-base-960h with "
            "--audio-encoder ('fantasytalking download' fetches it)."
        )
    return assemble_pipeline(
        options.source,
        options.adapter,
        options.audio_encoder,
        options.target,
        getattr(torch, options.dtype),
        _sizes(options.config),
        report=lambda line: print(line, file=sys.stderr),
    )


def _sizes(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None:
        return {}
    try:
        sizes: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f'{path} cannot be read as JSON ({error}); give a file like {{"transformer": {{...}}}}.'
        ) from error
    return sizes
