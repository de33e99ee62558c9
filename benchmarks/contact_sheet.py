"""Contact sheet of unseen portraits that speak, with the share of frames in which the face is still that of the portrait.

Each row shows a portrait, and then frames spread over its video. The footage may not be published, so the sheet is
written outside the repository.

    python benchmarks/contact_sheet.py --output /tmp/sheet.jpg
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmark_run import Record, generation_settings, load_model, make_video, option_parser, say, table
from clips import choose_portraits
from identity import WANTED, check_frames, overall, summary
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.errors import FantasyTalkingError, OutputError

REPOSITORY = Path(__file__).resolve().parents[1]
_GAP = 4


def check_outside(path: Path) -> Path:
    """Return the path if it is outside this repository.

    Raises:
        OutputError: The path is inside the repository.
    """
    if path.resolve().is_relative_to(REPOSITORY):
        raise OutputError(
            f"The output '{path}' is inside the repository, where third-party footage must not be; "
            "choose a path outside it."
        )
    return path


def fit_cell(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Scale an image [H, W, 3] to fit a white square [side, side, 3]."""
    scale = side / max(image.shape[:2])
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    cell = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    cell[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=method)
    return cell


def spread_frames(frames: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """Pick `count` evenly spaced frames of [F, H, W, 3], with the last one and without the first (nearly the portrait)."""
    return [frames[i] for i in np.linspace(0, len(frames) - 1, count + 1).round().astype(int)[1:]]


def make_sheet(rows: Sequence[Sequence[NDArray[np.uint8]]], side: int) -> NDArray[np.uint8]:
    """Arrange rows of images in a grid of square cells, [H, W, 3] uint8."""
    columns = max(map(len, rows))
    step = side + _GAP
    sheet = np.full((len(rows) * step + _GAP, columns * step + _GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            top, left = _GAP + y * step, _GAP + x * step
            sheet[top : top + side, left : left + side] = fit_cell(image, side)
    return sheet


def main() -> int:
    """Generate, measure and draw; the exit status is 1 if too few frames show the portrait's face."""
    parser = option_parser(__doc__)
    parser.add_argument("--portraits", type=int, default=12, help="number of unseen portraits")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each generation")
    parser.add_argument("--frames", type=int, default=8, help="frames of each video on the sheet")
    parser.add_argument("--cell", type=int, default=224, help="side of an image on the sheet, in pixels")
    default = Path(tempfile.gettempdir()) / "fantasytalking_contact_sheet.jpg"
    parser.add_argument("--output", type=Path, default=default, help="JPEG or PNG file outside the repository")
    parser.add_argument("--videos", type=Path, help="also write the videos to this folder outside the repository")
    options = parser.parse_args()
    check_outside(options.output)
    pipeline = load_model(options)
    record = Record("contact_sheet", options, {"seed": options.seed})
    portraits = choose_portraits(
        options.data, min(options.portraits, options.limit or options.portraits), options.seconds
    )
    rows: list[list[NDArray[np.uint8]]] = []
    found: dict[str, dict[str, Any]] = {}
    for portrait in portraits:
        name = portrait.window.name
        try:
            video = make_video(pipeline, portrait.picture, portrait.speech, **record.settings)
            found[name] = summary(check_frames(video.frames, portrait.picture))
        except FantasyTalkingError as error:
            record.leave_out(name, error)
            continue
        rows.append([portrait.picture, *spread_frames(video.frames, options.frames)])
        if options.videos is not None:
            check_outside(options.videos).mkdir(parents=True, exist_ok=True)
            video.save(options.videos / f"{name}.mp4", overwrite=True)
        say(f"{name}: good in {found[name]['good']:.1%} of {len(video.frames)} frames")
    if not rows:
        raise SystemExit("No portrait could be used; see the reasons above.")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_sheet(rows, options.cell)).save(options.output, quality=92)
    return report(options, record, found, {s.window.name: s.speaker.name for s in portraits}, pipeline)


def report(
    options: argparse.Namespace,
    record: Record,
    found: dict[str, dict[str, Any]],
    speech_of: dict[str, str],
    pipeline: Any,
) -> int:
    """Print the table and the record; the exit status."""
    columns = ("frames", "cosine", "lowest_cosine", "found", "good", "whole", "sharpness")
    rows = [(name, *(values[column] for column in columns)) for name, values in found.items()]
    print("\n" + table(("portrait", *(column.replace("_", " ") for column in columns)), rows))
    total = overall(list(found.values()))
    enough = total["share_good"] >= WANTED
    print(
        f"\na face that matches the portrait in {total['share_good']:.2%} of {total['frames']} frames "
        f"(required: {WANTED:.0%}), not cut off in {total['share_whole']:.2%}; sheet: {options.output}\n"
    )
    record.results = {
        "overall": total,
        "wanted_share_good": WANTED,
        "enough": enough,
        "per_portrait": found,
        "speech_of": speech_of,
        "generation": generation_settings(pipeline, **record.settings),
        "sheet": str(options.output),
    }
    record.finish()
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
