"""Pictures for the perception tests: a public-domain portrait, placed as needed, and clips that may be absent."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

CLIPS = Path(__file__).parents[2].parent / "shared" / "data"


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
