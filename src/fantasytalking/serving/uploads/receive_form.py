"""Receive a multipart form: files go straight into a folder of ours under names of ours, and stop at the limit of their kind.

A framework's own reading of forms keeps files in the system's temporary folder, whatever their size, until all have arrived.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fantasytalking.errors import InputError, OutputError
from fantasytalking.serving.uploads.file_kinds import FileTooLarge, UnknownFileKind

__all__ = ["FormError", "ReceivedFile", "ReceivedForm", "receive_form", "storing"]

_MOST_PARTS = 200
_HEADER_BYTES = 4096
_FIELD_BYTES = 65536


class FormError(InputError):
    """The body of a request is no readable form."""


@dataclass(frozen=True)
class ReceivedFile:
    """One file of a form.

    Attributes:
        field: Name of its field.
        path: Where it was stored.
        bytes: Its size.
    """

    field: str
    path: Path
    bytes: int


@dataclass(frozen=True)
class ReceivedForm:
    """What a form held, in the order in which it was sent.

    Attributes:
        fields: Name and text of each field that is no file.
        files: Its files.
    """

    fields: tuple[tuple[str, str], ...]
    files: tuple[ReceivedFile, ...]


async def receive_form(
    content_type: str, body: AsyncIterator[bytes], folder: Path, limits: Mapping[str, int], most_files: int
) -> ReceivedForm:
    """Read a form to its end.

    Args:
        content_type: Header of the request.
        body: Its body, such as `request.stream()`.
        folder: Existing folder for the files, which are called `upload-0`, `upload-1`, ...
        limits: Most bytes of a file by the name of its field; files of other fields are refused.
        most_files: Most files.

    Raises:
        FormError: It is no form of this kind, is cut off, or has too many parts, a part with too long headers, or a field that is too long.
        FileTooLarge: A file is larger than its limit; nothing is read beyond it.
        UnknownFileKind: A file is sent in a field that takes none.
        OutputError: The disk is full.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 200:
        raise FormError("The request is no multipart form with a boundary; send it as multipart/form-data or as JSON.")
    reader = _Reader(folder, limits, most_files)
    parser = MultipartParser(boundary, reader.callbacks())
    try:
        async for chunk in body:
            # Written here and not in a thread: a chunk is small, and the page cache takes it.
            with storing():
                parser.write(chunk)
        parser.finalize()
    except FormParserError:
        raise FormError("The form is damaged; send it again.") from None
    finally:
        reader.close()
    if not reader.complete:
        raise FormError("The form is cut off before its end; send it again.")
    return ReceivedForm(tuple(reader.fields), tuple(reader.files))


@contextlib.contextmanager
def storing() -> Iterator[None]:
    """Turn a failure to store what a client sends into one sentence.

    Raises:
        OutputError: The disk is full or broken.
    """
    try:
        yield
    except FileExistsError:
        # a name of ours is taken, which is no matter of room
        raise
    except OSError as error:
        raise OutputError(f"The server could not store the file ({error.strerror}); try again later.") from error


class _Reader:
    """What the parser calls; python-multipart gives pieces of a buffer with their start and end."""

    def __init__(self, folder: Path, limits: Mapping[str, int], most_files: int) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[ReceivedFile] = []
        self.complete = False
        self._folder, self._limits, self._most_files = folder, limits, most_files
        self._parts = 0
        self._header = self._value = self._disposition = b""
        self._header_bytes = 0
        self._name = ""
        self._text = bytearray()
        self._file: BinaryIO | None = None
        self._path = folder
        self._size = 0

    def callbacks(self) -> Any:
        """The methods by the names under which the parser knows them."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def close(self) -> None:
        if self._file is not None:
            # on a full disk it fails as the writing did, which is what is told
            with contextlib.suppress(OSError):
                self._file.close()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise FormError(f"The form has more than {_MOST_PARTS} parts; leave out what is not needed.")
        self._disposition, self._header_bytes = b"", 0

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += self._bounded(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._bounded(data[start:end])

    def _bounded(self, piece: bytes) -> bytes:
        self._header_bytes += len(piece)
        if self._header_bytes > _HEADER_BYTES:
            raise FormError("A part of the form has too long headers; shorten the name of the file.")
        return piece

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_end(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise FormError("A part of the form has no name; send every part as form-data with a name.")
        self._name = options[b"name"].decode("utf-8", "replace")
        # the name that a client gives its file is not looked at
        if b"filename" in options or b"filename*" in options:
            self._open()
        else:
            self._text.clear()

    def _open(self) -> None:
        if self._name not in self._limits:
            accepted = ", ".join(self._limits)
            raise UnknownFileKind(f"The field {self._name[:64]!r} takes no file; files are {accepted}.")
        if len(self.files) >= self._most_files:
            raise FormError(f"The form has more than {self._most_files} files; send fewer.")
        self._path = self._folder / f"upload-{len(self.files)}"
        # a new file of ours: an existing one, or a link, is an error
        self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._size = 0

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            self._text += data[start:end]
            if len(self._text) > _FIELD_BYTES:
                raise FormError(f"The field {self._name[:64]!r} is longer than {_FIELD_BYTES:,} bytes; shorten it.")
            return
        self._size += end - start
        if self._size > self._limits[self._name]:
            raise FileTooLarge(
                f"The file of {self._name} has more than {self._limits[self._name]:,} bytes; give a smaller one."
            )
        self._file.write(data[start:end])

    def _part_end(self) -> None:
        if self._file is None:
            try:
                self.fields.append((self._name, self._text.decode()))
            except UnicodeDecodeError:
                raise FormError(f"The field {self._name[:64]!r} is no text in UTF-8; send it as such.") from None
            return
        self._file.close()
        self._file = None
        self.files.append(ReceivedFile(self._name, self._path, self._size))

    def _end(self) -> None:
        self.complete = True
