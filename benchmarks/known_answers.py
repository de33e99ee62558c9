"""Do the metrics respond to known damage? Real clips are degraded in known ways, and every metric has to follow.

The damages are blur, noise, freezing, a delayed picture and another person's face, each at three strengths, on the real clips of the
validation split. A metric follows if its value moves in the expected direction with each strength, starting from clips that were
only encoded again.

    python benchmarks/known_answers.py --output FOLDER --json known_answers.json
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmark_run import Record, option_parser, say, table
from clips import FPS, Clip, Window, validation_clips
from numpy.typing import NDArray

from fantasytalking.evaluation.evaluate import EvaluationOptions, evaluate
from fantasytalking.evaluation.protocol import PROTOCOLS
from fantasytalking.evaluation.results import Report
from fantasytalking.media.video import write_video
from fantasytalking.system.processes import set_threads

Frames = NDArray[np.uint8]
LAGS = Path(__file__).parent / "validation_lags.json"
CONTROL = "encoded again"
CRF = 8


@dataclass(frozen=True)
class Damage:
    """One way to degrade clips.

    Attributes:
        name: Name in the table.
        strengths: Strengths in increasing order.
        unit: Unit of the strengths.
        apply: Function of frames [F, H, W, 3], strength, index of the clip and frames of all clips that returns the
            degraded frames.
        moves: Direction in which each metric has to move, +1 or -1, by key of its column.
    """

    name: str
    strengths: tuple[float, ...]
    unit: str
    apply: Callable[[Frames, float, int, Sequence[Frames]], Frames]
    moves: dict[str, int]


def _each(change: Callable[[Frames], Frames], frames: Frames) -> Frames:
    return np.stack([np.asarray(change(frame), np.uint8) for frame in frames])


def blur(frames: Frames, sigma: float, place: int, every: Sequence[Frames]) -> Frames:
    """Apply Gaussian blur; sigma is in pixels of an image with 256 pixels on its longest side."""
    scale = max(frames.shape[1:3]) / 256
    return _each(lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma * scale), frames)


def noise(frames: Frames, sigma: float, place: int, every: Sequence[Frames]) -> Frames:
    """Add noise that is independent in every pixel and frame; sigma is in grey levels."""
    rng = np.random.default_rng(place)
    return _each(lambda frame: np.clip(frame + rng.normal(0, sigma, frame.shape), 0, 255), frames)


def freeze(frames: Frames, length: float, place: int, every: Sequence[Frames]) -> Frames:
    """Repeat the first frame of each group of `length` frames throughout the group."""
    return frames[np.arange(len(frames)) // int(length) * int(length)]


def late(frames: Frames, shift: float, place: int, every: Sequence[Frames]) -> Frames:
    """Delay the picture by `shift` frames; the sound is unchanged."""
    return frames[np.maximum(np.arange(len(frames)) - int(shift), 0)]


def swap(frames: Frames, share: float, place: int, every: Sequence[Frames]) -> Frames:
    """Show the next clip's frames in the first `share` of the clips; its last frame is held if it is shorter."""
    if place >= round(share * len(every)):
        return frames
    other = every[(place + 1) % len(every)]
    return other[np.minimum(np.arange(len(frames)), len(other) - 1)]


DAMAGES = (
    Damage(
        "blur",
        (0.7, 1.4, 2.8),
        "px sigma",
        blur,
        {"fid": 1, "fvd": 1, "aesthetic": -1, "iqa": 1, "sharpness": -1, "csim": -1},
    ),
    Damage("noise", (4, 12, 36), "levels", noise, {"fid": 1, "fvd": 1, "iqa": 1, "idc": -1, "csim": -1}),
    Damage(
        "freeze", (3, 6, 12), "frames", freeze, {"fvd": 1, "sd": -1, "mouth": -1, "sync_c": -1, "sync_d": 1, "efid": 1}
    ),
    Damage("late picture", (2, 5, 10), "frames", late, {"mouth": -1, "sync_offset": 1}),
    Damage("other face", (0.34, 0.67, 1.0), "of the clips", swap, {"csim": -1, "mouth": -1, "sync_c": -1, "sync_d": 1}),
)


