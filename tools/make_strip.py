"""Make the image of the README: the portrait and evenly spaced frames of a generated video, cropped to the face.

python tools/make_strip.py portrait.png video.mp4 docs/assets/demo_strip.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from fantasytalking.media.image import load_image
from fantasytalking.media.video import read_frames
from fantasytalking.perception.faces import choose_face

SIDE = 220
COLUMNS = 6


def main() -> None:
    """Read the arguments and write the strip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("portrait", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rows", type=int, default=2)
    options = parser.parse_args()
    portrait = load_image(options.portrait)
    frames, _ = read_frames(options.video)
    x0, y0, x1, y1 = choose_face(portrait).box
    centre, half = np.array([(x0 + x1) / 2, (y0 + y1) / 2]), 1.05 * max(x1 - x0, y1 - y0)
    left, top = np.clip(np.round(centre - half), 0, None).astype(int)
    right, bottom = np.round(centre + half).astype(int)
    count = COLUMNS * options.rows - 1
    pictures = [portrait, *(frames[i] for i in np.linspace(0, len(frames) - 1, count).astype(int))]
    tiles = [cv2.resize(p[top:bottom, left:right], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in pictures]
    rows = [np.concatenate(tiles[r * COLUMNS : (r + 1) * COLUMNS], 1) for r in range(options.rows)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(options.output), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    print(options.output)


if __name__ == "__main__":
    main()
