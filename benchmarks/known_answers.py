"""Do the metrics respond to known damage? Real clips are degraded in known ways, and every metric has to follow.

The damages are blur, noise, freezing, a delayed picture, another person's face and a beginning that stands still, each at
three strengths, on the real clips of the validation split. A metric follows if its value moves in the expected direction
with each strength, starting from clips that were only encoded again. How far encoding alone moves each metric is a table
of its own, see `re_encodings.py`.

    python benchmarks/known_answers.py --output FOLDER --json known_answers.json
"""

from __future__ import annotations

import argparse
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
from re_encodings import change_rows, changes, record, write_encodings

from fantasytalking.evaluation.evaluate import EvaluationOptions, evaluate
from fantasytalking.evaluation.metrics.registry import ALL
from fantasytalking.evaluation.protocol import PROTOCOLS
from fantasytalking.evaluation.results import Report
from fantasytalking.media.audio import Audio
from fantasytalking.media.video import write_video
from fantasytalking.system.processes import set_threads

Frames = NDArray[np.uint8]
LAGS = Path(__file__).parent / "validation_lags.json"
CONTROL = "encoded again"
CRF = 8
REFERENCE_CRF = 4
PARTS = ("damage", "re-encoding")


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


def stand(frames: Frames, share: float, place: int, every: Sequence[Frames]) -> Frames:
    """Show the first frame for the first `share` of the clip, then the clip as it is."""
    return frames[np.where(np.arange(len(frames)) < round(share * len(frames)), 0, np.arange(len(frames)))]


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
    Damage(
        "stands still",
        (0.34, 0.67, 1.0),
        "of a clip",
        stand,
        # not the spread of yaw and the like: a face that stands still aside from where it moves later spreads as far
        {"lip_spread": -1, "blink_rate": -1, "head_speed": -1, "theval_brows": -1, "theval_score": -1},
    ),
    Damage("other face", (0.34, 0.67, 1.0), "of the clips", swap, {"csim": -1, "mouth": -1, "sync_c": -1, "sync_d": 1}),
)


def row_name(damage: Damage, strength: float) -> str:
    """Name of the method with this damage in the report."""
    return f"{damage.name} {strength:g}"


def read_clips(clips: Sequence[Clip], seconds: float) -> tuple[list[Frames], list[Audio]]:
    """Frames and sounds of the beginnings of real clips, sides cropped to even lengths.

    The sound is in sync, as delaying the picture would otherwise improve clips whose sound is late.
    """
    windows = [Window(clip, 0, min(clip.frames, round(seconds * FPS))) for clip in clips]
    frames = [window.video() for window in windows]
    even = [clip[:, : clip.shape[1] // 2 * 2, : clip.shape[2] // 2 * 2] for clip in frames]
    return even, [window.speech() for window in windows]


def write_reference(names: Sequence[str], frames: Sequence[Frames], sounds: Sequence[Audio], output: Path) -> Path:
    """Write the clips themselves, nearly lossless, into the folder `reference`; existing files are kept."""
    _write_clips(output / "reference", names, lambda place: frames[place], sounds, REFERENCE_CRF)
    return output / "reference"


def write_damages(
    names: Sequence[str], frames: Sequence[Frames], sounds: Sequence[Audio], output: Path
) -> dict[str, Path]:
    """Write the degraded clips, and the control; existing files are kept.

    Returns:
        Folders by name of the method in the report.
    """
    folders = {CONTROL: output / "control"}
    _write_clips(folders[CONTROL], names, lambda place: frames[place], sounds, CRF)
    for damage in DAMAGES:
        for strength in damage.strengths:
            name = row_name(damage, strength)
            folders[name] = output / name.replace(" ", "-")

            def made(place: int, damage: Damage = damage, strength: float = strength) -> Frames:
                return damage.apply(frames[place], strength, place, frames)

            _write_clips(folders[name], names, made, sounds, CRF)
    return folders


def _write_clips(
    folder: Path, names: Sequence[str], make: Callable[[int], Frames], sounds: Sequence[Audio], crf: int
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    say(f"writing {folder.name}")
    for place, name in enumerate(names):
        target = folder / f"{name}.mp4"
        if not target.exists():
            write_video(target, make(place), FPS, sounds[place], crf=crf, preset="veryfast")


def judge(report: Report) -> list[dict[str, Any]]:
    """Judge each metric under each damage: its values from the control on, and whether they all move as expected."""
    cells = {method.name: method.summary for method in report.methods}
    labels = {column.key: column.label for column in report.columns}
    rows = []
    for damage in DAMAGES:
        for key, sign in damage.moves.items():
            if key not in labels:
                continue
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


def parse_options() -> argparse.Namespace:
    """Options of the command line."""
    parser = option_parser(__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for the degraded clips and the report, outside the repository",
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the clips")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="tables to make")
    parser.add_argument("--metrics", nargs="+", choices=ALL, default=list(ALL), help="metrics to measure")
    parser.add_argument("--without", nargs="+", default=[], metavar="CLIP", help="names of clips to leave out")
    parser.add_argument(
        "--lags",
        type=Path,
        default=LAGS,
        help="JSON object of the frames by which each clip's face lags behind its sound",
    )
    return parser.parse_args()


def main() -> int:
    """Degrade, evaluate and judge; the exit status is 1 if a metric does not follow."""
    options = parse_options()
    set_threads(options.threads)
    settings = {
        "seconds": options.seconds,
        "crf": CRF,
        "parts": options.parts,
        "without": options.without,
        "metrics": options.metrics,
    }
    run = Record("known_answers", options, settings)
    listed = validation_clips(options.data, "real", json.loads(options.lags.read_text()))
    clips = [clip for clip in listed if clip.name not in options.without][: options.limit]
    names = [clip.name for clip in clips]
    material = (names, *read_clips(clips, options.seconds), options.output)
    folders = write_damages(*material) if "damage" in options.parts else {}
    if "re-encoding" in options.parts:
        folders |= write_encodings(*material)
    report = evaluate(
        folders,
        write_reference(*material),
        options.output / "report",
        EvaluationOptions(
            dataclasses.replace(PROTOCOLS["small"], max_seconds=options.seconds),
            tuple(options.metrics),
            backend="proxy",
            baselines=(),
            workers=options.threads,
            media=False,
            device="cpu",
        ),
    )
    rows = judge(report) if "damage" in options.parts else []

    def shown(values: Sequence[float | None]) -> str:
        return ", ".join("-" if v is None else f"{v:.3f}" for v in values)

    if rows:
        lines = [
            (r["damage"], r["column"], r["wanted"], shown(r["values"]), "yes" if r["by_rank"] else "NO") for r in rows
        ]
        print(table(("damage", "column", "should", f"{CONTROL}, then each strength", "follows"), lines) + "\n")
    moved = changes(report) if "re-encoding" in options.parts else []
    if moved:
        print(table(*change_rows(moved)) + "\n")
    run.results = {"clips": names, "rows": rows, "changes": record(moved), "minutes_of_evaluation": report.minutes}
    run.finish()
    return 0 if all(row["by_rank"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
