"""Files and folders that appear complete or not at all: written under a hidden temporary name beside the target, then renamed."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from fantasytalking.errors import InputError, OutputError

__all__ = [
    "atomic_folder",
    "atomic_path",
    "check_name",
    "check_output",
    "existing_file",
    "full_disk_error",
    "only_full_disk_error",
    "remove_own_unfinished",
    "remove_unfinished",
    "replace_folder",
]

_FULL = {errno.ENOSPC: "the disk is full", errno.EFBIG: "the file would exceed the size limit"}
if hasattr(errno, "EDQUOT"):
    _FULL[errno.EDQUOT] = "the disk quota is used up"
_LONGEST_NAME = 255
# The second form is that of safetensors, which writes to a temporary file of its own.
_UNFINISHED = re.compile(r"\..+\.part(\.[^.]+)?|\.tmp[A-Za-z0-9]{6}")
# What this process is writing, with its number. An interrupt can come between any two instructions, so also between the creation
# of a file and the block that would remove it: a name is noted before its file is created and until it is gone.
_own: dict[Path, int] = {}


def check_name(path: str | os.PathLike[str], error: type[InputError]) -> None:
    """Check that no name in a path is longer than file systems take; every other call would raise a bare `OSError`.

    Args:
        path: A file or folder, which need not exist.
        error: The class to raise.

    Raises:
        InputError: As the given class: a name is too long, or all of the path is.
    """
    longest = max((len(os.fsencode(part)) for part in Path(path).parts), default=0)
    if longest <= _LONGEST_NAME:
        try:
            os.lstat(path)
            return
        except OSError as cause:
            if cause.errno != errno.ENAMETOOLONG:
                return
    reason = f"with a name of {longest} bytes" if longest > _LONGEST_NAME else f"of {len(os.fsencode(path))} bytes"
    raise error(
        f"The path '{path}', {reason}, is longer than the file system takes; use shorter names (at most {_LONGEST_NAME} bytes)."
    )


def existing_file(path: str | os.PathLike[str], what: str, error: type[InputError]) -> Path:
    """Check that a path names a readable file with something in it.

    Args:
        path: The file.
        what: How messages call it, such as "audio".
        error: The class to raise.

    Returns:
        The path, with a leading `~` expanded.

    Raises:
        InputError: As the given class: missing, a folder, empty, not readable, or its name is too long.
    """
    _refuse_no_path(path, f"{what} file", error)
    file = Path(path).expanduser()
    check_name(file, error)
    if file.is_dir():
        raise error(f"The {what} '{file}' is a folder; give the path of one file.")
    if not file.exists():
        # a path has one slash where an address has two
        address = re.sub(r"^(https?:)/+", r"\1//", os.fspath(path))
        if address.startswith(("http://", "https://")):
            raise error(f"The {what} '{address}' is an address on the network; download the file, and give its path.")
        raise error(f"The {what} file '{file}' does not exist; check the path.")
    if not os.access(file, os.R_OK):
        raise error(f"The {what} file '{file}' is not readable; change its permissions.")
    if file.is_file() and file.stat().st_size == 0:
        raise error(f"The {what} file '{file}' is empty (0 bytes); give a complete one.")
    return file


def check_output(path: str | os.PathLike[str], overwrite: bool = False, endings: Sequence[str] = ()) -> Path:
    """Check, before any long work, that a file can be written.

    Args:
        path: The file to write.
        overwrite: Whether an existing file may be replaced.
        endings: Endings that its name may have, with their dots; none means that any will do.

    Returns:
        The path, with a leading `~` expanded.

    Raises:
        OutputError: The path is too long or a folder, exists already, has another ending, or its folder is missing or not writable.
    """
    _refuse_no_path(path, "output", OutputError)
    target = Path(path).expanduser()
    check_name(target, OutputError)
    if target.is_dir():
        raise OutputError(f"The output '{target}' is a folder; give the name of a file in it.")
    if not target.name:
        raise OutputError(f"The output '{target}' has no file name; give one, such as 'out.mp4'.")
    if endings and target.suffix.lower() not in endings:
        what = f"ends in '{target.suffix}'" if target.suffix else "has no ending"
        raise OutputError(
            f"The output '{target}' {what}; accepted are {', '.join(endings)}, so name it '{target.with_suffix(endings[0]).name}'."
        )
    if target.exists() and not overwrite:
        raise OutputError(
            f"The output '{target}' exists already; choose another name, or pass --overwrite (in Python overwrite=True) to replace it."
        )
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"The output folder '{folder}' does not exist; create it or choose another one.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"The output folder '{folder}' is not writable; choose another one or change its permissions."
        )
    return target


def _refuse_no_path(path: object, what: str, error: type[InputError]) -> None:
    if not isinstance(path, str | os.PathLike):
        raise error(f"The {what} must be a path, but is of type {type(path).__name__}; give the name of one file.")
    if "\0" in os.fsdecode(path):
        raise error(f"The {what} {path!r} has a zero byte in its name; give the name of one file.")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it to `path` when the block ends well.

    The temporary file exists (empty) on entry, keeps the suffix of `path`, and is removed on any exception,
    `KeyboardInterrupt` included, so that neither a half-written file nor a temporary one is left.

    Args:
        path: The file to write.
        overwrite: Whether an existing file may be replaced; checked on entry and again before the rename.

    Yields:
        The path to write to.

    Raises:
        OutputError: The file cannot be written (see `check_output`), or the disk is full.
    """
    target = check_output(path, overwrite)
    # The stem is cut because a name near the limit of 255 bytes leaves no room for ours.
    temporary = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}.part{target.suffix}")
    _own[temporary] = os.getpid()
    try:
        _create(temporary, target)
        yield temporary
        if target.exists() and not overwrite:
            raise OutputError(
                f"The output '{target}' was created by someone else meanwhile; pass --overwrite to replace it."
            )
        os.replace(temporary, target)
        _own.pop(temporary, None)
    except BaseException as error:
        _remove(temporary)
        _raise_if_full(target, error)
        raise


