"""Pictures for the perception tests: a public-domain portrait, placed as needed, and clips that may be absent."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from fantasytalking.perception.landmarks import face_mesh

SHARED = Path(__file__).parents[2].parent / "shared"
CLIPS = SHARED / "data"
CASES = SHARED / "cases"


def portrait() -> np.ndarray:
    """The portrait of Eileen Collins (NASA), uint8 [512, 512, 3]; the face is about 105 px large around (225, 124)."""
    return pytest.importorskip("skimage.data", reason="scikit-image brings the test portrait").astronaut()


def other_portrait() -> np.ndarray:
    """The photographer of `skimage.data.camera`, uint8 [512, 512, 3], grey."""
    grey = pytest.importorskip("skimage.data", reason="scikit-image brings the test portrait").camera()
    return np.repeat(grey[..., None], 3, axis=2)


def placed(face_height: float, width: int, height: int, x: float = 0.35, y: float = 0.6) -> np.ndarray:
    """The portrait on grey, its face ``face_height`` px from forehead to chin, its centre at (x, y) of the canvas."""
    return moved(portrait(), face_height / 105, (x * width, y * height), 0.0, (width, height))


def moved(
    image: np.ndarray, scale: float, centre: tuple[float, float], degrees: float, size: tuple[int, int]
) -> np.ndarray:
    """The image scaled and turned around its face, which comes to ``centre``, on a grey canvas (width, height)."""
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix = movement(1.0, centre, degrees, face=(225 * scale, 124 * scale))
    else:
        matrix = movement(scale, centre, degrees)
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(128, 128, 128))


def movement(
    scale: float, centre: tuple[float, float], degrees: float, face: tuple[float, float] = (225.0, 124.0)
) -> np.ndarray:
    """The affine matrix [2, 3] of ``moved``."""
    angle = np.deg2rad(degrees)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([rotation, (np.array(centre) - rotation @ np.array(face))[:, None]], axis=1)


def clips(split: str) -> list[dict]:
    """Catalogue entries of the talking clips of one split; skips the test where they are absent."""
    catalogue = CLIPS / "catalogue.jsonl"
    if not catalogue.is_file():
        pytest.skip(f"needs the talking clips in {CLIPS.name}/, which are not part of the project")
    entries = [json.loads(line) for line in catalogue.read_text().splitlines()]
    return [entry for entry in entries if entry["split"] == split]


def clip_frames(file: str, wanted: list[int]) -> list[np.ndarray]:
    """Frames of a clip by index, uint8 [H, W, 3] each."""
    with av.open(str(CLIPS / file)) as container:
        frames = {}
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                frames[index] = frame.to_ndarray(format="rgb24")
            if index >= max(wanted):
                break
    return [frames[index] for index in wanted]


def case(name: str) -> np.ndarray:
    """A picture of `shared/cases`, uint8 [H, W, 3]; skips the test where it is absent."""
    path = CASES / name
    if not path.is_file():
        pytest.skip(f"needs {name} of the cases, which are not part of the project")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def with_mask(image: np.ndarray, colour: tuple[int, int, int] = (140, 190, 220)) -> np.ndarray:
    """The picture with a surgical mask over the lower half of its largest face."""
    mesh = face_mesh(image).points[:, :2]
    outline = mesh[[116, 197, 345, 361, 397, 378, 152, 149, 172, 132]]
    lines = [mesh[[132, 61, 17, 291, 361]], mesh[[116, 165, 164, 391, 345]]]
    return painted(image, outline, colour, lines)


def with_hand(image: np.ndarray) -> np.ndarray:
    """The picture with four fingers before the mouth of its largest face, in the colour of its skin."""
    mesh = face_mesh(image).points[:, :2]
    eyes = mesh[263] - mesh[33]
    skin = image[tuple(np.round(mesh[[50, 280, 9, 151]]).astype(int).T[::-1])].mean(axis=0)
    result = image.astype(np.float32)
    for finger in range(4):
        down = np.array([-eyes[1], eyes[0]]) * (0.24 * finger - 0.36)
        ends = (mesh[13] + down - 0.7 * eyes, mesh[13] + down + 2.2 * eyes)
        mask = np.zeros(image.shape[:2], np.float32)
        thickness = max(1, round(0.26 * float(np.hypot(*eyes))))
        start, end = (tuple(int(v) for v in np.round(point)) for point in ends)
        cv2.line(mask, start, end, 1.0, thickness, cv2.LINE_AA)
        mask = cv2.GaussianBlur(mask, (0, 0), 0.02 * float(np.hypot(*eyes)))[..., None]
        result = result * (1 - mask) + mask * skin * (0.92 + 0.04 * finger)
    return result.astype(np.uint8)


def painted(
    image: np.ndarray, outline: np.ndarray, colour: tuple[int, int, int], lines: list[np.ndarray] | None = None
) -> np.ndarray:
    """The picture with a filled outline, and darker lines on it."""
    result = image.copy()
    cv2.fillPoly(result, [np.round(outline * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    for line in lines or []:
        darker = tuple(int(0.85 * value) for value in colour)
        cv2.polylines(result, [np.round(line * 16).astype(np.int32)], False, darker, 1, cv2.LINE_AA, 4)
    return result


def cartoon(side: int = 320) -> np.ndarray:
    """A drawn face: a disc with outlined eyes, a nose and a mouth."""
    image = np.full((side, side, 3), 255, np.uint8)

    def disc(x: float, y: float, across: float, down: float, colour: tuple[int, int, int], thickness: int = -1) -> None:
        axes = (round(across * side), round(down * side))
        cv2.ellipse(image, (round(x * side), round(y * side)), axes, 0, 0, 360, colour, thickness, cv2.LINE_AA)

    disc(0.5, 0.5, 0.3, 0.36, (250, 205, 120))
    for x in (0.39, 0.61):
        disc(x, 0.42, 0.06, 0.05, (255, 255, 255))
        disc(x, 0.42, 0.06, 0.05, (0, 0, 0), 2)
        disc(x, 0.42, 0.022, 0.022, (0, 0, 0))
        disc(x, 0.33, 0.07, 0.012, (60, 30, 0))
    disc(0.5, 0.53, 0.035, 0.045, (240, 170, 90))
    disc(0.5, 0.68, 0.11, 0.045, (150, 20, 20))
    return image
