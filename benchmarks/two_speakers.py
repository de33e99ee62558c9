"""Do two people in one picture each follow their own track? Correlates each mouth with the true mouth of each track.

The first frames of two real validation clips lie side by side in one picture, and each person gets the speech of another clip, whose true
mouth is known.

    python benchmarks/two_speakers.py --output /tmp/two
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmark_run import Quiet, Record, load_model, mean_and_error, option_parser, say, table
from clips import Window
from contact_sheet import check_outside
from dubbing import choose_windows
from numpy.typing import NDArray

from fantasytalking.evaluation.metrics.mouth_correlation import correlation
from fantasytalking.media.video import read_frames
from fantasytalking.perception.landmarks import mouth_opening, track_mesh
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.talking_video import VideoOutput

SIDE = 288
"""Height and width of each half of the picture."""
Pixels = NDArray[np.uint8]


def opening(frames: Pixels) -> NDArray[np.float32]:
    """Mouth opening [F] of the face in frames."""
    return np.asarray(mouth_opening(track_mesh(frames)[0]), np.float32)


def half(window: Window) -> Pixels:
    """The first frame of a window, cut to a square around the face's place and scaled, [SIDE, SIDE, 3]."""
    picture = window.picture()
    height, width = picture.shape[:2]
    centre = track_mesh(picture[None])[0][0][:, 0].mean()
    left = int(np.clip(centre - height / 2, 0, max(0, width - height)))
    square = picture[:, left : left + height]
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def measure(
    people: list[Window], speakers: list[Window], frames: int, pipeline: FantasyTalkingPipeline, path: Path, seed: int
) -> NDArray[np.float64]:
    """Correlation [2, 2] of each mouth (rows: left, right) with each track's true mouth (columns: left's, right's)."""
    picture = np.concatenate([half(window) for window in people], 1)
    order = _order(picture)
    audio = {order[side]: speaker.speech(frames) for side, speaker in enumerate(speakers)}
    pipeline.speak_together(picture, dict(sorted(audio.items())), VideoOutput(path, True), progress=Quiet(), seed=seed)
    made = read_frames(path)[0]
    mouths = [opening(made[:frames, :, side * SIDE : (side + 1) * SIDE]) for side in (0, 1)]
    truths = [opening(speaker.video()[:frames]) for speaker in speakers]
    return np.array([[correlation(mouth, truth) for truth in truths] for mouth in mouths])


def _order(picture: Pixels) -> list[int]:
    """Number of the left face and of the right one, counted by size."""
    from fantasytalking.perception.faces import detect_faces

    faces = detect_faces(picture)
    left = 0 if faces[0].box[0] < SIDE else 1
    return [left, 1 - left]


def main() -> int:
    """Generate pairs, measure and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each video")
    parser.add_argument("--pairs", type=int, default=4, help="number of pictures")
    parser.add_argument("--output", type=Path, required=True, help="folder for the videos, outside the repository")
    options = parser.parse_args()
    folder = check_outside(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    pipeline, record = load_model(options), Record("two_speakers", options, {"seed": options.seed})
    windows = [window for window in choose_windows(options.data, options.seconds) if window.frames >= 60]
    matrices: dict[str, Any] = {}
    for number in range(options.pairs):
        people = [windows[(2 * number + side) % len(windows)] for side in (0, 1)]
        speakers = [windows[(2 * number + side + 3) % len(windows)] for side in (0, 1)]
        frames = min(window.frames for window in speakers)
        name = "+".join(window.clip.name for window in people)
        matrices[name] = measure(people, speakers, frames, pipeline, folder / f"{number}.mp4", options.seed)
        say(f"{name}: {np.round(matrices[name], 2).tolist()}")
    own = [float(one[side, side]) for one in matrices.values() for side in (0, 1)]
    other = [float(one[side, 1 - side]) for one in matrices.values() for side in (0, 1)]
    rows = [("own track", *mean_and_error(own), len(own)), ("the other's track", *mean_and_error(other), len(other))]
    print(table(("mouth and", "r", "standard error", "mouths"), rows))
    record.results = {"matrices": matrices, "own": mean_and_error(own), "other": mean_and_error(other)}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
