"""Body joints and the person's silhouette (BlazePose, arXiv:2006.10204, and MediaPipe's selfie segmentation)."""

import math

import cv2
import numpy as np

from fantasytalking.perception.detection import BODY, Detection
from fantasytalking.perception.networks.network_runner import Network
from fantasytalking.perception.regions import Region, check_image, cut

NUM_JOINTS = 33
# The joints of a portrait, in the order of the network.
NOSE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST, RIGHT_WRIST = 0, 11, 12, 13, 14, 15, 16
LEFT_HIP, RIGHT_HIP = 23, 24

_JOINT_SIDE = 256
_MASK_SIDE = 256
_MARGIN = 1.25
_MIN_SCORE = 0.5
_WINDOW = 3


def body_joints(image: np.ndarray) -> np.ndarray:
    """Finds 33 joints of the most prominent person.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        float32 [33, 4]: x, y in pixels (also for joints outside the image, guessed), z on the same scale around the
        hips (smaller is nearer), visibility 0 to 1. All zeros when nobody is found.

    Raises:
        ImageError: when ``image`` is not such an array.
    """
    check_image(image)
    height, width = image.shape[:2]
    whole = Region(width / 2, height / 2, max(height, width))
    # In a frame twice as large for people who are cut off by the image, as in a close portrait.
    for area in (whole, whole.scaled(2)):
        for detection in BODY(image, area)[:1]:
            joints = _joints(image, _region(detection))
            if joints is not None:
                return joints
    return np.zeros((NUM_JOINTS, 4), dtype=np.float32)


def person_mask(image: np.ndarray) -> np.ndarray:
    """Separate people from the background.

    Args:
        image: uint8 [H, W, 3], RGB, with a person within some two metres.

    Returns:
        float32 [H, W], 0 (background) to 1 (person), soft at the outline.

    Raises:
        ImageError: when ``image`` is not such an array.
    """
    check_image(image)
    height, width = image.shape[:2]
    shrinks = height * width > _MASK_SIDE**2
    small = cv2.resize(image, (_MASK_SIDE, _MASK_SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    (mask,) = Network("selfie_segmentation")(small[None].astype(np.float32) / 255)
    result: np.ndarray = np.clip(cv2.resize(mask[0, :, :, 0], (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    return result


def _region(detection: Detection) -> Region:
    """The square around the body: centred on the hips, the detection's second point above them on its circle."""
    (x, y), (end_x, end_y) = detection.points[:2].tolist()
    angle = math.pi / 2 - math.atan2(y - end_y, end_x - x)
    return Region(x, y, max(_MARGIN * 2 * math.hypot(end_x - x, end_y - y), 1.0), angle)


def _joints(image: np.ndarray, region: Region) -> np.ndarray | None:
    # Not black: the network was trained with repeated edges, and its hips move by a head's length otherwise.
    pixels = cut(image, region, _JOINT_SIDE, border="replicate").astype(np.float32) / 255
    raw, score, _, heat, _ = Network("pose_landmark_full")(pixels[None])
    if float(score.item()) < _MIN_SCORE:
        return None
    values = raw.reshape(-1, 5)[:NUM_JOINTS]
    places = values[:, :3] / _JOINT_SIDE
    places[:, :2] = _refine(places[:, :2], heat[0])
    visibility = 1 / (1 + np.exp(-np.clip(values[:, 3:4], -80, 80)))
    return np.concatenate([region.to_image(places), visibility], axis=1).astype(np.float32)


def _refine(places: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Move each joint to the centre of mass of its heat map in a 7 x 7 window, where that map is sure.

    Args:
        places: [33, 2], x and y, 0 to 1.
        heat: [h, w, at least 33], logits.

    Returns:
        [33, 2].
    """
    height, width = heat.shape[:2]
    refined = places.copy()
    for joint, (x, y) in enumerate(places * (width, height)):
        column, row = int(x), int(y)
        if not (0 <= column < width and 0 <= row < height):
            continue
        rows = np.arange(max(0, row - _WINDOW), min(height, row + _WINDOW + 1))
        columns = np.arange(max(0, column - _WINDOW), min(width, column + _WINDOW + 1))
        weights = 1 / (1 + np.exp(-heat[rows[:, None], columns, joint]))
        if weights.max() >= _MIN_SCORE:
            total = weights.sum()
            refined[joint] = (
                weights.sum(axis=0) @ columns / total / width,
                weights.sum(axis=1) @ rows / total / height,
            )
    return refined
