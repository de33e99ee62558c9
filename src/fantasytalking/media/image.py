"""Portraits in any common format, read as upright 8-bit RGB.

Dimensions: H height, W width.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, UnidentifiedImageError

from fantasytalking.errors import ImageError, OutOfMemory
from fantasytalking.media.python_inputs import image_array
from fantasytalking.system.files import existing_file

__all__ = ["MAX_SIDE", "MIN_SIDE", "load_image"]

MAX_SIDE = 4096
MIN_SIDE = 32

# Named one by one because Pillow's own list also holds formats that start other programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "ICO", "DIB", "HEIF")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc", b"hevx")
_ACCEPTED = "JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BAND_PIXELS = 4_000_000

Pixels = npt.NDArray[np.uint8]


def load_image(
    source: str | os.PathLike[str] | Image.Image | npt.ArrayLike, max_side: int = MAX_SIDE, min_side: int = MIN_SIDE
) -> Pixels:
    """Read a portrait: upright by its EXIF rotation, in sRGB, transparency over white, the first frame of several.

    Args:
        source: A file, a Pillow image, or an array, nested lists or a tensor: uint8, uint16, whole numbers in 0..255 or float in 0..1,
            of [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (RGBA); a tensor may have its channels first.
        max_side: Longest side of the result in pixels; larger images are reduced to it, with a warning, and with little
            more memory than their own decoder needs.
        min_side: Shortest accepted side in pixels.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        ImageError: It is none of these; the file is missing, empty, no image, corrupt, too small, or has more than
            179 million pixels (twice `PIL.Image.MAX_IMAGE_PIXELS`, Pillow's bound against decompression bombs).
        OutOfMemory: It does not fit into memory.
    """
    if isinstance(source, list | tuple) and len(source) == 1 and not isinstance(source[0], list | tuple):
        # Other pipelines take a list of pictures.
        source = source[0]
    if isinstance(source, Image.Image):
        return _rgb(_loaded(source), "picture", max_side, min_side)
    if not isinstance(source, str | os.PathLike):
        if isinstance(source, list | tuple) and any(isinstance(one, Image.Image | str | os.PathLike) for one in source):
            raise ImageError(f"A list of {len(source)} pictures was given; give one portrait.")
        return _rgb(_image_of(image_array(source)), "array", max_side, min_side)
    file = existing_file(source, "image", ImageError)
    name = f"file '{file}'"
    with _opened(file, name) as image:
        try:
            return _rgb(image, name, max_side, min_side)
        except ImageError:
            raise
        except MemoryError as error:
            raise OutOfMemory(f"The image {name} does not fit into memory; give a smaller copy of it.") from error
        except Exception as error:
            # Decoders of damaged files raise OSError, SyntaxError, ValueError, struct.error, zlib.error and more.
            raise ImageError(
                f"The image {name} is damaged or incomplete ({error}); give another copy of it."
            ) from error


def _loaded(image: Image.Image) -> Image.Image:
    try:
        return image.copy()
    except Exception as error:
        # Pillow reads pixels only now, and its file may be closed or damaged.
        raise ImageError(f"The Pillow image cannot be read ({error}); load it before its file is closed.") from error


def _opened(file: Path, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Above 89 million pixels Pillow warns; reducing them is what happens here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # Pillow loads the readers of all formats, fifty modules, when it is asked for one that is not among the five usual ones.
            Image.preinit()
            with contextlib.suppress(UnidentifiedImageError):
                return Image.open(file, formats=_readable())
            return Image.open(file, formats=_formats())
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise ImageError(
            f"The image {name} has more than {limit} million pixels; reduce it to {MAX_SIDE} px or less first."
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"The {name} is not an image that can be read{_guess(file)}; give a {_ACCEPTED} picture of a face."
        ) from error
    except Exception as error:
        raise ImageError(
            f"The image {name} cannot be opened ({error}); give a {_ACCEPTED} picture of a face."
        ) from error


@functools.cache
def _formats() -> list[str]:
    """The formats that can be read here."""
    Image.init()
    with contextlib.suppress(ImportError):
        # An extra, because its wheels hold an encoder under the GPL.
        import pillow_heif

        pillow_heif.register_heif_opener()
    return _readable()


def _readable() -> list[str]:
    """The formats whose readers are loaded."""
    # Pillow may be built without some of them, and a format that it does not know would be an error of its own.
    return [name for name in _FORMATS if name in Image.OPEN]


def _guess(file: Path) -> str:
    with open(file, "rb") as stream:
        head = stream.read(32)
    if head[4:8] == b"ftyp":
        if head[8:12] not in _HEIC:
            return " (it is a video: save one of its frames)"
        if "HEIF" in _formats():
            return " (it is HEIC, and damaged)"
        return " (it is HEIC: install pillow-heif with pip install 'fantasytalking[heif]', or save it as JPEG or PNG)"
    if head.lstrip().startswith((b"<svg", b"<?xml", b"%PDF", b"%!PS")):
        return " (it is a vector drawing or document)"
    return ""


def _rgb(image: Image.Image, name: str, max_side: int, min_side: int) -> Pixels:
    width, height = image.size
    if min(width, height) < min_side:
        raise ImageError(
            f"The image {name} is {width} x {height} px; at least {min_side} px on the shorter side are needed, "
            "give a larger picture."
        )
    orientation = _orientation_of(image)
    profile = image.info.get("icc_profile")
    # JPEG decodes at an eighth to one of its size, which saves its memory as well as the time.
    image.draft(None, (max_side, max_side))
    image = _in_eight_bits(_reduced(image, max_side))
    image = _over_white(_in_srgb(image, profile))
    if max(width, height) > max_side:
        scale = max_side / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
        warnings.warn(
            f"The image {name} is {width} x {height} px and was reduced to {size[0]} x {size[1]}.", stacklevel=3
        )
        if min(size) < min_side:
            raise ImageError(f"The image {name} is {width} x {height} px, too long and thin for a portrait; crop it.")
    return np.array(image.transpose(_TURNS[orientation]) if orientation in _TURNS else image)


def _orientation_of(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # A damaged EXIF block does not make the picture unusable.
        return 1


def _reduced(image: Image.Image, max_side: int) -> Image.Image:
    """Average whole blocks until at most twice `max_side` remains, a band of rows at a time to bound the memory."""
    factor = max(image.size) // max_side
    if factor < 2:
        image.load()
        return image
    width, height = image.size
    size = (-(-width // factor), -(-height // factor))
    result: Image.Image | None = None
    rows = factor * max(1, _BAND_PIXELS // width // factor)
    for top in range(0, height, rows):
        band = _in_eight_bits(image.crop((0, top, width, min(height, top + rows))), image).reduce(factor)
        result = Image.new(band.mode, size) if result is None else result
        result.paste(band, (0, top // factor))
    assert result is not None
    return result


def _in_eight_bits(image: Image.Image, whole: Image.Image | None = None) -> Image.Image:
    """As L, RGB, CMYK or RGBA, whatever the stored type; `whole` gives the range of a band without a fixed one."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _from_wide(image, whole or image)
    if "transparency" in image.info or mode in ("LA", "La", "PA", "RGBa", "RGBA"):
        return image.convert("RGBA")
    if mode == "1":
        return image.convert("L")
    return image if mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _from_wide(image: Image.Image, whole: Image.Image) -> Image.Image:
    # Pillow's own convert("L") clips 16-bit grey at 255 instead of scaling it: the picture would be white.
    extrema: Any = whole.getextrema()
    high = float(extrema[1])
    values = np.asarray(image, np.float32)
    if image.mode.startswith("I;16") or (image.mode == "I" and 255 < high <= 65535):
        scale = 255.0 / 65535.0
    elif high <= 1.0 and image.mode == "F":
        scale = 255.0
    else:
        scale = 255.0 / max(255.0, high)
    return Image.fromarray(np.clip(np.nan_to_num(values) * scale + 0.5, 0, 255).astype(np.uint8))


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert colours from the embedded profile (phones store Display P3), or plainly without a usable one."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha is not None else image
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            colours = converted or colours
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    colours = colours.convert("RGB")
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    return white.convert("RGB")


def _image_of(array: npt.NDArray[Any]) -> Image.Image:
    shape, kind = array.shape, array.dtype
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    fits = array.ndim == 2 or (array.ndim == 3 and shape[2] in (3, 4))
    if not fits or 0 in shape:
        raise ImageError(f"The image array has shape {list(shape)}; give [height, width, 3], RGB or 4 for RGBA.")
    if kind == np.uint16:
        array = (array.astype(np.float32) / 257.0 + 0.5).astype(np.uint8)
    elif kind.kind == "f" and float(np.nanmin(array)) >= 0.0 and float(np.nanmax(array)) <= 1.0:
        array = (np.nan_to_num(array) * 255.0 + 0.5).astype(np.uint8)
    elif kind != np.uint8:
        raise ImageError(
            f"The image array is {kind} from {array.min()} to {array.max()}; give uint8 0..255, uint16 or float 0..1."
        )
    return Image.fromarray(np.ascontiguousarray(array))
