"""Make the comparison image of the documentation: the same frames of several models' videos, cropped to the face, a labelled row each.

python tools/make_comparison.py docs/assets/training_strips.jpg first-cut=first.mp4 new=new.mp4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fantasytalking.media.video import read_frames
from fantasytalking.perception.faces import choose_face

SIDE = 150
COLUMNS = 8
LABEL = 120


def main() -> None:
    """Read the arguments and write the image."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("videos", nargs="+", help="NAME=FILE for each row; all videos of the same portrait and speech")
    options = parser.parse_args()
    rows, box = [], None
    for entry in options.videos:
        name, _, path = entry.partition("=")
        frames, _ = read_frames(path)
        if box is None:
            x0, y0, x1, y1 = choose_face(frames[0]).box
            centre, half = np.array([(x0 + x1) / 2, (y0 + y1) / 2]), 0.85 * max(x1 - x0, y1 - y0)
            box = (*np.clip(np.round(centre - half), 0, None).astype(int), *np.round(centre + half).astype(int))
        left, top, right, bottom = box
        # Without the first frames, which show the portrait in every row.
        chosen = frames[np.linspace(8, len(frames) - 1, COLUMNS).astype(int)]
        tiles = [cv2.resize(f[top:bottom, left:right], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for f in chosen]
        label = Image.new("RGB", (LABEL, SIDE), "white")
        ImageDraw.Draw(label).text((8, SIDE // 2 - 8), name, "black", ImageFont.load_default(16))
        rows.append(np.concatenate([np.asarray(label), *tiles], 1))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(options.output, quality=85)


if __name__ == "__main__":
    main()
