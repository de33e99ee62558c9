"""`fantasytalking download`: download the released weights from the hub; files that are complete are not fetched again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.system.hub import Hub, RemoteFile, Repository, check_space

__all__ = ["REPOSITORIES", "Download", "Repository", "main", "run"]

Part = Literal["wan", "adapter", "audio-encoder"]


WAN_ORIGINAL = Repository(
    "Wan-AI/Wan2.1-I2V-14B-720P",
    "Wan2.1-I2V-14B-720P",
    "Apache-2.0",
    (
        "config.json",
        "diffusion_pytorch_model*.safetensors*",
        "Wan2.1_VAE.pth",
        "models_t5_umt5-xxl-enc-bf16.pth",
        "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
        "google/umt5-xxl/*",
        "LICENSE*",
    ),
)
WAN_DIFFUSERS = Repository(
    "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
    "Wan2.1-I2V-14B-720P-Diffusers",
    "Apache-2.0",
    (
        "model_index.json",
        *(
            f"{part}/*.{kind}"
            for part in ("transformer", "vae", "text_encoder", "image_encoder")
            for kind in ("json", "safetensors")
        ),
        "tokenizer/*",
        "LICENSE*",
    ),
)
ADAPTER = Repository("acvlab/FantasyTalking", "FantasyTalking", "Apache-2.0", ("fantasytalking_model.ckpt", "LICENSE*"))
AUDIO_ENCODER = Repository(
    "facebook/wav2vec2-base-960h",
    "wav2vec2-base-960h",
    "Apache-2.0",
    ("config.json", "preprocessor_config.json", "model.safetensors"),
)
WAN = {"original": WAN_ORIGINAL, "diffusers": WAN_DIFFUSERS}
REPOSITORIES = (WAN_ORIGINAL, WAN_DIFFUSERS, ADAPTER, AUDIO_ENCODER)


@dataclass(frozen=True)
class Download:
    """Download the released weights: Wan2.1-I2V-14B, the FantasyTalking adapter and wav2vec2.

    Sizes and licences are printed first. Run the same command again to resume an interrupted download. The embedded
    model needs no download.
    """

    target: Annotated[Path, tyro.conf.Positional]
    """The folder to download to; each repository gets a folder of its own in it."""
    layout: Literal["original", "diffusers"] = "original"
    """Layout of Wan's files; this library reads both layouts."""
    only: tuple[Part, ...] = ("wan", "adapter", "audio-encoder")
    """Parts to download."""
    dry_run: bool = False
    """Print sizes and licences, and download nothing."""
    endpoint: str | None = None
    """Address of a mirror of the hub; by default the environment variable HF_ENDPOINT, or else the hub itself."""
    json: bool = False
    """Print one JSON object instead of the folders."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking download --help`."""
    return run(parse(Download, "download", arguments))


def run(options: Download) -> int:
    """Download the parts that the options name.

    Args:
        options: The parsed command line.

    Returns:
        The exit status, 0.

    Raises:
        CheckpointError: The hub cannot be reached, lacks a file, or sent another file than it lists.
        OutputError: The folder cannot be written, or its disk is too small.
    """
    parts: dict[str, Repository] = {"wan": WAN[options.layout], "adapter": ADAPTER, "audio-encoder": AUDIO_ENCODER}
    chosen = {part: repository for part, repository in parts.items() if part in options.only}
    hub = Hub(options.target, options.endpoint)
    plans = {repository: hub.plan(repository) for repository in chosen.values()}
    missing = sum(file.missing for files in plans.values() for file in files)
    for repository, files in plans.items():
        print(_line(repository, files), file=sys.stderr)
    print(f"{missing / 1e9:.2f} GB to download to {options.target}", file=sys.stderr)
    if not options.dry_run:
        check_space(options.target, missing, "choose a larger disk or fewer parts with --only")
        for files in plans.values():
            for file in files:
                hub.fetch(file)
    folders = {part: str(options.target / repository.folder) for part, repository in chosen.items()}
    if options.json:
        print(json.dumps({"folders": folders, "bytes": 0 if options.dry_run else missing}))
    else:
        print("\n".join(folders.values()))
    return 0


def _line(repository: Repository, files: list[RemoteFile]) -> str:
    size, missing = sum(file.size for file in files), sum(file.missing for file in files)
    there = f", {(size - missing) / 1e9:.2f} GB of it already downloaded" if missing < size else ""
    return f"{repository.name}: {len(files)} files, {size / 1e9:.2f} GB{there}, licence {repository.licence}"
