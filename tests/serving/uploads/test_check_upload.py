"""Uploaded files are recognised by their content, decoded within limits, and open nothing but themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fantasytalking
from fantasytalking.errors import AudioError, ImageError, InputError, VideoError
from fantasytalking.media.audio import load_audio
from fantasytalking.media.container import open_media
from fantasytalking.media.image import load_image
from fantasytalking.media.video_writer import write_video
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.uploads import checking_process
from fantasytalking.serving.uploads.check_upload import check_upload
from fantasytalking.serving.uploads.file_kinds import (
    _INSIDE,
    _STARTS,
    _TYPES,
    FileTooLarge,
    UnknownFileKind,
    check_kind,
    content_type,
    recognise,
)
from tests.serving.uploads.attacks import AUDIO, IMAGES, mov_with_reference, picture, png_bomb, wav

EXAMPLE = Path(fantasytalking.__file__).parent / "models" / "embedded" / "example"


def put(folder: Path, content: bytes) -> Path:
    path = folder / "upload-0"
    path.write_bytes(content)
    return path


def limits(**changes: Any) -> ServerSettings:
    return ServerSettings(**{"check_seconds": 20.0, "speech_seconds": 60.0, **changes})


def test_a_portrait_becomes_plain_pixels(tmp_path: Path) -> None:
    shown = Image.open(EXAMPLE / "portrait.png").convert("RGB").rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 8
    exif[0x9286] = "where I live"
    path = tmp_path / "upload-0"
    shown.save(path, format="JPEG", exif=exif, quality=95)
    # what browsers and shells would take for something else
    path.write_bytes(path.read_bytes() + b"<script>alert(1)</script>PK\x03\x04")
    before = load_image(path)
    facts = check_upload(path, "image", limits())
    assert (facts.kind, facts.format, facts.height, facts.width) == ("image", "JPEG", *before.shape[:2])
    assert np.array_equal(load_image(path), before)
    stored = path.read_bytes()
    assert stored.startswith(b"\x89PNG") and b"script" not in stored and b"where I live" not in stored
    assert os.listdir(tmp_path) == ["upload-0"]


def test_speech_and_footage_stay_as_they_are(tmp_path: Path) -> None:
    path = put(tmp_path, (EXAMPLE / "speech.wav").read_bytes())
    facts = check_upload(path, "audio", limits())
    assert facts.seconds == pytest.approx(5.15, abs=0.01) and facts.format == "WAV" and facts.has_audio
    assert path.read_bytes() == (EXAMPLE / "speech.wav").read_bytes()
    film = tmp_path / "film.mp4"
    write_video(film, np.zeros((8, 48, 64, 3), np.uint8), 25.0)
    facts = check_upload(film, "video", limits())
    assert (facts.width, facts.height, facts.frames, facts.fps, facts.has_audio) == (64, 48, 8, 25.0, False)


def test_a_name_and_an_ending_mean_nothing(tmp_path: Path) -> None:
    path = tmp_path / "portrait.mp3"
    shutil.copy(EXAMPLE / "portrait.png", path)
    assert check_kind(path, "image") == "PNG"
    with pytest.raises(UnknownFileKind, match="The audio is PNG, which is no audio; give a sound file"):
        check_kind(path, "audio")


def test_every_readable_kind_is_recognised() -> None:
    for form, name in (("PNG", "PNG"), ("JPEG", "JPEG"), ("WEBP", "WebP"), ("GIF", "GIF"), ("BMP", "BMP"), ("TIFF", "TIFF"),
                       ("AVIF", "AVIF or HEIC"), ("JPEG2000", "JPEG 2000"), ("PPM", "PPM")):  # fmt: skip
        assert recognise(picture(form)) == (name, "image"), form


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_whatever_is_sent_ends_in_one_sentence(tmp_path: Path, kind: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(wav(5.0))
    folder = tmp_path / "jobs"
    folder.mkdir()
    # those that start a decoder; all of them are sent by benchmarks/fuzz_serving.py
    decoded = {
        "image": ("truncated png", "bomb that lies", "tiff with a loop"),
        "audio": ("flac head", "mov that points elsewhere"),
    }
    for name, make in (IMAGES if kind == "image" else AUDIO)(secret).items():
        content = make()
        path = put(folder, content)
        if recognise(content[:1024]) is not None and name not in decoded[kind]:
            continue
        with pytest.raises(InputError) as told:
            check_upload(path, kind, limits())
        message = str(told.value)
        assert str(tmp_path) not in message and "\n" not in message and len(message) < 400, (name, message)
        assert os.listdir(folder) == ["upload-0"], name


def test_a_bomb_ends_at_the_limit_of_pixels(tmp_path: Path) -> None:
    path = put(tmp_path, png_bomb(8000, 8000))
    with pytest.raises(ImageError, match="more than 50 million pixels"):
        check_upload(path, "image", limits())
    assert len(path.read_bytes()) < 200_000


def test_speech_ends_at_the_limit_of_seconds(tmp_path: Path) -> None:
    path = put(tmp_path, wav(3.0))
    with pytest.raises(AudioError, match=r"lasts 3\.0 s and at most 2 s are accepted"):
        check_upload(path, "audio", limits(speech_seconds=2.0))


def test_footage_ends_at_its_limits(tmp_path: Path) -> None:
    film = tmp_path / "upload-0.mp4"
    write_video(film, np.zeros((50, 96, 128, 3), np.uint8), 25.0)
    with pytest.raises(VideoError, match=r"lasts 2\.0 s and at most 1 s"):
        check_upload(film, "video", limits(footage_seconds=1.0))
    with pytest.raises(VideoError, match=r"cannot be decoded|at most 4,096 pixels"):
        check_upload(film, "video", limits(video_pixels=4096))


def test_a_file_ends_at_its_limit_of_bytes(tmp_path: Path) -> None:
    path = put(tmp_path, wav(1.0))
    with pytest.raises(FileTooLarge, match="has 32,044 bytes and at most 2,000 are accepted"):
        check_upload(path, "audio", limits(audio_bytes=2000))


def test_a_link_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "upload-0"
    path.symlink_to(EXAMPLE / "portrait.png")
    with pytest.raises(UnknownFileKind, match="no plain file"):
        check_upload(path, "image", limits())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no limits of processes")
def test_memory_and_time_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow makes room for all pixels that the head claims
    path = put(tmp_path, png_bomb(13_000, 13_000, rows=10, colours=3))
    with pytest.raises(ImageError, match=r"more than 0\.5 GiB of memory"):
        check_upload(path, "image", limits(image_pixels=178_000_000, check_memory=512 * 1024 * 1024))
    # a process that hangs once its limits are set: it ends itself
    (tmp_path / "sitecustomize.py").write_text("import os, time\nos.nice = lambda _: time.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(fantasytalking.__file__).parents[1]}")
    begin = time.monotonic()
    with pytest.raises(ImageError, match="takes more than 1 s to decode"):
        check_upload(put(tmp_path, picture()), "image", limits(check_seconds=1.0))
    assert time.monotonic() - begin < 15


def test_the_process_that_decodes_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fantasytalking.serving.uploads.check_upload import _PASSED_ON

    assert not [name for name in _PASSED_ON if "TALKING" in name or "TOKEN" in name or name == "HOME"]
    assert checking_process.SLOW != 0


def test_no_file_makes_the_library_open_another(tmp_path: Path) -> None:
    """Without the service: what `generate` reads opens nothing but itself either."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(5.0))
    for name, make in AUDIO(secret).items():
        if name in ("too long", "silence", "wav of a billion channels", "mov that points elsewhere"):
            continue
        path = tmp_path / f"{name.replace(' ', '-')}.bin"
        path.write_bytes(make() or b"\0")
        with pytest.raises(AudioError):
            load_audio(path)


