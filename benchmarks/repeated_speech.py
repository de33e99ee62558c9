"""Does the mouth of a long video change with time? The same words are said again and again, with several seeds.

The speech is a sound file repeated, so whatever differs between its first and its last take is time, or chance: over the seeds, the change
from the first take to each later one is given with its interval. Measured are the meshes that are drawn, so no picture is made and no
tracker adds its own noise; `--tracked` measures the pictures as well, which takes a minute for each minute of video.

    python benchmarks/repeated_speech.py --speech ten_seconds.wav --takes 6 --seeds 12
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_run import Quiet, Record, generation_settings, load_model, mean_and_error, option_parser, say, table
from drawn_meshes import drawn_meshes, openings_in
from numpy.typing import NDArray

from fantasytalking.evaluation.metrics.mouth_correlation import correlation
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.image import load_image
from fantasytalking.perception.landmarks import mouth_opening, track_mesh
from fantasytalking.pipeline.model_names import embedded_folder

EXAMPLE = embedded_folder() / "example"
Curve = NDArray[np.float64]


def takes_of(curve: Curve, count: int) -> list[Curve]:
    """A curve [F] in as many equal parts as there are takes."""
    length = len(curve) // count
    return [curve[number * length : (number + 1) * length] for number in range(count)]


def figures(takes: list[Curve], truth: Curve | None) -> dict[str, list[float]]:
    """Spread and mean of each take's opening, its correlation with that of all other takes, and with the true one."""
    found = {
        "articulation": [float(take.std()) for take in takes],
        "mean opening": [float(one.mean()) for one in takes],
    }
    found["r to the other takes"] = [
        correlation(take, np.mean([other for other in takes if other is not take], 0)) for take in takes
    ]
    if truth is not None:
        found["r to the true mouth"] = [correlation(take[: len(truth)], truth[: len(take)]) for take in takes]
    return found


def with_error(values: Curve, form: str, times: float = 1.0) -> str:
    """Mean and, if there are several values, so many standard errors of it."""
    mean, error = mean_and_error(values.tolist())
    return form.format(mean) + ("" if error is None else f" +- {form.format(times * error).lstrip('+')}")


def rows_of(seeds: list[dict[str, list[float]]]) -> list[tuple[Any, ...]]:
    """For each measure and take: mean over the seeds, and the mean change from the first take with its 95 % interval, in percent."""
    rows: list[tuple[Any, ...]] = []
    for name in seeds[0]:
        values = np.array([one[name] for one in seeds])
        for take in range(values.shape[1]):
            changes = 100 * (values[:, take] - values[:, 0]) / values[:, 0].mean()
            told = "-" if take == 0 else with_error(changes, "{:+.1f}", 1.96)
            rows.append((name, take + 1, with_error(values[:, take], "{:.4f}"), told))
    return rows


def main() -> int:
    """Generate with each seed, measure and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--speech", type=Path, default=EXAMPLE / "speech.wav", help="what is said in each take")
    parser.add_argument("--truth", type=Path, help="npy file of the speaker's own mouth opening at 25 frames a second")
    parser.add_argument("--takes", type=int, default=6, help="number of times that it is said")
    parser.add_argument(
        "--pieces", type=int, default=1, help="equal pieces of the speech that are compared in place of it as a whole"
    )
    parser.add_argument("--seeds", type=int, default=12, help="number of videos")
    parser.add_argument("--longest-side", type=int, default=256, help="longest side of the video, in pixels")
    parser.add_argument("--tracked", action="store_true", help="draw the pictures, and measure them too")
    options = parser.parse_args()
    pipeline = load_model(options)
    record = Record("repeated_speech", options, generation_settings(pipeline, longest_side=options.longest_side))
    once = load_audio(options.speech, 16000)
    whole = 640 * (len(once.samples) // 640)  # whole frames, so that every take lies alike on them
    speech = Audio(np.tile(once.samples[:whole], options.takes), 16000)
    truth = None if options.truth is None else np.load(options.truth)
    portrait = load_image(EXAMPLE / "portrait.png")
    drawn: list[dict[str, list[float]]] = []
    tracked: list[dict[str, list[float]]] = []
    for seed in range(options.seed, options.seed + options.seeds):
        with drawn_meshes(0 if options.tracked else sys.maxsize) as meshes:
            video = pipeline(portrait, speech, progress=Quiet(), seed=seed, longest_side=options.longest_side)
            frames = iter(video)
            if options.tracked:
                seen = np.asarray(mouth_opening(track_mesh(frames)[0]), np.float64)
                tracked.append(figures(takes_of(seen, options.takes * options.pieces), truth))
            else:
                assert sum(1 for _ in frames) == len(video)
        drawn.append(figures(takes_of(openings_in(meshes)[: len(video)], options.takes * options.pieces), truth))
        say(f"seed {seed}: articulation {np.round(drawn[-1]['articulation'], 4).tolist()}")
    for what, found in (("drawn meshes", drawn), ("tracked pictures", tracked)):
        if found:
            print(f"{what}, {len(found)} seeds")
            print(table(("measure", "take", "mean +- standard error", "change, % (95 %)"), rows_of(found)))
    record.results = {"drawn": drawn, "tracked": tracked}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
