"""Checksums of a prepared set: whether its files are those that were prepared, and which clip is damaged if they are not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fantasytalking.data.set_records import AGAIN, CLIPS, ClipRow, SetManifest, parse_clip
from fantasytalking.data.shard_reader import ShardReader, read_places
from fantasytalking.errors import InputError
from fantasytalking.system.digests import file_sha256

__all__ = ["check_clips", "files_sha256", "verify_shards"]

CHUNK = 1 << 22


def files_sha256(files: Mapping[str, bytes]) -> str:
    """SHA-256 of the files of a clip, one after the other.

    Args:
        files: Content by ending; json, which holds this digest, does not count.
    """
    digest = hashlib.sha256()
    for ending in sorted(files.keys() - {"json"}):
        digest.update(files[ending])
    return digest.hexdigest()


def check_clips(reader: ShardReader, manifest: SetManifest, rows: Sequence[ClipRow]) -> None:
    """Compare the list of clips with its checksum.

    Args:
        reader: Reader of the set's shards.
        manifest: Its manifest.
        rows: Its list of clips.

    Raises:
        InputError: It is not the list that was written; the sentence names a clip without a row, if there is one.
    """
    path = reader.folder / CLIPS
    if file_sha256(path) == manifest.clips_sha256:
        return
    listed = {row.key for row in rows}
    for shard in manifest.shards:
        for name in read_places(reader.path(shard.name))[0]:
            key, _, ending = name.rpartition(".")
            if ending == "json" and key not in listed:
                raise InputError(
                    f"'{path}' has no row of the clip '{key}', which the shard '{shard.name}' holds; {AGAIN}."
                )
    raise InputError(f"'{path}' is not the list that was prepared (its SHA-256 differs); {AGAIN}.")


def verify_shards(
    reader: ShardReader,
    manifest: SetManifest,
    rows: Sequence[ClipRow],
    advance: Callable[[int], None] = lambda size: None,
) -> None:
    """Compare every shard with its checksum.

    Args:
        reader: Reader of the set's shards.
        manifest: Its manifest.
        rows: Its list of clips.
        advance: Called with the number of bytes that were read; an exception that it raises ends the work.

    Raises:
        InputError: A shard differs; the sentence names the first, and its clips that are damaged.
    """
    for shard in manifest.shards:
        path, digest = reader.path(shard.name), hashlib.sha256()
        try:
            with path.open("rb") as file:
                while content := file.read(CHUNK):
                    digest.update(content)
                    advance(len(content))
        except OSError as error:
            raise InputError(f"The shard '{path}' cannot be read ({error.strerror or error}); {AGAIN}.") from error
        if digest.hexdigest() != shard.sha256:
            raise InputError(f"{_damage(path, [row for row in rows if row.shard == shard.name])}; {AGAIN}.")


def _damage(path: Path, rows: Sequence[ClipRow]) -> str:
    """What is wrong with a shard whose checksum differs."""
    places, fault = read_places(path)
    damaged = [row.key for row in rows if not _is_whole(path, places, row)]
    if damaged:
        more = f" and {len(damaged) - 1} more of its {len(rows)} clips are" if len(damaged) > 1 else " is"
        return (
            f"The shard '{path}' is damaged (its SHA-256 differs): the clip '{damaged[0]}'{more} not what was prepared"
        )
    # sets of older versions have no checksums of clips
    where = f", {fault}" if fault else f", one of its clips '{rows[0].key}' to '{rows[-1].key}'" if rows else ""
    return f"The shard '{path}' is damaged (its SHA-256 differs){where}"


def _is_whole(path: Path, places: Mapping[str, tuple[int, int]], row: ClipRow) -> bool:
    """Whether the files of a clip are there, its row can be read, and the others have the checksum that the list of clips gives."""
    files: dict[str, bytes] = {}
    with path.open("rb") as stream:
        for name, (offset, size) in places.items():
            key, _, ending = name.rpartition(".")
            if key == row.key:
                stream.seek(offset)
                files[ending] = stream.read(size)
    try:
        stored = parse_clip(files["json"].decode(), "The row")
    except (KeyError, UnicodeDecodeError, InputError):
        return False
    # a clip that was left out at the very end has another outcome in the list
    same = replace(stored, kept=row.kept, reason=row.reason, detail=row.detail) == row
    return same and row.sha256 in ("", files_sha256(files))