def test_a_film_that_points_elsewhere_stays_without_samples(tmp_path: Path) -> None:
    secret = tmp_path / "secret.raw"
    secret.write_bytes(b"\x55" * 64_000)
    path = tmp_path / "a.mov"
    path.write_bytes(mov_with_reference(str(secret)))
    with open_media(path, "audio", AudioError) as container:
        sizes = [bytes(packet) for packet in container.demux() if packet.size]
    assert not [data for data in sizes if b"\x55\x55" in data]


def test_frames_that_grow_end_at_the_limit_of_pixels(tmp_path: Path) -> None:
    """The head of a film says how large it is; a later frame may say something else."""
    film = tmp_path / "film.mp4"
    write_video(film, np.zeros((8, 96, 128, 3), np.uint8), 25.0)
    code = (
        "import sys; from fantasytalking.media.container import restrict_media; from fantasytalking.media.video import read_frames\n"
        "restrict_media(('mov', 'mp4'), int(sys.argv[2])); print(len(read_frames(sys.argv[1])[0]))"
    )
    for pixels, shown in ((128 * 96, "8\n"), (4096, "")):
        done = subprocess.run(
            [sys.executable, "-c", code, str(film), str(pixels)], capture_output=True, text=True, check=False
        )
        assert done.stdout == shown and ("cannot be decoded" in done.stderr) == (not shown)


@pytest.mark.parametrize(
    ("head", "is_picture", "kind"),
    [
        (picture(), True, ("image/png", ".png")),
        (wav(), False, ("audio/wav", ".wav")),
        (b"\0\0\0\x18ftypisom", True, ("video/mp4", ".mp4")),
        (b"\x1aE\xdf\xa3\x93B\x82\x88webm", False, ("video/webm", ".webm")),
        (b"\x1aE\xdf\xa3\x93B\x82\x88matroska", False, ("video/x-matroska", ".mkv")),
        (b"OggS", False, ("audio/ogg", ".ogg")),
        (b"OggS", True, ("video/ogg", ".ogv")),
        (b"<html><script>", False, ("application/octet-stream", "")),
    ],
)
def test_a_stored_upload_is_served_as_its_first_bytes_say(
    tmp_path: Path, head: bytes, is_picture: bool, kind: tuple[str, str]
) -> None:
    assert content_type(put(tmp_path, head), is_picture) == kind


def test_every_sound_and_film_that_is_accepted_has_a_content_type() -> None:
    known = {name for _, name, family in (*_STARTS, *((0, *one) for one in _INSIDE.values())) if family != "image"}
    assert known - {*_TYPES, "Ogg", "Matroska or WebM"} == set()
