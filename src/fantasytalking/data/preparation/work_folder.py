"""The folder of a prepared set while it is being made: what is there already, whether it may go on, and who works in it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fantasytalking.data.preparation.shard_writer import json_text, write_json
from fantasytalking.errors import OutputError

__all__ = ["Plan", "WorkFolder", "opened_work", "read_json"]

_OURS = ("manifest.json", "clips.jsonl", "report.html", "report", "shards", "work")


@dataclass(frozen=True)
class Plan:
    """Everything that a set's shards depend on.

    Attributes:
        schema: version of the set's layout.
        settings: of the preparation.
        dealing: how candidates are dealt into shards.
        videos: the inputs, with fingerprints.
    """

    schema: int
    settings: dict[str, Any]
    dealing: dict[str, Any]
    videos: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """As it is stored."""
        return {"schema": self.schema, "settings": self.settings, "dealing": self.dealing, "videos": self.videos}

    @property
    def digest(self) -> str:
        """One short name for all of it."""
        return hashlib.sha256(json_text(self.as_dict()).encode()).hexdigest()[:16]

    def difference(self, stored: Mapping[str, Any]) -> str:
        """What is not as stored, in words; empty where all is."""
        if stored.get("schema") != self.schema:
            return f"it was begun with version {stored.get('schema')} of the layout, and this is version {self.schema}"
        for part in ("settings", "dealing"):
            then, now = stored.get(part, {}), getattr(self, part)
            changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
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


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where there is none or it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class WorkFolder:
    """Where a run keeps what.

    Attributes:
        root: the set.
        digest: of the plan; what another plan left behind is not used.
    """

    root: Path
    digest: str

    @property
    def running(self) -> Path:
        """Folder of what each worker is at."""
        return self.root / "work" / "running"

    def spans(self, key: str) -> Path:
        """What was found in a video."""
        return self.root / "work" / "spans" / f"{key}.json"

    def record(self, shard: str) -> Path:
        """What became of a shard's candidates."""
        return self.root / "work" / "shards" / f"{shard}.json"

    def tar(self, shard: str) -> Path:
        """A shard."""
        return self.root / "shards" / f"{shard}.tar"

    def stored(self, path: Path) -> dict[str, Any] | None:
        """A record of this plan, or None."""
        found = read_json(path)
        return found if isinstance(found, dict) and found.get("plan") == self.digest else None

    def make(self) -> None:
        """Make the folders; files that a killed run left half-written go away."""
        for folder in self._folders():
            folder.mkdir(parents=True, exist_ok=True)
        self.sweep()

    def sweep(self) -> None:
        """Delete files that a killed process left half-written; to be called while nobody writes."""
        for folder in (self.root, *self._folders()):
            for path in folder.glob(".*.part*"):
                path.unlink(missing_ok=True)

    def _folders(self) -> list[Path]:
        names = ("shards", "work", "work/spans", "work/shards", "work/running", "report")
        return [self.root / name for name in names]


@contextmanager
def opened_work(root: Path, plan: Plan, overwrite: bool) -> Iterator[WorkFolder]:
    """Take the folder of a set for this process, new or begun with the same plan.

    Args:
        root: the set.
        plan: what is to be made.
        overwrite: whether a set made otherwise is deleted first.

    Raises:
        OutputError: the folder holds something else or was begun otherwise, cannot be written, or another process works in it.
    """
    root = root.expanduser()
    with contextlib.ExitStack() as stack:
        try:
            different = _check(root, plan, overwrite)
            (root / "work").mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(root / "work" / "lock", "a"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if different:
                _clear(root)
            work = WorkFolder(root, plan.digest)
            work.make()
            write_json(root / "work" / "run.json", plan.as_dict())
        except BlockingIOError as error:
            raise OutputError(
                f"Another process is preparing '{root}'; wait for it, or choose another --output."
            ) from error
        except OSError as error:
            raise OutputError(
                f"The folder '{root}' cannot be written ({error.strerror or error}); choose another --output."
            ) from error
        yield work


def _check(root: Path, plan: Plan, overwrite: bool) -> bool:
    """Whether what is there was begun with another plan and has to go."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise OutputError(f"The output '{root}' is a file; give the name of a folder.")
    stored = read_json(root / "work" / "run.json")
    if stored is None and (manifest := read_json(root / "manifest.json")) is not None:
        stored = manifest.get("plan")
    if stored is None:
        strange = sorted(entry.name for entry in root.iterdir() if entry.name != "work")
        if strange:
            raise OutputError(
                f"The folder '{root}' holds something else than a prepared set ('{strange[0]}'); give an empty or new one."
            )
        return False
    different = plan.difference(stored)
    if different and not overwrite:
        raise OutputError(
            f"The set in '{root}' was begun otherwise: {different}; give what was given then, choose another --output, or pass "
            "--overwrite to make it anew."
        )
    return bool(different)


def _clear(root: Path) -> None:
    for name in _OURS:
        path = root / name
        if name == "work":
            # but for the lock, which is held
            for entry in path.iterdir():
                if entry.name != "lock":
                    _remove(entry)
        else:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
