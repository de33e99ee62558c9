"""`fantasytalking download`: the released weights from the hub into a folder; what is there already is not fetched
again."""

from __future__ import annotations

import fnmatch
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.errors import CheckpointError, FantasyTalkingError, OutputError

if TYPE_CHECKING:
    from huggingface_hub.file_download import DryRunFileInfo

__all__ = ["REPOSITORIES", "Download", "Repository", "main", "run"]

Part = Literal["wan", "adapter", "audio-encoder"]


@dataclass(frozen=True)
class Repository:
    """What is fetched from one repository.

    Attributes:
        name: owner/name on the hub.
        folder: Its folder below the target.
        licence: Under which its publisher gives it.
        patterns: The files that are needed; repositories also hold pictures and the same weights in other formats.
    """

    name: str
    folder: str
    licence: str
    patterns: tuple[str, ...]


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
REPOSITORIES = (WAN_ORIGINAL, WAN_DIFFUSERS, ADAPTER, AUDIO_ENCODER)


@dataclass(frozen=True)
class Download:
    """Fetch the released weights: Wan2.1-I2V-14B, the FantasyTalking adapter and wav2vec2.

    Sizes and licences are printed first. An interrupted download goes on where it stopped when the command is given
    again. The embedded model needs no download.
    """

    target: Annotated[Path, tyro.conf.Positional]
    """The folder to fetch into; each repository gets its own folder in it."""
    layout: Literal["original", "diffusers"] = "original"
    """Layout of Wan's files; this library reads both."""
    only: tuple[Part, ...] = ("wan", "adapter", "audio-encoder")
    """Which parts to fetch."""
    dry_run: bool = False
    """Print sizes and licences and stop."""
    endpoint: str | None = None
    """Address of a mirror of the hub; by default the hub itself, or what the variable HF_ENDPOINT says."""
    json: bool = False
    """Print one JSON object instead of the folders, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking download --help`."""
    return run(parse(Download, "download", arguments))


def run(options: Download) -> int:
    """Fetch what the options say.

    Args:
        options: The parsed command line.

    Returns:
        The exit status, 0.

    Raises:
        CheckpointError: The hub cannot be reached, or does not have a file.
        OutputError: The folder cannot be written or is too small.
    """
    wan = WAN_ORIGINAL if options.layout == "original" else WAN_DIFFUSERS
    parts: dict[str, Repository] = {"wan": wan, "adapter": ADAPTER, "audio-encoder": AUDIO_ENCODER}
    chosen = [repository for part, repository in parts.items() if part in options.only]
    plans = [(repository, _plan(repository, options)) for repository in chosen]
    missing = sum(file.file_size or 0 for _, files in plans for file in files if file.will_download)
    for repository, files in plans:
        print(_line(repository, files), file=sys.stderr)
    print(f"{missing / 1e9:.2f} GB to fetch into {options.target}", file=sys.stderr)
    if not options.dry_run:
        _check_space(options.target, missing)
        for repository, files in plans:
            _fetch(repository, files, options)
    folders = {
        part: str(options.target / repository.folder) for part, repository in parts.items() if repository in chosen
    }
    print(
        json.dumps({"folders": folders, "bytes_fetched": 0 if options.dry_run else missing})
        if options.json
        else "\n".join(folders.values())
    )
    return 0


def _line(repository: Repository, files: list[DryRunFileInfo]) -> str:
    size = sum(file.file_size or 0 for file in files)
    there = sum(file.file_size or 0 for file in files if not file.will_download)
    had = f", of which {there / 1e9:.2f} GB are there" if there else ""
    return f"{repository.name}: {len(files)} files, {size / 1e9:.2f} GB{had}, licence {repository.licence}"


def _plan(repository: Repository, options: Download) -> list[DryRunFileInfo]:
    """Files and sizes, asked from the hub first: without an answer the client would take a half-filled folder for a
    complete one."""
    from huggingface_hub import snapshot_download

    try:
        files = snapshot_download(
            repository.name,
            local_dir=options.target / repository.folder,
            allow_patterns=list(repository.patterns),
            endpoint=options.endpoint,
            dry_run=True,
        )
    except Exception as error:
        raise _explain(error, repository, options) from error
    assert isinstance(files, list)
    needed = [pattern for pattern in repository.patterns if not pattern.startswith("LICENSE")]
    absent = [pattern for pattern in needed if not any(fnmatch.fnmatch(file.filename, pattern) for file in files)]
    if absent:
        raise CheckpointError(
            f"The repository {repository.name} no longer has {', '.join(absent)}; fetch the weights by hand and give their paths."
        )
    return files


def _check_space(target: Path, needed: int) -> None:
    folder = target.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{target} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed; "
            "choose a larger disk or fewer parts with --only."
        )


def _fetch(repository: Repository, files: list[DryRunFileInfo], options: Download) -> None:
    from huggingface_hub import snapshot_download

    folder = options.target / repository.folder
    try:
        snapshot_download(
            repository.name,
            revision=files[0].commit_hash,
            local_dir=folder,
            allow_patterns=list(repository.patterns),
            endpoint=options.endpoint,
        )
    except Exception as error:
        raise _explain(error, repository, options) from error
    short = [file.filename for file in files if not _is_whole(folder / file.filename, file.file_size)]
    if short:
        raise CheckpointError(
            f"{', '.join(short)} did not arrive whole from {repository.name}; give the same command again."
        )


def _is_whole(path: Path, size: int | None) -> bool:
    return path.is_file() and (size is None or path.stat().st_size == size)


def _explain(error: Exception, repository: Repository, options: Download) -> FantasyTalkingError:
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    what = f"{repository.name} cannot be fetched"
    again = "then give the same command again, what has arrived is kept"
    if isinstance(error, GatedRepoError):
        return CheckpointError(
            f"{what}: its publisher asks for consent; give it on the hub and log in with 'hf auth login', {again}."
        )
    if isinstance(error, RepositoryNotFoundError) and not isinstance(error, EntryNotFoundError):
        return CheckpointError(f"{what}: the hub knows no such repository; check --endpoint, {again}.")
    if isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", "unknown")
        return CheckpointError(f"{what}: the hub answered with status {status}; wait a little, {again}.")
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return OutputError(
            f"{options.target} cannot be written ({error.strerror}); choose a writable folder with enough space."
        )
    hub = options.endpoint or "the hub"
    return CheckpointError(
        f"{what}: {hub} cannot be reached; check the connection (or give a mirror with --endpoint), {again}."
    )
