"""One visible face, tracked through the clip: detected with confidence, large enough and steady.

The detector is the bundled short-range BlazeFace, confirmed by the mesh network; it replaces InsightFace, which the paper selects with.
Its score is the confidence of the best of the anchors that see the face; a frontal face that is not small reaches 0.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.data.preparation.clip_records import Refusal
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.errors import FaceError
from fantasytalking.perception.faces import Face, detect_faces
from fantasytalking.perception.landmarks import track_mesh
from fantasytalking.perception.mesh_network import MIN_SCORE

__all__ = ["TrackedFace", "face_boxes", "follow_face"]

_GIVE_UP = 4
"""Number of searched frames without a face after which a clip is dropped: a thorough search of a large frame takes seconds."""


@dataclass(frozen=True)
class TrackedFace:
    """A face in every frame.

    Attributes:
        points: Mesh float32 [F, 468, 3] in pixels of the source.
        scores: Face presence float32 [F], 0..1.
        height: Height of the source's frames in pixels.
        width: Width of the source's frames in pixels.
        row: Measures.
    """

    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    height: int
    width: int
    row: dict[str, Any]


def follow_face(frames: Iterable[NDArray[np.uint8]], fps: float, settings: PreparationSettings) -> TrackedFace:
    """Track the mesh through all frames and search some of them for faces; frames are read once and not kept.

    Args:
        frames: Frames, uint8 [H, W, 3] each.
        fps: Frames per second.
        settings: Limits on faces.

    Raises:
        Refusal: "no-face", "several-faces", "face-unsure", "face-small", "face-lost" or "face-unsteady".
    """
    search = _FaceSearch(frames, max(1, round(settings.face_every * fps)))
    try:
        points, scores = track_mesh(iter(search))
    except FaceError as error:
        raise Refusal("no-face", str(error)) from error
    boxes = face_boxes(points)
    row = _measure(boxes, scores, search.found)
    _check_faces(row, settings)
    _check_steady(row, settings)
    height, width = search.size
    return TrackedFace(points.astype(np.float32), np.asarray(scores, np.float32), height, width, row)


class _FaceSearch:
    """Passes frames on and searches every n-th for faces.

    Attributes:
        found: Faces by number of the searched frame.
        size: Height and width of the frames in pixels.
    """

    def __init__(self, frames: Iterable[NDArray[np.uint8]], every: int) -> None:
        self._frames, self._every = frames, every
        self.found: dict[int, list[Face]] = {}
        self.size = (0, 0)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for index, frame in enumerate(self._frames):
            self.size = (frame.shape[0], frame.shape[1])
            if index % self._every == 0:
                self.found[index] = detect_faces(frame)
                if len(self.found) >= _GIVE_UP and not any(self.found.values()):
                    detail = f"No face was found in the first {index + 1} frames; a clip needs one visible face."
                    raise Refusal("no-face", detail)
            yield frame


def face_boxes(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes [F, 4] (x0, y0, x1, y1) of meshes [F, 468, 3], from the hairline to the chin."""
    return np.concatenate([points[..., :2].min(1), points[..., :2].max(1)], 1)


def _measure(boxes: NDArray[np.float32], scores: NDArray[np.float32], found: dict[int, list[Face]]) -> dict[str, Any]:
    centres, widths = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2] - boxes[:, 0]
    width = float(np.median(widths))
    seen = np.asarray(scores) >= MIN_SCORE
    together = seen[1:] & seen[:-1]
    jumps = np.linalg.norm(np.diff(centres, axis=0), axis=1)[together] / width
    sizes = np.abs(np.diff(widths))[together] / width
    drift = np.linalg.norm(centres - np.median(centres, 0), axis=1)[seen] / width
    confidences, others, detected = [], [], []
    for index, faces in found.items():
        own = _own_face(faces, boxes[index])
        confidences.append(0.0 if own is None else own.score)
        detected += [] if own is None else [_width(own)]
        rest = [face for face in faces if face is not own]
        others.append(max((_width(face) for face in rest), default=0.0) / (width if own is None else _width(own)))
    return {
        "face_confidence": _rounded(np.mean(confidences)),
        "face_width": round(float(np.median(detected)) if detected else width, 1),
        "face_tracked": _rounded(seen.mean()),
        "face_jump": _rounded(jumps.max(initial=0.0)),
        "face_resize": _rounded(sizes.max(initial=0.0)),
        "face_drift": _rounded(drift.max(initial=0.0)),
        # the sizes of second faces are used for the decision only
        "second_face": _rounded(max(others)),
        "second_face_sizes": [_rounded(size) for size in others],
    }


def _own_face(faces: list[Face], box: NDArray[np.float32]) -> Face | None:
    """Detection that the tracked mesh belongs to: the nearest whose centre lies in the mesh's box."""
    middles = [((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2) for face in faces]
    inside = [
        (float(np.hypot(x - (box[0] + box[2]) / 2, y - (box[1] + box[3]) / 2)), i)
        for i, (x, y) in enumerate(middles)
        if box[0] <= x <= box[2] and box[1] <= y <= box[3]
    ]
    return faces[min(inside)[1]] if inside else None


def _check_faces(row: dict[str, Any], settings: PreparationSettings) -> None:
    sizes = row.pop("second_face_sizes")
    share = sum(size > settings.max_second_face for size in sizes) / len(sizes)
    row["second_face_share"] = _rounded(share)
    if share > settings.max_second_face_share:
        raise Refusal(
            "several-faces",
            f"A second face, up to {row['second_face']:.2f} times as wide as the first, is seen in {share:.0%} of the frames looked at; "
            f"above {settings.max_second_face:g} of the width at most {settings.max_second_face_share:.0%} are accepted.",
            row,
        )
    if row["face_tracked"] < settings.min_tracked:
        raise Refusal(
            "face-lost",
            f"The face is followed in {row['face_tracked']:.0%} of the frames; at least {settings.min_tracked:.0%} are needed.",
            row,
        )
    if row["face_width"] < settings.min_face:
        raise Refusal(
            "face-small",
            f"The face is {row['face_width']:.0f} px wide; at least {settings.min_face} px are needed.",
            row,
        )
    if row["face_confidence"] < settings.min_confidence:
        raise Refusal(
            "face-unsure",
            f"The mean confidence of the face is {row['face_confidence']:.2f}; at least {settings.min_confidence:g} is needed.",
            row,
        )


def _check_steady(row: dict[str, Any], settings: PreparationSettings) -> None:
    limits = (
        ("face_jump", settings.max_jump, "moves by {0:.2f} of its width from one frame to the next"),
        ("face_resize", settings.max_resize, "changes its width by {0:.0%} from one frame to the next"),
        ("face_drift", settings.max_drift, "goes {0:.2f} of its width away from the middle of its path"),
    )
    for name, limit, what in limits:
        if row[name] > limit:
            detail = f"The face {what.format(row[name])}; at most {limit:g} is accepted."
            raise Refusal("face-unsteady", detail, row)


def _width(face: Face) -> float:
    return max(1.0, face.box[2] - face.box[0])


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
