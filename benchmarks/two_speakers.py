"""Do two people in one picture, or in one film, each follow their own track? Correlates each mouth with the true mouth of each track.

Two real validation clips, or with a picture their first frames, lie side by side, and each person gets the speech of another clip, whose
true mouth is known.

    python benchmarks/two_speakers.py --output /tmp/two
    python benchmarks/two_speakers.py --footage --output /tmp/two
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmark_run import Quiet, Record, load_model, mean_and_error, option_parser, say, table
from clips import FPS, Window
from contact_sheet import check_outside
from dubbing import choose_windows
from numpy.typing import NDArray

from fantasytalking.evaluation.metrics.mouth_correlation import correlation
from fantasytalking.media.video import read_frames, write_video
from fantasytalking.perception.landmarks import mouth_opening, track_mesh
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.talking_video import VideoOutput

SIDE = 288
"""Height and width of each half of the picture."""
Pixels = NDArray[np.uint8]


def opening(frames: Pixels) -> NDArray[np.float32]:
    """Mouth opening [F] of the face in frames."""
    return np.asarray(mouth_opening(track_mesh(frames)[0]), np.float32)


def half(window: Window, frames: int = 1) -> Pixels:
    """The first frames of a window, cut to a square around the face's place in the first and scaled, [F, SIDE, SIDE, 3]."""
    pictures = window.video()[:frames] if frames > 1 else window.picture()[None]
    height, width = pictures.shape[1:3]
    centre = track_mesh(pictures[:1])[0][0][:, 0].mean()
    left = int(np.clip(centre - height / 2, 0, max(0, width - height)))
    squares = pictures[:, :, left : left + height]
    return np.stack([cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in squares])


def measure(
    people: list[Window],
    speakers: list[Window],
    frames: int,
    pipeline: FantasyTalkingPipeline,
    path: Path,
    options: Any,
) -> dict[str, Any]:
    """Correlation [2, 2] of each mouth (rows: left, right) with each track's true mouth (columns: the same), and with its old one."""
    seen = np.concatenate([half(window, frames if options.footage else 1) for window in people], 2)
    order = _order(seen[0])
    audio = {order[side]: speaker.speech(frames) for side, speaker in enumerate(speakers)}
    shared: dict[str, Any] = {"progress": Quiet(), "seed": options.seed}
    if options.footage:
        film = write_video(path.with_stem(f"{path.stem}_source"), seen, FPS, overwrite=True, crf=6, preset="veryfast")
        pipeline.dub(film, dict(sorted(audio.items())), VideoOutput(path, True), **shared)
    else:
        pipeline.speak_together(seen[0], dict(sorted(audio.items())), VideoOutput(path, True), **shared)
    made = read_frames(path)[0]
    halves = [slice(side * SIDE, (side + 1) * SIDE) for side in (0, 1)]
    mouths = [opening(made[:frames, :, one]) for one in halves]
    truths = [opening(speaker.video()[:frames]) for speaker in speakers]
    found = {"matrix": [[correlation(mouth, truth) for truth in truths] for mouth in mouths]}
    if options.footage:
        before = [opening(seen[:frames, :, one]) for one in halves]
        found["old"] = [[correlation(mouth, old) for mouth, old in zip(mouths, before, strict=True)]]
    return found


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
    parser.add_argument(
        "--footage", action="store_true", help="dub the clips, in place of animating their first frames"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the videos, outside the repository")
    options = parser.parse_args()
    folder = check_outside(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    pipeline, record = load_model(options), Record("two_speakers", options, {"seed": options.seed})
    windows = [window for window in choose_windows(options.data, options.seconds) if window.frames >= 60]
    found: dict[str, Any] = {}
    for number in range(options.pairs):
        people = [windows[(2 * number + side) % len(windows)] for side in (0, 1)]
        speakers = [windows[(2 * number + side + 3) % len(windows)] for side in (0, 1)]
        seen = people if options.footage else []
        frames = min(window.frames for window in (*speakers, *seen))
        name = "+".join(window.clip.name for window in people)
        found[name] = measure(people, speakers, frames, pipeline, folder / f"{number}.mp4", options)
        say(f"{name}: {found[name]}")
    matrices = [np.array(one["matrix"]) for one in found.values()]
    own = [float(one[side, side]) for one in matrices for side in (0, 1)]
    other = [float(one[side, 1 - side]) for one in matrices for side in (0, 1)]
    apart = [mine - theirs for mine, theirs in zip(own, other, strict=True)]
    old = [r for one in found.values() for row in one.get("old", []) for r in row]
    figures = {"own track": own, "the other's track": other, "own minus other": apart}
    figures |= {"own old speech": old} if old else {}
    rows = [(name, *mean_and_error(values), len(values)) for name, values in figures.items()]
    print(table(("mouth and", "r", "standard error", "mouths"), rows))
    record.results = {"pairs": found} | {name: mean_and_error(values) for name, values in figures.items()}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
