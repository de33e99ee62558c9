"""How long does the embedded model take to render a frame, and does it ever fold a face over or stretch it?

The packaged portrait, and any pictures given, turn, nod, speak and blink by rule at several sizes. Times are CPU time and wall time a
frame on one and on two threads, for the warp alone and for warp and painter together; the share of unsound face pixels is the largest
of all frames.

    python benchmarks/rendering.py --picture portrait.jpg
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from benchmark_run import Record, load_model, option_parser, say, table
from numpy.typing import NDArray

from fantasytalking.autoencoder.openings import OPENINGS
from fantasytalking.autoencoder.render import render, silhouette
from fantasytalking.autoencoder.rigid import rotation_from_vector
from fantasytalking.autoencoder.soundness import unsound_share
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.media.image import load_image
from fantasytalking.perception.landmarks import face_mesh
from fantasytalking.pipeline.model_names import embedded_folder

EXAMPLE = embedded_folder() / "example" / "portrait.png"
SIDES = (256, 512, 1024)
FRAMES = 50


def lively(mesh: NDArray[np.float32], frames: int = FRAMES) -> NDArray[np.float32]:
    """Meshes [F, 468, 3] of a head that turns by up to 0.25 radians, with a mouth that opens and closes and eyes that blink once."""
    t = np.arange(frames) / 25
    angles = np.stack([0.1 * np.sin(2 * t), 0.25 * np.sin(3 * t), 0.08 * np.sin(1.7 * t)], 1).astype(np.float32)
    moved = np.repeat(mesh[None], frames, 0)
    for opening in OPENINGS:
        upper, lower = list(opening.upper[1:-1]), list(opening.lower[1:-1])
        shut = np.exp(-(((t - 1) / 0.08) ** 2)) if opening.is_eye else (1 + np.cos(12 * t)) / 2
        gap = (mesh[lower] - mesh[upper]) * shut[:, None, None]
        moved[:, upper] += gap if opening.is_eye else gap / 2
        moved[:, lower] -= 0 if opening.is_eye else gap / 2
    centre = mesh.mean(0)
    rotation = rotation_from_vector(torch.from_numpy(angles)).numpy()
    return np.asarray(np.einsum("fij,fvj->fvi", rotation, moved - centre) + centre, np.float32)


def milliseconds(work: Any, frames: int, repeats: int = 3) -> tuple[float, float]:
    """Least CPU time and least wall time of a frame, in ms."""
    found = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - cpu, time.perf_counter() - wall))
    return tuple(1000 * min(column) / frames for column in zip(*found, strict=True))  # type: ignore[return-value]


def main() -> int:
    """Time every size and every number of threads, and measure every picture."""
    parser = option_parser(__doc__)
    parser.add_argument("--picture", type=Path, action="append", default=[], help="further portrait; may be repeated")
    options = parser.parse_args()
    painter = load_model(options).vae.painter
    record = Record("rendering", options, {})
    rows, times, shares = [], [], {}
    for side in SIDES:
        image = cv2.resize(load_image(EXAMPLE), (side, side), interpolation=cv2.INTER_AREA)
        mesh = face_mesh(image).points.astype(np.float32)
        moved = lively(mesh)
        warper = PortraitWarper(image, mesh, silhouette(image, mesh))
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            torch.set_num_threads(threads)
            warp = milliseconds(lambda w=warper, m=moved: [w.frames(m[i : i + 8]) for i in range(0, len(m), 8)], FRAMES)
            whole = milliseconds(lambda i=image, m=mesh, v=moved: list(render(i, m, v, painter)), FRAMES)
            times.append({"side": side, "threads": threads, "warp_ms": warp, "whole_ms": whole})
            rows.append((f"{side}", f"{threads}", *(f"{value:.1f}" for value in (*warp, *whole))))
            say(f"{side} pixels, {threads} threads: {whole[1]:.1f} ms a frame")
    for path in [EXAMPLE, *options.picture]:
        image = load_image(path)
        mesh = face_mesh(image).points.astype(np.float32)
        shares[path.name] = float(unsound_share(image.shape[:2], mesh, lively(mesh)).max())
    header = ("side", "threads", "warp: CPU ms", "wall ms", "whole: CPU ms", "wall ms")
    print(table(header, rows))
    print(table(("picture", "largest unsound share"), [(name, f"{share:.5f}") for name, share in shares.items()]))
    record.results = {"times": times, "unsound": shares}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
