"""Finds faces of any size, each confirmed by the mesh network."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from fantasytalking.perception.detection import FACE, MAX_OVERLAP, Detection, overlap, suppress
from fantasytalking.perception.mesh_network import MIN_SCORE, FaceMesh, mesh_in_region, region_of_box
from fantasytalking.perception.regions import Region

# Faces below this part of the square searched are looked at again.
_SMALL = 0.2
_SMALLEST_TILE = 80
# About two seconds on one core, for an image in which no face is found.
_MOST_TILES = 1600


@dataclass(frozen=True)
class FoundFace:
    """A detection with the mesh that confirmed it; both in pixels."""

    detection: Detection
    mesh: FaceMesh

    @property
    def area(self) -> float:
        """Area of the detected box in square pixels."""
        x0, y0, x1, y1 = self.detection.box
        return (x1 - x0) * (y1 - y0)


def find_faces(image: np.ndarray, min_score: float = 0.5, thorough: bool = True) -> list[FoundFace]:
    """Find faces from about 20 px to larger than the frame.

    The detector sees faces of roughly 0.1 to 0.9 of its input. Only when it finds none in the whole image, the search
    goes on in a frame twice as large (faces that fill the image) and then, if ``thorough``, in overlapping tiles, each
    round half as large.

    Args:
        image: uint8 [H, W, 3], RGB.
        min_score: least confidence of the detector, 0 to 1.
        thorough: whether to search tiles (up to seconds on large images without a face).

    Returns:
        Faces with a mesh score of at least 0.5, largest first; empty when there is none.
    """
    height, width = image.shape[:2]
    whole = Region(width / 2, height / 2, max(height, width))
    for region in (whole, whole.scaled(2)):
        found = search_region(image, region, min_score)
        if found:
            return found
    # A square tile over the shorter side is already more than the whole image was, in a long image.
    side = min(height, width) / (1 if max(height, width) > 1.3 * min(height, width) else 2)
    while thorough and side >= _SMALLEST_TILE:
        tiles = _tiles(width, height, side)
        if len(tiles) > _MOST_TILES:
            break
        found = _confirm(image, _search_tiles(image, tiles, side, min_score), side)
        if found:
            return found
        side /= 2
    return []


def search_region(image: np.ndarray, region: Region, min_score: float = 0.5) -> list[FoundFace]:
    """Find the faces of roughly 0.1 to 0.9 of one upright region, largest first."""
    return _confirm(image, FACE(image, region, min_score), region.size)


def _confirm(image: np.ndarray, detections: list[Detection], side: float) -> list[FoundFace]:
    """Keep the detections that the mesh network takes for a face as well, largest first.

    Without it, small tiles of cloth and foliage pass for faces. ``side`` is that of the square searched, in pixels.
    """
    found: list[FoundFace] = []
    for detection in detections:
        sharper = _look_closer(image, detection, side)
        mesh = mesh_in_region(image, region_of_box(sharper.box, sharper.points[:2]))
        # The closer look may show that two detections were one face.
        known = np.array([face.detection.box for face in found]).reshape(-1, 4)
        if mesh.score >= MIN_SCORE and not (overlap(np.array(sharper.box), known) > MAX_OVERLAP).any():
            found.append(FoundFace(sharper, mesh))
    return sorted(found, key=lambda face: -face.area)


def _look_closer(image: np.ndarray, detection: Detection, side: float) -> Detection:
    """Detect once more around a face that was small in the square searched: its box is off by several per cent."""
    x0, y0, x1, y1 = detection.box
    if x1 - x0 > _SMALL * side:
        return detection
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    again = FACE(image, Region(x, y, 3 * (x1 - x0)), 0.5 * detection.score)
    middles = [((d.box[0] + d.box[2]) / 2 - x, (d.box[1] + d.box[3]) / 2 - y) for d in again]
    near = [d for d, middle in zip(again, middles, strict=True) if np.hypot(*middle) < (x1 - x0) / 2]
    # The confidence of the closer look counts, unless the first one was surer.
    return replace(near[0], score=max(near[0].score, detection.score)) if near else detection


def _tiles(width: int, height: int, side: float) -> list[tuple[float, float]]:
    return [(x, y) for y in _centres(height, side) for x in _centres(width, side)]


def _centres(length: int, side: float) -> np.ndarray:
    """Centres of half-overlapping stretches of ``side`` that cover ``length``."""
    count = max(1, int(np.ceil(2 * (length - side) / side)) + 1)
    return np.linspace(min(side, length) / 2, length - min(side, length) / 2, count)


def _search_tiles(
    image: np.ndarray, tiles: list[tuple[float, float]], side: float, min_score: float
) -> list[Detection]:
    height, width = image.shape[:2]
    # Averaging the image down once is several times faster than doing it in every tile.
    factor = max(1, int(side // (1.5 * FACE.side)))
    small = cv2.resize(image, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
    scale = np.array([width / small.shape[1], height / small.shape[0]], dtype=np.float32)
    hits = [hit for x, y in tiles for hit in FACE(small, Region(x / scale[0], y / scale[1], side / factor), min_score)]
    if not hits:
        return []
    boxes = np.array([hit.box for hit in hits]) * np.tile(scale, 2)
    return suppress(boxes, np.array([hit.score for hit in hits]), np.stack([hit.points for hit in hits]) * scale)
