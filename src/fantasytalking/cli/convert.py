"""`fantasytalking convert`: convert checkpoints between layouts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.errors import CheckpointError
from fantasytalking.system.files import check_output

__all__ = ["Convert", "main", "run"]

Target = Literal["released", "safetensors", "comfyui", "model", "pipeline"]


@dataclass(frozen=True)
class Convert:
    """Convert an adapter to another layout, or assemble Wan, the adapter and the speech encoder into a model folder.

    The layout of the source is recognised. The last line of the output is the path of the result.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """An adapter file; or, for --layout pipeline, the folder of Wan2.1-I2V (original files or the -Diffusers
    layout)."""
    target: Annotated[Path, tyro.conf.Positional]
    """The file to write; or, for --layout pipeline, the folder to write."""
    layout: Target
    """Layout of the result: released (.ckpt of two dicts), safetensors (prefixed names), comfyui, model (the model's
    own names), or pipeline (a model folder)."""
    transformer: Path | None = None
    """For --layout pipeline: file or folder of Wan's transformer in place of the source's: safetensors, GGUF or fp8. Quantised weights are
    expanded to --dtype."""
    adapter: Path | None = None
    """For --layout pipeline: the FantasyTalking adapter, in any layout; by default that of a source which is a model folder."""
    audio_encoder: Path | None = None
    """For --layout pipeline: the folder of wav2vec2-base-960h; by default that of a source which is a model folder."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """For --layout pipeline: type of the transformer and the text encoder; the other parts stay in float32."""
    config: Path | None = None
    """For --layout pipeline: JSON file with sizes that shapes do not tell, by component, such as the number of heads
    where they are not 128 channels wide."""
    overwrite: bool = False
    """Replace the target file if it exists."""
    json: bool = False
    """Print one JSON object instead of the path."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking convert --help`."""
    return run(parse(Convert, "convert", arguments))


def run(options: Convert) -> int:
    """Convert according to the options.

    Args:
        options: The parsed command line.

    Returns:
        The exit status, 0.

    Raises:
        CheckpointError: The source cannot be read or cannot be converted to that layout.
        OutputError: The target exists already or cannot be written.
    """
    for option, path in (
        ("", options.source),
        ("--transformer ", options.transformer),
        ("--adapter ", options.adapter),
        ("--audio-encoder ", options.audio_encoder),
    ):
        if path is not None and not path.expanduser().exists():
            raise CheckpointError(
                f"There are no weights at {option}{path}; give a .safetensors, .gguf or torch file, or a folder that holds one."
            )
    if options.layout != "pipeline":
        check_output(options.target, options.overwrite)
    # Imported here so that --help does not wait for the frameworks.
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
            f"{options.source} has the layout {found}, and only an adapter can be converted to {options.layout}; "
            "use --layout pipeline for a whole model."
        )
    return convert_adapter(options.source, options.target, options.layout)


def _to_pipeline(options: Convert) -> Path:
    import torch

    from fantasytalking.checkpoints.assemble_folder import assemble_pipeline

    source, own = options.source, options.source / "audio_encoder"
    if not source.is_dir():
        raise CheckpointError(
            f"{source} is one file, and a model folder needs the other parts of Wan, too; give the folder of Wan2.1-I2V or a model folder "
            f"as the source, and --transformer {source}."
        )
    audio_encoder = options.audio_encoder or (own if own.is_dir() else None)
    if audio_encoder is None:
        raise CheckpointError(
            "A pipeline needs a speech encoder and none was given; give the folder of wav2vec2-base-960h with "
            "--audio-encoder ('fantasytalking download' fetches it)."
        )
    return assemble_pipeline(
        source,
        options.adapter,
        audio_encoder,
        options.target,
        getattr(torch, options.dtype),
        _sizes(options.config),
        report=lambda line: print(line, file=sys.stderr),
        transformer=options.transformer,
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
