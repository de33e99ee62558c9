"""Published footage of a manifest: fetched from the addresses that it lists, checked by its hashes, kept outside the project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from fantasytalking.errors import InputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Manifest
from fantasytalking.evaluation.networks.metric_weights import cache_folder
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.downloads import transfer

__all__ = ["fetch_footage", "footage_folder"]

_ADVICE = "give a folder with the files in --data, a case without its file is left out"


def footage_folder(manifest: Manifest) -> Path:
    """Folder that the footage of a manifest is fetched to, in the cache of the metrics' weights.

    Raises:
        InputError: A file of the manifest has no source.
    """
    without = sorted({file for case in manifest.cases for file in case.inputs} - manifest.sources.keys())
    if without:
        raise InputError(
            f"The manifest '{manifest.name}' does not say where its footage is published ({without[0]}); give its folder with --data."
        )
    return cache_folder() / "footage" / manifest.name


def fetch_footage(manifest: Manifest, limit: int | None, say: Callable[[str], None]) -> Path:
    """Fetch the footage of a manifest that is not there yet; an interrupted download goes on when this is called again.

    Args:
        manifest: The manifest; each of its files has a source.
        limit: Number of cases, the first ones; None means all.
        say: Called with the number of files, where they come from and their terms, before the first byte.

    Returns:
        The folder, to be given as data of the benchmark.

    Raises:
        InputError: A file has no source.
        CheckpointError: A source cannot be reached, or its content is not what the manifest lists.
        OutputError: The folder cannot be written.
    """
    folder = footage_folder(manifest)
    wanted = {file: digest for case in manifest.cases[:limit] for file, digest in case.inputs.items()}
    missing = {file: digest for file, digest in wanted.items() if not _is_there(folder / file, digest)}
    if missing:
        hosts = ", ".join(sorted({urlsplit(manifest.sources[file]).netloc or "this machine" for file in missing}))
        say(f"Fetching {len(missing)} of {len(wanted)} files from {hosts} to {folder}. Terms: {manifest.terms}")
    for file, digest in missing.items():
        transfer(manifest.sources[file], folder / file, None, digest, _ADVICE)
    return folder


def _is_there(path: Path, digest: str) -> bool:
    return path.is_file() and file_sha256(path) == digest