def _create(temporary: Path, target: Path) -> None:
    try:
        # Not tempfile: its files are readable by the owner only, and the rename would keep that.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
    except OSError as error:
        _raise_if_full(target, error)
        raise OutputError(
            f"The output '{target}' cannot be written ({error.strerror}); choose another folder."
        ) from error


def _full_disk_reason(error: BaseException) -> str | None:
    """Why a disk took no more, if an exception or one of its causes says that; libraries wrap the system's error or quote it."""
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in _FULL:
            return _FULL[cause.errno]  # type: ignore[attr-defined]
        # "(os error 28)" is how Rust (safetensors) quotes it, "[Errno 28]" how Python's shutil does.
        for code, reason in _FULL.items():
            if re.search(rf"\(os error {code}\)|\[Errno {code}\]", str(cause)):
                return reason
        cause = cause.__cause__ or cause.__context__
    return None


def _raise_if_full(target: Path, error: BaseException, left: str = " (nothing was left behind)") -> None:
    reason = None if isinstance(error, OutputError) else _full_disk_reason(error)
    if reason is not None:
        raise OutputError(
            f"The output '{target}' could not be written because {reason}; free some space or choose another folder{left}."
        ) from error


@contextlib.contextmanager
def only_full_disk_error(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the failure of a full disk into an `OutputError`, for a block that may fail in other ways, too.

    Args:
        path: The file or folder that is written, for the message.

    Raises:
        OutputError: The disk is full, or a limit is reached.
    """
    try:
        yield
    except Exception as error:
        _raise_if_full(Path(path), error, left="")
        raise


@contextlib.contextmanager
def full_disk_error(path: str | os.PathLike[str], *kinds: type[Exception]) -> Iterator[None]:
    """Turn a failure to write (disk full, limit reached, disk error) into an `OutputError`.

    Args:
        path: The file or folder that is written, for the message.
        kinds: Exceptions of a library, besides `OSError`, that mean such a failure.

    Raises:
        OutputError: The block raised one of them.
    """
    caught: tuple[type[Exception], ...] = (OSError, *kinds)
    try:
        yield
    except caught as error:
        reason = _FULL.get(getattr(error, "errno", None) or 0) or getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"The output '{Path(path)}' could not be written ({reason}); free some space or choose another folder."
        ) from error


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `target`, and swap it in when the block ends well.

    On entry, what an earlier, killed process left is removed; on any exception, the temporary folder is.

    Args:
        target: The folder to write; one that exists is replaced.

    Yields:
        The folder to write to.

    Raises:
        OutputError: The disk is full.
    """
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    _own[temporary] = os.getpid()
    try:
        temporary.mkdir(parents=True)
        yield temporary
    except BaseException as error:
        _remove(temporary)
        _raise_if_full(target, error)
        raise
    # From here on it is complete, and an interrupt between two renames must not cost it.
    _own.pop(temporary, None)
    replace_folder(temporary, target)


def remove_own_unfinished() -> None:
    """Delete what this process began to write and will not finish: for its end, after an interrupt that no block could see."""
    for path in [path for path, process in list(_own.items()) if process == os.getpid()]:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
    _own.pop(path, None)


atexit.register(remove_own_unfinished)


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left half-written below a folder; no other process may be writing there."""
    for path in [p for p in folder.rglob(".*") if _UNFINISHED.fullmatch(p.name)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def replace_folder(new: Path, target: Path) -> None:
    """Rename a finished folder to its final name; a folder of that name stays in place until then.

    Args:
        new: The finished folder, beside `target`.
        target: The final name.
    """
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)
