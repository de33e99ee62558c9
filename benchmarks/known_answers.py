"""Does each metric move as it should? Real clips are made worse in known ways, and every metric must follow by rank.

Blur, noise, freezing, a late picture, another person's face: each in three strengths, from the real clips of the validation split. A
metric follows when its value moves in the right direction from strength to strength, beginning at clips that were only encoded again.

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
from clips import FPS, Clip, Window, validation_clips
from common import Record, option_parser, say, table
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
    """One way to make clips worse.

    Attributes:
        name: in the table.
        strengths: rising.
        unit: of the strengths.
        apply: frames [F, H, W, 3], strength, place of the clip and frames of all clips -> frames.
        moves: column key -> +1 or -1, the direction in which it must move.
    """

    name: str
    strengths: tuple[float, ...]
    unit: str
    apply: Callable[[Frames, float, int, Sequence[Frames]], Frames]
    moves: dict[str, int]


def _each(change: Callable[[Frames], Frames], frames: Frames) -> Frames:
    return np.stack([np.asarray(change(frame), np.uint8) for frame in frames])


def blur(frames: Frames, sigma: float, place: int, every: Sequence[Frames]) -> Frames:
    """Gaussian, sigma in pixels of a picture of 256."""
    scale = max(frames.shape[1:3]) / 256
    return _each(lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma * scale), frames)


def noise(frames: Frames, sigma: float, place: int, every: Sequence[Frames]) -> Frames:
    """Independent in every pixel and frame, sigma in grey levels."""
    rng = np.random.default_rng(place)
    return _each(lambda frame: np.clip(frame + rng.normal(0, sigma, frame.shape), 0, 255), frames)


def freeze(frames: Frames, length: float, place: int, every: Sequence[Frames]) -> Frames:
    """Each group of `length` frames shows its first."""
    return frames[np.arange(len(frames)) // int(length) * int(length)]


def late(frames: Frames, shift: float, place: int, every: Sequence[Frames]) -> Frames:
    """The picture comes `shift` frames late, the sound as it was."""
    return frames[np.maximum(np.arange(len(frames)) - int(shift), 0)]


def swap(frames: Frames, share: float, place: int, every: Sequence[Frames]) -> Frames:
    """The first `share` of the clips show the next clip's pictures, as long as they last."""
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
    """Of a method in the report."""
    return f"{damage.name} {strength:g}"


def write_sets(clips: Sequence[Clip], seconds: float, output: Path) -> dict[str, Path]:
    """Folders of damaged clips by row name, and the reference in `output/reference`; what is there already stays."""
    frames, sounds = [], []
    for clip in clips:
        window = Window(clip, 0, min(clip.frames, round(seconds * FPS)))
        frames.append(window.video())
        # In step, or a late picture would come nearer to a sound that is late itself.
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
    """For each damage and each column that must move: values from the control on, and whether they rise by rank."""
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
    """Damage, evaluate, judge; the exit status is 1 when a metric does not follow."""
    parser = option_parser(__doc__)
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for damaged clips and the report, outside the repository"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the clips")
    parser.add_argument(
        "--lags", type=Path, default=LAGS, help="JSON, clip name -> frames its face lags behind its sound"
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
    print(
        table(("made worse by", "column", "should", f"{CONTROL}, then each strength", "follows by rank"), lines) + "\n"
    )
    record.results = {"clips": [clip.name for clip in clips], "rows": rows, "minutes_of_evaluation": report.minutes}
    record.finish()
    return 0 if all(row["by_rank"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
