"""The folder of a prepared set while it is being prepared: what is finished, whether it may be resumed, and a lock against a second run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fantasytalking.errors import OutputError
from fantasytalking.pipeline.model_names import DEPRECATED_NAMES
from fantasytalking.system.folder_owner import owned
from fantasytalking.system.json import json_text, read_json, write_strict_json

__all__ = ["Plan", "WorkFolder", "open_work_folder"]

LOCK = "work/lock"
_PARTS = ("manifest.json", "clips.jsonl", "report.html", "report", "shards", "work")


@dataclass(frozen=True)
class Plan:
    """Everything that a set's shards depend on.

    Attributes:
        schema: Version of the set's layout.
        settings: Fields of `PreparationSettings`, and fingerprints of the model's weights.
        dealing: How candidates are assigned to shards: {"clips_per_shard"}.
        videos: Videos with their fingerprints, see `ListedVideo.as_dict`.
    """

    schema: int
    settings: dict[str, Any]
    dealing: dict[str, Any]
    videos: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, as they are stored."""
        return {"schema": self.schema, "settings": self.settings, "dealing": self.dealing, "videos": self.videos}

    @property
    def digest(self) -> str:
        """Short hash of all fields, 16 hexadecimal digits."""
        return _digest(self.as_dict())

    def newer_settings(self, stored: Mapping[str, Any]) -> list[str]:
        """Settings that did not exist yet when a stored plan was made: a set of that plan was made without their rules.

        Args:
            stored: What `as_dict` gave.
        """
        return sorted(self.settings.keys() - stored.get("settings", {}).keys())

    def difference(self, stored: Mapping[str, Any]) -> str:
        """Describe how this plan differs from a stored one; empty if it does not, `newer_settings` aside.

        Args:
            stored: What `as_dict` gave.
        """
        if stored.get("schema") != self.schema:
            return f"it was begun with version {stored.get('schema')} of the layout, and this is version {self.schema}"
        for part in ("settings", "dealing"):
            then, now = dict(stored.get(part, {})), getattr(self, part)
            if "model" in then:
                then["model"] = DEPRECATED_NAMES.get(then["model"], then["model"])
            changed = sorted(name for name in then if then[name] != now.get(name))
            if changed:
                shown = ", ".join(f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in changed[:3])
                return shown + (f" and {len(changed) - 3} more differ" if len(changed) > 3 else "")
        before = {video["key"]: video for video in stored.get("videos", [])}
        after = {video["key"]: video for video in json.loads(json_text(self.videos))}
        new, gone = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
        other = sorted(key for key in after.keys() & before.keys() if after[key] != before[key])
        for keys, what in ((new, "new"), (gone, "gone"), (other, "not what it was")):
            if keys:
                more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
                return f"the video {keys[0]}{more} is {what}"
        return ""


def _digest(plan: Mapping[str, Any]) -> str:
    return hashlib.sha256(json_text(plan).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class WorkFolder:
    """Paths of the files of a run.

    Attributes:
        root: Folder of the set.
        digest: Digest of the plan; records of another plan are not used.
    """

    root: Path
    digest: str

    @property
    def running(self) -> Path:
        """Folder of files that say what each worker is working on."""
        return self.root / "work" / "running"

    def spans(self, key: str) -> Path:
        """Record of the spans that were found in a video."""
        return self.root / "work" / "spans" / f"{key}.json"

    def record(self, shard: str) -> Path:
        """Record of the outcome of a shard's candidates."""
        return self.root / "work" / "shards" / f"{shard}.json"

    def tar(self, shard: str) -> Path:
        """Path of a shard."""
        return self.root / "shards" / f"{shard}.tar"

    def load(self, path: Path) -> dict[str, Any] | None:
        """Read a record; None if it is missing, damaged or belongs to another plan."""
        found = read_json(path)
        return found if isinstance(found, dict) and found.get("plan") == self.digest else None

    def create(self) -> None:
        """Create the folders, and delete what a killed run left half-written."""
        for folder in self._folders():
            folder.mkdir(parents=True, exist_ok=True)
        self.remove_partial_files()

    def remove_partial_files(self) -> None:
        """Delete files that a killed process left half-written; call it only while nobody writes."""
        for folder in (self.root, *self._folders()):
            for path in folder.glob(".*.part*"):
                path.unlink(missing_ok=True)

    def _folders(self) -> list[Path]:
        names = ("shards", "work", "work/spans", "work/shards", "work/running", "report")
        return [self.root / name for name in names]


@contextmanager
def open_work_folder(
    root: Path, plan: Plan, overwrite: bool, tell: Callable[[str], None] | None = None
) -> Iterator[WorkFolder]:
    """Own the folder of a set within the block; it is new or was begun with the same plan.

    Args:
        root: Folder of the set.
        plan: The plan of this run.
        overwrite: Whether to delete a set of another plan first.
        tell: Receives a sentence if an earlier preparation was killed, see `owned`.

    Raises:
        OutputError: The folder holds something else or a set of another plan, cannot be written, or another process is preparing it.
    """
    root = root.expanduser()
    with _unwritable(root):
        # Before the folder is made or touched, and again when nobody else changes it.
        _check(root, plan, overwrite)
    with owned(root, "preparing", file=LOCK, kind="folder of the set", tell=tell):
        with _unwritable(root):
            different, stored = _check(root, plan, overwrite)
            if different:
                _clear(root)
            # the records of a set that was begun under the model's former name carry the digest of that plan
            begun = plan.as_dict() if different or stored is None else stored
            work = WorkFolder(root, _digest(begun))
            work.create()
            write_strict_json(root / "work" / "run.json", begun)
        yield work


@contextmanager
def _unwritable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The folder '{root}' cannot be written ({error.strerror or error}); choose another --output."
        ) from error


def _check(root: Path, plan: Plan, overwrite: bool) -> tuple[bool, dict[str, Any] | None]:
    """Whether existing output belongs to another plan and has to be deleted, and that plan, if there is any."""
    if not root.exists():
        return False, None
    if not root.is_dir():
        raise OutputError(f"The output '{root}' is a file; give the name of a folder.")
    stored = read_json(root / "work" / "run.json")
    if stored is None and (manifest := read_json(root / "manifest.json")) is not None:
        stored = manifest.get("plan")
    if stored is None:
        strange = sorted(entry.name for entry in root.iterdir() if entry.name != "work")
        if strange:
            raise OutputError(
                f"The folder '{root}' holds something other than a prepared set ('{strange[0]}'); give an empty or new one."
            )
        return False, None
    different, newer = plan.difference(stored), plan.newer_settings(stored)
    if newer and not different:
        different = f"by an older release, which did not know {', '.join(newer)}"
    if different and not overwrite:
        raise OutputError(
            f"The set in '{root}' was begun differently: {different}; repeat the original command, choose another --output, or pass "
            "--overwrite to replace it."
        )
    return bool(different), stored


def _clear(root: Path) -> None:
    for name in _PARTS:
        path = root / name
        if name == "work":
            # all but the lock, which is held
            for entry in path.iterdir():
                if entry != root / LOCK:
                    _remove(entry)
        else:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
