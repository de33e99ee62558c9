"""Do turned heads tear? Share of the face's pixels whose map is folded over or stretched, on turned and on frontal portraits.

Maps are those with which the renderer samples the photo (`autoencoder/soundness.py`); for checkouts that do not have this file they are
the backward maps of their warp, measured in the same way. Contact sheets at the size of the videos are written outside the repository:
the portrait, frames spread over the video, and last the frame with the largest share.

    python benchmarks/turned.py --speech FOLDER --sheets FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_run import Record, option_parser, say, table
from clips import FPS
from contact_sheet import check_outside, make_sheet, spread_frames
from generation import Generator, Speech, add_generation_options
from numpy.typing import NDArray
from PIL import Image
from portraits import Portrait, add_portrait_options, gather

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.metrics.head_motion import head_motion
from fantasytalking.perception.face_measures import head_angles

GROUPS = ("turned", "frontal")
SPOKEN_FROM = 0.6
"""Second of the reading at which the speech begins."""
FRAMES, ROWS = 4, 4
"""Frames of a portrait on a sheet, besides the portrait and the worst one, and portraits on a sheet."""


def measure(
    options: argparse.Namespace, portraits: Sequence[Portrait], record: Record
) -> tuple[dict[str, dict[str, Any]], dict[str, list[NDArray[np.uint8]]]]:
    """Measure all portraits; returns figures and pictures for the sheets."""
    found: dict[str, dict[str, Any]] = {}
    rows: dict[str, list[NDArray[np.uint8]]] = {}
    settings = record.settings
    speech = Speech(options.speech / "reading.wav", SPOKEN_FROM, options.seconds)
    with Generator(options) as generator:
        for portrait in portraits:
            picture = portrait.picture(options.portraits)
            try:
                with generator.make(picture, speech, unsound=True, **settings) as made:
                    frames = made.frames()
                    share = np.array(made.unsound)[: len(frames)]
                    angles = head_angles(made.track())
                    motion = head_motion(angles, FPS)
            except FantasyTalkingError as error:
                record.leave_out(portrait.id, error)
                continue
            worst = int(share.argmax())
            found[portrait.id] = {
                "group": next(group for group in GROUPS if group in portrait.groups),
                "yaw": portrait.yaw,
                "mean": float(share.mean()),
                "largest": float(share.max()),
                "worst_frame": worst,
                "frames_with_any": int((share > 0).sum()),
                "frames": len(share),
                "turn": float(np.abs(angles[:, 0] - angles[0, 0]).max()),
                "yaw_pitch_roll": motion.spread,
                "notes": made.notes,
            }
            rows[portrait.id] = [frames[0], *spread_frames(frames, FRAMES), frames[worst]]
            say(f"{portrait.id}: largest share {share.max():.4f}, {int((share > 0).sum())} of {len(share)} frames")
    return found, rows


def summarise(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Figures of each group."""
    groups = {}
    for group in GROUPS:
        videos = [video for video in found.values() if video["group"] == group]
        if videos:
            groups[group] = {
                "portraits": len(videos),
                "frames": sum(video["frames"] for video in videos),
                "frames_with_any": sum(video["frames_with_any"] for video in videos),
                "mean": float(np.mean([video["mean"] for video in videos])),
                "largest": max(video["largest"] for video in videos),
                "turn": float(np.median([video["turn"] for video in videos])),
            }
    return groups


def write_sheets(rows: dict[str, list[NDArray[np.uint8]]], folder: Path) -> list[str]:
    """Write sheets of `ROWS` portraits each, and return which portraits each shows."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(rows)
    told = []
    for start in range(0, len(names), ROWS):
        shown = names[start : start + ROWS]
        side = max(max(rows[name][0].shape[:2]) for name in shown)
        path = folder / f"sheet_{start // ROWS + 1}.jpg"
        Image.fromarray(make_sheet([rows[name] for name in shown], side)).save(path, quality=92)
        told.append(f"{path}: {', '.join(shown)}")
    return told


def main() -> int:
    """Measure and report; the exit status is 1 if any frame has a pixel that is folded over or stretched."""
    parser = option_parser(__doc__)
    add_portrait_options(parser)
    add_generation_options(parser, 512)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each video")
    parser.add_argument("--w-body", type=float, help="intensity of head motion (default: the model's)")
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), help=f"some of {', '.join(GROUPS)}")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets, outside the repository")
    options = parser.parse_args()
    settings = {"seed": options.seed, "longest_side": options.longest_side}
    settings |= {"w_body": options.w_body} if options.w_body is not None else {}
    record = Record("turned", options, settings)
    try:
        if options.sheets is not None:
            check_outside(options.sheets)
        portraits, record.left_out = gather(options.groups, options.portraits, options.limit, options.only)
        found, rows = measure(options, portraits, record)
    except FantasyTalkingError as error:
        raise SystemExit(str(error)) from error
    columns = ("group", "yaw", "mean", "largest", "frames_with_any", "frames", "turn")
    print(
        "\nShare of face pixels that are folded over or stretched more than fourfold; turn: largest change of yaw, degrees\n"
    )
    print(table(("portrait", *columns), [(name, *(video[c] for c in columns)) for name, video in found.items()]))
    groups = summarise(found)
    print("\n" + table(("group", *next(iter(groups.values()))), [(n, *g.values()) for n, g in groups.items()]) + "\n")
    if options.sheets is not None:
        for line in write_sheets(rows, options.sheets):
            say(line)
    record.results = {"tree": str(options.tree or "."), "groups": groups, "portraits": found}
    record.finish()
    return 0 if all(group["largest"] == 0 for group in groups.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
