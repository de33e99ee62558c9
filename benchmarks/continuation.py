"""Is there a visible seam where one video continues another? Compares the speed of the face at the cut with its median speed.

The packaged portrait speaks the first and then the second half of the packaged speech, once with `previous` and once without.

    python benchmarks/continuation.py
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

import numpy as np
from benchmark_run import Quiet, Record, load_model, option_parser, say, table

from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.perception.landmarks import track_mesh
from fantasytalking.pipeline.continued_video import CONTINUED_FRAMES
from fantasytalking.pipeline.model_names import embedded_folder

EXAMPLE = embedded_folder() / "example"
CUT = CONTINUED_FRAMES // 2


def seam(pipeline: Any, speech: Audio, seconds: float, seed: int, continued: bool) -> float:
    """Measure the speed of the face mesh at the cut, divided by its median speed over both halves."""
    rate = speech.sample_rate
    portrait = EXAMPLE / "portrait.png"
    first = pipeline(portrait, Audio(speech.samples[: round(seconds * rate)], rate), seed=seed, progress=Quiet())
    begin = round((len(first.frames) - CONTINUED_FRAMES) / first.fps * rate)
    rest = Audio(speech.samples[begin:], rate)
    second = pipeline(portrait, rest, seed=seed + 100, progress=Quiet(), previous=first if continued else None)
    kept = len(first.frames) - CONTINUED_FRAMES + CUT
    points, _ = track_mesh(np.concatenate([first.frames[:kept], second.frames[CUT:]]))
    speed = np.linalg.norm(np.diff(points[..., :2], axis=0), axis=-1).mean(1)
    return float(speed[kept - 1] / np.median(speed))


def main() -> int:
    """Measure every seed with and without `previous`, and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, each with a pair of videos")
    options = parser.parse_args()
    pipeline = load_model(options)
    record = Record("continuation", options, {})
    speech = load_audio(EXAMPLE / "speech.wav", max_seconds=None, min_seconds=0.0)
    found: dict[str, list[float]] = {"with previous": [], "without": []}
    for seed in range(options.seed, options.seed + options.seeds):
        for name, values in found.items():
            values.append(seam(pipeline, speech, 2.6, seed, name == "with previous"))
        say(f"seed {seed}: {found['with previous'][-1]:.2f} with, {found['without'][-1]:.2f} without")
    rows = [(name, f"{statistics.median(values):.2f}", f"{max(values):.2f}") for name, values in found.items()]
    print(table(("speed at the cut over median speed", "median", "largest"), rows))
    record.results = {"cut_speed": found, "seeds": options.seeds}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
