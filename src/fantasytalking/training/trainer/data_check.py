"""Verification of a prepared set that a run trains on: at once if it is small, otherwise while the run goes on.

The run folder records what was verified, so that a resumed run does not read an unchanged set again.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from fantasytalking.data.prepared_set import PreparedSet
from fantasytalking.data.set_records import CLIPS, MANIFEST
from fantasytalking.errors import InputError
from fantasytalking.pipeline.progress import show_note, stage
from fantasytalking.system.digests import json_sha256
from fantasytalking.system.json import read_json_object, write_json
from fantasytalking.training.trainer.run_folder import run_in_progress

__all__ = ["check_set", "raise_if_damaged", "wait_for_check"]

AT_ONCE = 1 << 30
"""Size in bytes up to which a set is verified before anything else, which takes seconds."""
RECORD = "verified.json"
_TOLD_EVERY = 300.0


class _StoppedError(Exception):
    """The run ended before its data were verified."""


class BackgroundCheck:
    """Verifies a set in a thread.

    Args:
        prepared: The set.
        record: File that records the result.
    """

    def __init__(self, prepared: PreparedSet, record: Path) -> None:
        self.prepared, self.record = prepared, record
        self.error: BaseException | None = None
        self._done, self._told = 0, time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="verify", daemon=True)
        self._thread.start()

    def raise_if_damaged(self) -> None:
        """Raise what was found so far.

        Raises:
            InputError: The set is damaged.
        """
        if isinstance(self.error, InputError):
            raise InputError(
                f"{self.error} This run may have trained on the damage meanwhile, so begin again in another --output after the repair."
            ) from self.error
        if self.error is not None:
            raise self.error

    def wait(self) -> None:
        """Wait for the end, and raise what was found."""
        if self._thread.is_alive():
            show_note("Training is done; waiting until the set is verified.")
        self._thread.join()
        self.raise_if_damaged()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.prepared.verify(self._advance)
            _note_verified(self.prepared, self.record)
            show_note("The set is as it was prepared.")
        except _StoppedError:
            pass
        except BaseException as error:
            self.error = error

    def _advance(self, size: int) -> None:
        if self._stop.is_set():
            raise _StoppedError
        self._done += size
        if time.monotonic() - self._told > _TOLD_EVERY:
            self._told = time.monotonic()
            show_note(f"{_gigabytes(self._done)} of {_gigabytes(_size(self.prepared))} of the set are verified.")


def check_set(prepared: PreparedSet, verify: bool = True) -> None:
    """Compare a set with its checksums, at once or in the background; only the first process of a distributed run does so.

    A set that the run has verified and that has not changed since, by sizes and times of its files, is not read again. In the background,
    `raise_if_damaged` and `wait_for_check` raise the error.

    Args:
        prepared: The set.
        verify: Whether to do it; otherwise a note says what is left out.

    Raises:
        InputError: The set is damaged.
    """
    if int(os.environ.get("RANK", 0)) > 0:
        return
    if not verify:
        show_note(
            "The checksums of the shards are not verified (--no-verify): damaged pictures, sounds and arrays would be trained on "
            "unnoticed; only the sizes of the shards and the list of clips are checked."
        )
        return
    run = run_in_progress()
    record = None if run is None else run.output / RECORD
    if record is not None and read_json_object(record).get("state") == _state(prepared):
        return
    size = _size(prepared)
    if run is not None and record is not None and size > AT_ONCE:
        show_note(
            f"Verifying the checksums of the set ({_gigabytes(size)}) while the run goes on; --no-verify leaves it out."
        )
        run.check = BackgroundCheck(prepared, record)
        run.at_end.callback(run.check.stop)
        return
    with stage("verifying, MB", size / 1e6) as advance:
        prepared.verify(lambda read: advance(read / 1e6))
    if record is not None:
        _note_verified(prepared, record)


def raise_if_damaged() -> None:
    """Stop a run whose data have turned out to be damaged.

    Raises:
        InputError: They have.
    """
    run = run_in_progress()
    if run is not None and run.check is not None:
        run.check.raise_if_damaged()


def wait_for_check() -> None:
    """Wait until the data of a run are verified, before its result is written.

    Raises:
        InputError: They are damaged.
    """
    run = run_in_progress()
    if run is not None and run.check is not None:
        run.check.wait()


def _note_verified(prepared: PreparedSet, record: Path) -> None:
    write_json(record, {"set": str(prepared.folder.resolve()), "state": _state(prepared)}, indent=1)


def _state(prepared: PreparedSet) -> str:
    """Digest of the checksums, sizes and times of a set's files."""
    shards = [prepared.shard(shard.name) for shard in prepared.manifest.shards]
    files = [prepared.folder / MANIFEST, prepared.folder / CLIPS, *shards]
    found = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return json_sha256([prepared.fingerprint, found])


def _size(prepared: PreparedSet) -> int:
    return sum(shard.bytes for shard in prepared.manifest.shards)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
