"""Any portrait becomes upright RGB, or one clear sentence."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from fantasytalking.errors import ImageError
from fantasytalking.media.image import load_image

RED, GREEN, BLUE, GREY = (200, 30, 40), (20, 180, 60), (30, 60, 210), (128, 128, 128)


def quarters(height: int = 60, width: int = 80) -> np.ndarray:
    """Red top left, green top right, blue bottom left, grey bottom right."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, GREY
    return picture


def close(one: np.ndarray, other: np.ndarray, tolerance: float = 4.0) -> bool:
    return one.shape == other.shape and float(np.abs(one.astype(float) - other).mean()) < tolerance


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif", "a.gif", "a.avif", "a.ppm", "a.jp2"])
def test_every_common_format_is_read(tmp_path: Path, name: str) -> None:
    Image.fromarray(quarters()).save(tmp_path / name)
    image = load_image(tmp_path / name)
    assert image.dtype == np.uint8 and image.flags.c_contiguous and image.flags.writeable
    assert close(image, quarters(), 6.0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_the_exif_rotation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    upright = quarters()
    flat, turned = np.fliplr(upright), orientation >= 5
    # What the camera stored, so that the orientation's turn gives the upright picture back.
    stored = {
        1: upright, 2: flat, 3: np.rot90(upright, 2), 4: np.flipud(upright), 5: upright.swapaxes(0, 1),
        6: np.rot90(upright), 7: np.rot90(upright.swapaxes(0, 1), 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif)
    with Image.open(tmp_path / name) as file:
        assert (file.size == (60, 80)) == turned
    assert close(load_image(tmp_path / name), upright, 6.0)


def test_a_damaged_exif_block_does_not_spoil_the_picture(tmp_path: Path) -> None:
    Image.fromarray(quarters()).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x01\x02")
    assert close(load_image(tmp_path / "a.jpg"), quarters(), 6.0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparency_lies_over_white(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 32, 64))
    picture.convert(mode).save(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    image = load_image(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    assert (image[:, :32] == 255).all() and (image[:, 32:] == 0).all()


def test_half_transparency_is_half_white() -> None:
    image = load_image(Image.new("RGBA", (64, 64), (0, 0, 0, 128)))
    assert np.abs(image.astype(int) - 127).max() <= 1


def test_the_transparent_colour_of_an_rgb_png_is_white(tmp_path: Path) -> None:
    Image.fromarray(quarters()).save(tmp_path / "a.png", transparency=RED)
    image = load_image(tmp_path / "a.png")
    assert (image[:30, :40] == 255).all() and tuple(image[0, 50]) == GREEN


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_grey_pictures_keep_their_tones(tmp_path: Path, kind: Any) -> None:
    ramp = np.tile(np.linspace(0.0, 1.0, 64), (64, 1))
    scale = 1.0 if kind is np.float32 else 65535.0
    Image.fromarray((ramp * scale).astype(kind)).save(tmp_path / "a.tif")
    image = load_image(tmp_path / "a.tif")
    assert np.abs(image[..., 0].astype(float) - ramp * 255.0).max() <= 1.0
    assert (image[..., 0] == image[..., 2]).all()


def test_a_16_bit_png_keeps_its_tones(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    assert np.abs(load_image(tmp_path / "a.png")[..., 1].astype(float) - ramp / 257.0).max() <= 1.0


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    picture = Image.fromarray(quarters())
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        converted = ImageCms.applyTransform(picture, to_lab)
        assert converted is not None
    else:
        converted = picture.quantize(8) if mode == "P" else picture.convert(mode)
    image = load_image(converted)
    assert image.shape == (60, 80, 3)
    if mode not in ("1", "L"):
        assert close(image, quarters(), 6.0)


def test_an_inverted_cmyk_jpeg_has_its_true_colours(tmp_path: Path) -> None:
    Image.fromarray(quarters()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert close(load_image(tmp_path / "a.jpg"), quarters(), 8.0)


def test_a_broken_colour_profile_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(quarters()).save(tmp_path / "a.png", icc_profile=b"no profile at all")
    assert close(load_image(tmp_path / "a.png"), quarters(), 0.5)


def test_a_grey_profile_and_an_srgb_profile_change_nothing(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(quarters()).save(tmp_path / "a.png", icc_profile=profile)
    assert close(load_image(tmp_path / "a.png"), quarters(), 1.5)
    Image.fromarray(quarters()).convert("L").save(tmp_path / "b.png", icc_profile=profile)
    assert load_image(tmp_path / "b.png").shape == (60, 80, 3)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, name: str) -> None:
    others = [Image.new("RGB", (80, 60), colour) for colour in ("black", "white")]
    Image.fromarray(quarters()).save(tmp_path / name, save_all=True, append_images=others, duration=100)
    assert close(load_image(tmp_path / name), quarters(), 6.0)


def test_a_phone_picture_with_a_second_one_inside_gives_the_first(tmp_path: Path) -> None:
    second = Image.new("RGB", (80, 60), "black")
    Image.fromarray(quarters()).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert close(load_image(tmp_path / "a.jpg"), quarters(), 6.0)


def test_arrays_of_common_types_are_accepted() -> None:
    picture = quarters()
    assert (load_image(picture) == picture).all()
    assert np.abs(load_image(picture / 255.0).astype(int) - picture).max() <= 1
    assert (load_image(picture.astype(np.uint16) * 257) == picture).all()
    assert load_image(picture[..., 0]).shape == load_image(picture[..., :1]).shape == (60, 80, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 64, 64), np.uint8),
        np.zeros((64, 64, 2), np.uint8),
        np.zeros((0, 64, 3), np.uint8),
        np.full((64, 64, 3), 127.0),
        np.full((64, 64, 3), 256, np.int64),
        np.zeros(64, np.uint8),
    ],
    ids=["channels first", "two channels", "empty", "float to 255", "int64 beyond a byte", "one axis"],
)
def test_other_arrays_are_refused_with_what_is_accepted(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"The image array .*; give"):
        load_image(array)


def test_what_is_no_image_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    for name, reason in {
        "none.png": "does not exist",
        "empty.png": r"empty \(0 bytes\)",
        "text.png": "not an image that can be read; give a JPEG",
        "drawing.svg": "vector drawing",
        "photo.heic": r"HEIC(: install .*fantasytalking\[heif\]'.*save it as JPEG|, and damaged)",
        "film.mp4": "a video: save one of its frames",
    }.items():
        with pytest.raises(ImageError, match=reason):
            load_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.gif"])
def test_a_truncated_image_is_refused(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"damaged|cannot be opened|not an image"):
        load_image(tmp_path / name)


@pytest.mark.parametrize("size", [(1, 1), (31, 500), (500, 8)])
def test_a_tiny_image_is_refused_with_its_size(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=rf"is {size[0]} x {size[1]} px; at least 32 px"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16"])
def test_a_large_image_is_reduced_with_a_warning(tmp_path: Path, mode: str) -> None:
    wide = np.kron(quarters()[::30, ::40], np.ones((450, 600, 1))).astype(np.uint8)
    picture = Image.fromarray(wide).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    picture.save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="1200 x 900 px and was reduced to 400 x 300"):
        image = load_image(tmp_path / "a.png", max_side=400)
    expected = np.array(
        Image.fromarray(wide).convert("L" if mode == "I;16" else "RGB").convert("RGB").resize((400, 300))
    )
    assert close(image, expected, 3.0)


def test_a_size_that_no_block_divides_is_reduced_evenly() -> None:
    ramp = np.tile(np.linspace(0.0, 1.0, 2999), (1301, 1))
    with pytest.warns(UserWarning, match="reduced to 500 x 217"):
        image = load_image(ramp, max_side=500)
    assert image.shape == (217, 500, 3)
    assert np.abs(image[100, :, 0] - np.linspace(0, 255, 500)).max() < 2.0


_MEASURE = """
import resource, sys, warnings
warnings.simplefilter("ignore")
from fantasytalking.media.image import load_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = load_image(sys.argv[1])
print(image.shape, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
@pytest.mark.parametrize(("name", "megabytes"), [("a.jpg", 200), ("a.png", 560)])
def test_12000_by_9000_pixels_are_read_within_bounded_memory(tmp_path: Path, name: str, megabytes: int) -> None:
    Image.new("RGB", (12000, 9000), RED).save(tmp_path / name, compress_level=1)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / name)], capture_output=True, text=True, check=True
    )
    shape, used = done.stdout.rsplit(" ", 1)
    # A PNG of 108 million pixels takes 432 MB in Pillow's decoder; the rest of the work must not take it again.
    assert shape == "(3072, 4096, 3)" or shape == "(3000, 4000, 3)"
    assert int(used) < megabytes


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    Image.new("1", (1, 1)).save(header, "PNG")
    data = bytearray(header.getvalue())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bytes(data))
    with pytest.raises(ImageError, match="more than 178 million pixels"):
        load_image(tmp_path / "bomb.png")


def test_an_ordinary_image_is_read_without_any_warning(tmp_path: Path) -> None:
    Image.fromarray(quarters()).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.heic", "a.heif", "a.avif"])
def test_photos_of_phones_are_read_upright(tmp_path: Path, name: str) -> None:
    # Photos of phones carry their rotation twice; in HEIC the one of the container counts.
    if name == "a.avif":
        if not features.check("avif"):
            pytest.skip("this Pillow is built without AVIF")
    else:
        pytest.importorskip("pillow_heif", reason="the extra 'heif' is not installed").register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise for display
    upright = Image.fromarray(quarters(96, 64))
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / name, exif=exif.tobytes(), quality=95)
    image = load_image(tmp_path / name)
    assert image.shape == (96, 64, 3)
    centres = (slice(16, 96, 64), slice(12, 64, 40))
    assert np.abs(image[centres].astype(int) - np.asarray(upright)[centres]).max() < 24
