"""Forms are read into a folder of ours, under names of ours, and no further than their limits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fantasytalking.errors import InputError, OutputError
from fantasytalking.serving.uploads.file_kinds import FileTooLarge, UnknownFileKind
from fantasytalking.serving.uploads.receive_form import FormError, ReceivedForm, receive_form

TYPE = "multipart/form-data; boundary=line"
LIMITS = {"image_reference": 1000, "audio_reference": 2000}


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """One part of a form."""
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--line\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


END = b"--line--\r\n"


def received(body: bytes, folder: Path, content_type: str = TYPE, step: int = 7) -> tuple[ReceivedForm, int]:
    """The form, and how many bytes of its body were read."""
    read = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal read
        for start in range(0, len(body), step):
            read += len(body[start : start + step])
            yield body[start : start + step]

    async def run() -> ReceivedForm:
        return await receive_form(content_type, pieces(), folder, LIMITS, most_files=3)

    return asyncio.run(run()), read


@pytest.mark.skipif(os.name != "posix", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    from tests.system.file_limit import file_limit

    body = part("image_reference", bytes(900), "a.png") + END
    with file_limit(500), pytest.raises(OutputError, match=r"could not store the file \(.*\); try again later"):
        received(body, tmp_path)


def test_a_form_is_read_whatever_the_pieces(tmp_path: Path) -> None:
    sound = bytes(range(256)) * 4
    body = part("prompt", "größer".encode()) + part("image_reference", b"pixels\r\n--lin", "a.png")
    body += part("audio_reference", sound, "b.wav") + part("seed", b"7") + END
    for step in (1, 5, 10_000):
        folder = tmp_path / str(step)
        folder.mkdir()
        form, _ = received(body, folder, step=step)
        assert form.fields == (("prompt", "größer"), ("seed", "7"))
        assert [one.field for one in form.files] == ["image_reference", "audio_reference"]
        assert [one.path.read_bytes() for one in form.files] == [b"pixels\r\n--lin", sound]


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "C:\\\\evil.exe", "..", "", "nul\\x00.png", "x" * 900])
def test_a_name_of_a_client_is_never_a_path(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    form, _ = received(part("image_reference", b"x", name) + END, folder)
    assert [one.path for one in form.files] == [folder / "upload-0"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside", "upload-0"]


def test_nothing_is_read_beyond_the_limit_of_a_file(tmp_path: Path) -> None:
    body = part("image_reference", b"x" * 1_000_000, "a.png") + END
    with pytest.raises(FileTooLarge, match="image_reference has more than 1,000 bytes"):
        received(body, tmp_path, step=100)
    assert (tmp_path / "upload-0").stat().st_size <= 1000


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"kept")
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "upload-0").symlink_to(target)
    with pytest.raises(FileExistsError):
        received(part("image_reference", b"x", "a.png") + END, folder)
    assert target.read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"", FormError, "cut off"),
        (part("prompt", b"x"), FormError, "cut off|damaged"),
        (part("image_reference", b"x", "a")[:-9], FormError, "cut off|damaged"),
        (b"nonsense" * 10, FormError, "damaged"),
        (b"--line\r\nX: y\r\n\r\nx\r\n" + END, FormError, "has no name"),
        (b"--line\r\nX: " + b"y" * 10_000 + b"\r\n\r\nx\r\n" + END, FormError, "damaged|too long headers"),
        (part("prompt", b"x" * 70_000) + END, FormError, "longer than 65,536"),
        (part("prompt", b"\xff\xfe") + END, FormError, "no text in UTF-8"),
        (part("other", b"x", "a") + END, UnknownFileKind, "'other' takes no file"),
        (b"".join(part("p", b"x") for _ in range(300)) + END, FormError, "more than 200 parts"),
        (b"".join(part("image_reference", b"x", "a") for _ in range(4)) + END, FormError, "more than 3 files"),
    ],
)
def test_a_bad_form_ends_in_one_sentence(tmp_path: Path, body: bytes, kind: type[InputError], says: str) -> None:
    with pytest.raises(kind, match=says):
        received(body, tmp_path, step=501)


def test_another_type_of_body_is_no_form(tmp_path: Path) -> None:
    for content_type in ("", "text/plain", "multipart/form-data", "multipart/mixed; boundary=line", "a;b;c" * 100):
        with pytest.raises(FormError, match="no multipart form with a boundary"):
            received(END, tmp_path, content_type)