def row_name(damage: Damage, strength: float) -> str:
    """Name of the method with this damage in the report."""
    return f"{damage.name} {strength:g}"


def write_sets(clips: Sequence[Clip], seconds: float, output: Path) -> dict[str, Path]:
    """Write the degraded clips and the reference; existing files are kept.

    Args:
        clips: Real clips.
        seconds: Length of the clips, at most.
        output: Folder to write to; the reference is in its folder `reference`.

    Returns:
        Folders by name of the method in the report, and "reference".
    """
    frames, sounds = [], []
    for clip in clips:
        window = Window(clip, 0, min(clip.frames, round(seconds * FPS)))
        frames.append(window.video())
        # In sync, as delaying the picture would otherwise improve clips whose sound is late.
        sounds.append(window.speech())
    folders = {"reference": output / "reference", CONTROL: output / "control"}
    jobs: list[tuple[Path, Callable[[int], Frames], int]] = [
        (folders["reference"], lambda place: frames[place], 4),
        (folders[CONTROL], lambda place: frames[place], CRF),
    ]
    for damage in DAMAGES:
        for strength in damage.strengths:
            name = row_name(damage, strength)
            folders[name] = output / name.replace(" ", "-")

            def made(place: int, damage: Damage = damage, strength: float = strength) -> Frames:
                return damage.apply(frames[place], strength, place, frames)

            jobs.append((folders[name], made, CRF))
    for folder, make, crf in jobs:
        folder.mkdir(parents=True, exist_ok=True)
        say(f"writing {folder.name}")
        for place, clip in enumerate(clips):
            target = folder / f"{clip.name}.mp4"
            if not target.exists():
                write_video(target, make(place), FPS, sounds[place], crf=crf, preset="veryfast")
    return folders


def judge(report: Report) -> list[dict[str, Any]]:
    """Judge each metric under each damage: its values from the control on, and whether they all move as expected."""
    cells = {method.name: method.summary for method in report.methods}
    labels = {column.key: column.label for column in report.columns}
    rows = []
    for damage in DAMAGES:
        for key, sign in damage.moves.items():
            values = [cells[name][key].value for name in (CONTROL, *(row_name(damage, s) for s in damage.strengths))]
            known = [v for v in values if v is not None]
            steps = [sign * (b - a) > 0 for a, b in itertools.pairwise(known)]
            rows.append(
                {
                    "damage": f"{damage.name} ({', '.join(f'{s:g}' for s in damage.strengths)} {damage.unit})",
                    "column": labels[key],
                    "wanted": "rises" if sign > 0 else "falls",
                    "values": values,
                    "by_rank": len(known) == len(values) and all(steps),
                }
            )
    return rows


def main() -> int:
    """Degrade, evaluate and judge; the exit status is 1 if a metric does not follow."""
    parser = option_parser(__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for the degraded clips and the report, outside the repository",
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the clips")
    parser.add_argument(
        "--lags",
        type=Path,
        default=LAGS,
        help="JSON object of the frames by which each clip's face lags behind its sound",
    )
    options = parser.parse_args()
    set_threads(options.threads)
    record = Record("known_answers", options, {"seconds": options.seconds, "crf": CRF})
    clips = validation_clips(options.data, "real", json.loads(options.lags.read_text()))[: options.limit]
    folders = write_sets(clips, options.seconds, options.output)
    reference = folders.pop("reference")
    protocol = dataclasses.replace(PROTOCOLS["small"], max_seconds=options.seconds)
    report = evaluate(
        folders,
        reference,
        options.output / "report",
        EvaluationOptions(protocol, backend="proxy", media=False, device="cpu"),
    )
    rows = judge(report)

    def shown(values: Sequence[float | None]) -> str:
        return ", ".join("-" if v is None else f"{v:.3f}" for v in values)

    lines = [(r["damage"], r["column"], r["wanted"], shown(r["values"]), "yes" if r["by_rank"] else "NO") for r in rows]
    print(table(("damage", "column", "should", f"{CONTROL}, then each strength", "follows"), lines) + "\n")
    record.results = {"clips": [clip.name for clip in clips], "rows": rows, "minutes_of_evaluation": report.minutes}
    record.finish()
    return 0 if all(row["by_rank"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
