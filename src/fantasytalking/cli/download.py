"""`fantasytalking download`: the released weights from the hub into a folder; what is there already is not fetched
again."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.errors import CheckpointError, FantasyTalkingError, OutputError

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
WAN = {"original": WAN_ORIGINAL, "diffusers": WAN_DIFFUSERS}
REPOSITORIES = (WAN_ORIGINAL, WAN_DIFFUSERS, ADAPTER, AUDIO_ENCODER)


@dataclass(frozen=True)
class RemoteFile:
    """One file to have.

    Attributes:
        repository: Where it comes from.
        commit: Of the repository, so that all files are of one state.
        name: Path in the repository.
        path: Where it goes.
        size: In bytes.
        sha256: Of its content, where the hub knows it (large files).
    """

    repository: Repository
    commit: str
    name: str
    path: Path
    size: int
    sha256: str | None

    @property
    def is_there(self) -> bool:
        """Whether it was fetched before; a file gets its name only when it is whole."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    @property
    def part(self) -> Path:
        """Where its beginning waits while it is not whole."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def missing(self) -> int:
        """Bytes still to fetch."""
        if self.is_there:
            return 0
        return self.size - (min(self.size, self.part.stat().st_size) if self.part.is_file() else 0)


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
        CheckpointError: The hub cannot be reached, does not have a file, or gave another one than it lists.
        OutputError: The folder cannot be written or is too small.
    """
    parts: dict[str, Repository] = {"wan": WAN[options.layout], "adapter": ADAPTER, "audio-encoder": AUDIO_ENCODER}
    chosen = {part: repository for part, repository in parts.items() if part in options.only}
    plans = {repository: _plan(repository, options) for repository in chosen.values()}
    missing = sum(file.missing for files in plans.values() for file in files)
    for repository, files in plans.items():
        print(_line(repository, files), file=sys.stderr)
    print(f"{missing / 1e9:.2f} GB to fetch into {options.target}", file=sys.stderr)
    if not options.dry_run:
        _check_space(options.target, missing)
        for files in plans.values():
            for file in files:
                _fetch(file, options)
    folders = {part: str(options.target / repository.folder) for part, repository in chosen.items()}
    if options.json:
        print(json.dumps({"folders": folders, "bytes": 0 if options.dry_run else missing}))
    else:
        print("\n".join(folders.values()))
    return 0


def _line(repository: Repository, files: list[RemoteFile]) -> str:
    size, missing = sum(file.size for file in files), sum(file.missing for file in files)
    there = f", {(size - missing) / 1e9:.2f} GB of it there already" if missing < size else ""
    return f"{repository.name}: {len(files)} files, {size / 1e9:.2f} GB{there}, licence {repository.licence}"


def _plan(repository: Repository, options: Download) -> list[RemoteFile]:
    """The files that are needed of a repository, as the hub lists them now."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=options.endpoint)
    try:
        commit = api.model_info(repository.name).sha or "main"
        entries = list(api.list_repo_tree(repository.name, recursive=True, revision=commit))
    except Exception as error:
        raise _explain(error, repository, options) from error
    listed = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    for pattern in repository.patterns:
        if not fnmatch.filter(listed, pattern) and not pattern.startswith("LICENSE"):
            raise CheckpointError(
                f"The repository {repository.name} no longer has {pattern}; "
                "fetch the weights by hand and give their paths."
            )
    folder = options.target / repository.folder
    names = sorted({name for pattern in repository.patterns for name in fnmatch.filter(listed, pattern)})
    return [
        RemoteFile(repository, commit, name, folder / name, entry.size, entry.lfs.sha256 if entry.lfs else None)
        for name in names
        for entry in (listed[name],)
    ]


def _check_space(target: Path, needed: int) -> None:
    folder = next(folder for folder in (target.absolute(), *target.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{target} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed; "
            "choose a larger disk or fewer parts with --only."
        )


def _fetch(file: RemoteFile, options: Download) -> None:
    """Fetch one file, from where an earlier attempt stopped.

    Not by `snapshot_download`: since its version 2 the hub's client starts every unfinished file from its first
    byte, and the files here have up to 11 GB.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    if file.is_there:
        return
    url = hf_hub_url(file.repository.name, file.name, revision=file.commit, endpoint=options.endpoint)
    try:
        file.part.parent.mkdir(parents=True, exist_ok=True)
        with file.part.open("ab") as stream:
            if stream.tell() > file.size:
                stream.truncate(0)
            http_get(
                url,
                stream,
                resume_size=stream.tell(),
                headers=build_hf_headers(),
                expected_size=file.size,
                displayed_filename=file.name,
            )
        _verify(file)
        os.replace(file.part, file.path)
    except FantasyTalkingError:
        raise
    except Exception as error:
        raise _explain(error, file.repository, options) from error


def _verify(file: RemoteFile) -> None:
    size = file.part.stat().st_size
    digest = file.sha256
    if size == file.size and file.sha256 is not None:
        with file.part.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if size != file.size or digest != file.sha256:
        file.part.unlink()
        raise CheckpointError(
            f"{file.name} did not arrive from {file.repository.name} as the hub lists it; give the same command again."
        )


def _explain(error: Exception, repository: Repository, options: Download) -> FantasyTalkingError:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    what = f"{repository.name} cannot be fetched"
    again = "then give the same command again, what has arrived is kept"
    if isinstance(error, GatedRepoError):
        return CheckpointError(
            f"{what}: its publisher asks for consent; give it on the hub and log in with 'hf auth login', {again}."
        )
    if isinstance(error, RepositoryNotFoundError):
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
