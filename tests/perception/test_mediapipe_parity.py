"""Our pre- and post-processing against mediapipe's own.

`mediapipe_reference.npz` holds the points that `mp.solutions.face_mesh` (mediapipe 0.10.21, static_image_mode=True,
refine_landmarks=False) gives for 20 frames of the validation clips: numbers only, no pixels. It is written by
`write_mediapipe_reference.py`.
"""

from pathlib import Path

import numpy as np

from fantasytalking.perception.landmarks import face_mesh
from tests.perception.pictures import clip_frames, clips

REFERENCE = Path(__file__).parent / "mediapipe_reference.npz"


def test_mesh_points_are_within_a_pixel_and_a_half_of_mediapipe() -> None:
    present = {entry["file"] for entry in clips("val")}
    reference = np.load(REFERENCE)
    medians = []
    for clip, frame, expected in zip(reference["clips"], reference["frames"], reference["points"], strict=True):
        assert str(clip) in present
        (image,) = clip_frames(str(clip), [int(frame)])
        # Distances as on a face 256 px high.
        error = (face_mesh(image).points - expected) * 256 / np.ptp(expected[:, 1])
        medians.append(np.median(np.linalg.norm(error[:, :2], axis=1)))
        assert np.median(np.abs(error[:, 2])) < 1.5
    assert len(medians) == 20
    assert max(medians) < 1.5 and np.median(medians) < 0.5
