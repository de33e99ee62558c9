"""A file appears complete or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fantasytalking.errors import ImageError, OutputError
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.system.files import (
    atomic_folder,
    atomic_path,
    check_output,
    existing_file,
    full_disk_error,
    only_full_disk_error,
    remove_unfinished,
)
from tests.media.files import left_over
from tests.system.file_limit import file_limit

EMBEDDED = embedded_folder()


def test_the_file_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".json"
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole" and left_over(tmp_path) == ["a.json"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_any_exception_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, kind: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half() -> None:
        with atomic_path(target, overwrite=True) as temporary:
            temporary.write_text("half")
            raise kind

    with pytest.raises(kind):
        write_half()
    assert target.read_text() == "old" and left_over(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["open", "close", "replace"])
def test_an_interrupt_right_after_any_call_of_the_system_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """An interrupt comes between two instructions, so also before the file's block has begun."""
    real: Callable[..., object] = getattr(os, call)

    def interrupted(*given: object) -> object:
        monkeypatch.undo()
        real(*given)
        raise KeyboardInterrupt

    def write() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("whole")
            assert call == "replace", "it was to be interrupted before"

    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write()
    # Once it has its name, the file is complete and stays.
    assert left_over(tmp_path) == (["a.txt"] if call == "replace" else [])


@pytest.mark.parametrize("made", ["atomic_path", "atomic_folder"])
def test_what_no_block_could_remove_is_removed_at_the_end_of_the_process_that_made_it(
    tmp_path: Path, made: str
) -> None:
    """A process that is forked from it, and ends earlier, leaves it alone."""
    script = f"""
import os, sys
from pathlib import Path
from fantasytalking.system import files
kept = files.{made}(Path(sys.argv[1]))
temporary = kept.__enter__()
files._own[temporary.with_name(".of another.part")] = 0
temporary.with_name(".of another.part").touch()
if os.fork() == 0:
    files.remove_own_unfinished()
    os._exit(not temporary.exists())
assert os.wait()[1] == 0 and temporary.exists()
# Nobody collects the block: the interrupt came before anything knew of it.
sys.modules["kept"] = kept
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.txt")], check=True)
    assert left_over(tmp_path) == [".of another.part"]


def test_an_existing_file_needs_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(OutputError, match="--overwrite"), atomic_path(target):
        raise AssertionError("the block must not run")
    with atomic_path(target, overwrite=True) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with pytest.raises(OutputError, match="meanwhile"), atomic_path(target):
        target.write_text("theirs")
    assert target.read_text() == "theirs" and left_over(tmp_path) == ["a.txt"]


def test_a_folder_or_a_missing_or_locked_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path)
    with pytest.raises(OutputError, match="does not exist; create it"):
        check_output(tmp_path / "none" / "a.mp4")
    (tmp_path / "none").mkdir()
    assert check_output(tmp_path / "none" / "a.mp4").name == "a.mp4"
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="does not exist"):
        check_output(tmp_path / "file" / "a.mp4")


@pytest.mark.parametrize("name", ["a", "a.txt", "a.b.", ".mp4"])
def test_the_name_that_is_advised_is_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="so name it") as caught:
        check_output(tmp_path / name, endings=(".mp4", ".mkv"))
    advised = re.search(r"so name it '(.+)'", str(caught.value))
    assert advised is not None
    check_output(tmp_path / advised[1], endings=(".mp4", ".mkv"))


@pytest.mark.skipif(
    not Path("/proc/version").exists(), reason="needs a folder that even the administrator cannot write"
)
def test_a_folder_without_write_permission_is_refused() -> None:
    with pytest.raises(OutputError, match=r"not writable|cannot be written"), atomic_path("/proc/a.mp4"):
        raise AssertionError("the block must not run")


def test_the_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    with atomic_path(tmp_path / ("n" * 251 + ".mp4")) as temporary:
        temporary.write_text("x")
    assert len(left_over(tmp_path)) == 1


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match="disk is full; free some space"):
        write_half()
    assert left_over(tmp_path) == []


def test_other_errors_of_the_block_keep_their_class(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "none").read_text()
    with pytest.raises(OutputError, match="could not be written"), full_disk_error(tmp_path / "a.txt"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_folder_appears_when_the_block_ends_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("old", "new"):
        with atomic_folder(target) as temporary:
            (temporary / content).touch()
            assert temporary.parent == tmp_path and not (target / content).exists()
        assert left_over(target) == [content] and left_over(tmp_path) == ["model"]


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model"
    (target / "old").mkdir(parents=True)
    (tmp_path / ".model.part" / "rest of a killed process").mkdir(parents=True)

    def write() -> None:
        with atomic_folder(target) as temporary:
            assert left_over(temporary) == []
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert left_over(target) == ["old"] and left_over(tmp_path) == ["model"]


def test_further_kinds_of_exceptions_can_mean_a_failed_write(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"could not be written \(muxer\)"), full_disk_error(tmp_path, RuntimeError):
        raise RuntimeError("muxer")
    with pytest.raises(RuntimeError), full_disk_error(tmp_path):
        raise RuntimeError("another matter")


def test_a_full_disk_is_told_in_a_sentence_whoever_wrote(tmp_path: Path) -> None:
    """safetensors quotes the system's error in a class of its own, NumPy's archive raises another one on top of it."""
    big = np.zeros(20_000)

    def write_npz(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, a=big)

    full = "could not be written because the file would exceed the size limit; free some space"
    writers: dict[str, Callable[[Path], object]] = {
        "text": lambda path: path.write_text("x" * 160_000),
        "safetensors": lambda path: save_file({"a": big}, path),
        "npz": write_npz,
        "copy": lambda path: shutil.copytree(EMBEDDED / "transformer", path.with_name("tree")),
    }
    for name, write in writers.items():
        if name != "copy":
            with file_limit(10_000), pytest.raises(OutputError, match=full), atomic_path(tmp_path / name) as temporary:
                write(temporary)
        with file_limit(10_000), pytest.raises(OutputError, match=full), atomic_folder(tmp_path / name) as folder:
            write(folder / "part")
    with pytest.raises(ValueError, match="another matter"), only_full_disk_error(tmp_path):
        raise ValueError("another matter")
    assert left_over(tmp_path) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a.txt", ".hidden", ".part", "b.part", "tracks/.a.stamp", "tracks/c.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    kept = sorted(tmp_path.rglob("*"))
    for name in (
        ".tmpvBbGbz",
        ".a.12ab34cd.part.txt",
        "tracks/.c.12ab34cd.part.safetensors",
        "tracks/.codec.12ab34cd.part",
    ):
        (tmp_path / name).touch()
    (tmp_path / ".model.part" / "vae").mkdir(parents=True)
    (tmp_path / ".model.part" / "vae" / ".x.part").touch()
    remove_unfinished(tmp_path)
    assert sorted(tmp_path.rglob("*")) == kept


@pytest.mark.parametrize("address", ["https://example.com/a.png", "http:/example.com/a.png"])
def test_an_address_in_place_of_a_path_is_called_one(address: str) -> None:
    with pytest.raises(
        ImageError, match=r"The image 'https?://example.com/a.png' is an address on the network; download"
    ):
        existing_file(Path(address), "image", ImageError)
