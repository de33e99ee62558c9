"""Do w_face and w_body control the motion of face and head? Measures motion at five values of each, with the other at 0.5.

Expression motion is the variance over time of the face mesh without head pose, and head motion that of the six
numbers of head pose (`window_motion`, the quantities that training normalises to w_face and w_body). Meshes are
tracked on the rendered frames, so the measurement includes the renderer; `--meshes` leaves it out. Portraits are first
frames of validation clips, each with another clip's speech and the same seed throughout.

    python benchmarks/motion_intensity.py --plot motion.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_run import (
    Record,
    generation_settings,
    load_model,
    make_video,
    mean_and_error,
    option_parser,
    rises,
    say,
    table,
)
from clips import SpeakingPortrait, choose_portraits
from drawn_meshes import drawn_meshes
from torch import Tensor

from fantasytalking.autoencoder.mesh_codec import smooth_over_time
from fantasytalking.data.motion_dataset import window_motion
from fantasytalking.errors import FantasyTalkingError
from fantasytalking.perception.landmarks import track_mesh
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline

VALUES = (0.0, 0.25, 0.5, 0.75, 1.0)
KNOBS = {"w_face": "expression motion", "w_body": "head motion"}
"""Motion that each setting controls, in the order of `window_motion`."""


def motion_of(
    pipeline: FantasyTalkingPipeline, portrait: SpeakingPortrait, settings: dict[str, Any], of_meshes: bool
) -> Tensor:
    """Measure expression and head motion [2] of one generation, not normalised (see `window_motion`)."""
    codec = pipeline.vae.codec
    if of_meshes:
        with drawn_meshes(sys.maxsize) as meshes:
            make_video(pipeline, portrait.picture, portrait.speech, **settings)
        steady = torch.from_numpy(np.concatenate(meshes))
    else:
        points, _ = track_mesh(make_video(pipeline, portrait.picture, portrait.speech, **settings).frames)
        # As in training, so that jitter of the mesh network does not count as motion.
        steady = smooth_over_time(torch.from_numpy(points), 0.5)
    return window_motion(codec, codec.parameters_of(steady, steady[0]))


def measure(
    pipeline: FantasyTalkingPipeline, portraits: Sequence[SpeakingPortrait], record: Record, of_meshes: bool
) -> dict[tuple[float, float], dict[str, list[float]]]:
    """Measure all values on all portraits, leaving out portraits that fail at any value.

    Returns:
        [expression motion, head motion] by (w_face, w_body) and name of the portrait.
    """
    pairs = sorted({(value, 0.5) for value in VALUES} | {(0.5, value) for value in VALUES})
    measured: dict[tuple[float, float], dict[str, list[float]]] = {pair: {} for pair in pairs}
    for portrait in portraits:
        name = portrait.window.name
        try:
            found = {
                (face, body): motion_of(
                    pipeline, portrait, {**record.settings, "w_face": face, "w_body": body}, of_meshes
                ).tolist()
                for face, body in pairs
            }
        except FantasyTalkingError as error:
            record.leave_out(name, error)
            continue
        for pair, motion in found.items():
            measured[pair][name] = motion
        say(f"{name}: " + ", ".join(f"({f:g}, {b:g}) {m[0]:.2e} {m[1]:.2e}" for (f, b), m in found.items()))
    return measured


def series(measured: dict[tuple[float, float], dict[str, list[float]]], knob: str) -> dict[str, Any]:
    """Effect of one setting: means over portraits at each value, and the number of portraits with rising motion."""
    pairs = [(value, 0.5) if knob == "w_face" else (0.5, value) for value in VALUES]
    names = list(measured[pairs[0]])
    # [values, portraits, 2]
    motion = np.array([[measured[pair][name] for name in names] for pair in pairs]).reshape(len(VALUES), len(names), 2)
    aimed = list(KNOBS).index(knob)
    curves = [[float(v) for v in motion[:, i, aimed]] for i in range(len(names))]
    return {
        "values": list(VALUES),
        **{
            label: {
                "mean": [mean_and_error(row)[0] for row in motion[:, :, i]],
                "standard_error": [mean_and_error(row)[1] for row in motion[:, :, i]],
            }
            for i, label in enumerate(KNOBS.values())
        },
        "monotone": rises([float(np.mean(row)) for row in motion[:, :, aimed]]),
        "portraits_monotone": sum(map(rises, curves)),
        "portraits": len(names),
        "ratio_of_ends": float(motion[-1, :, aimed].mean() / motion[0, :, aimed].mean()),
    }


def report(knob: str, found: dict[str, Any]) -> None:
    """Print the table of one setting, with motion also relative to its mean at 0.5."""
    rows: list[list[Any]] = []
    for label in KNOBS.values():
        means = found[label]["mean"]
        neutral = means[VALUES.index(0.5)]
        rows.append([label, *(f"{m:.2e} ({m / neutral:.2f})" for m in means)])
    print(f"\n{knob} (the other at 0.5), mean over {found['portraits']} portraits, relative to 0.5 in brackets\n")
    print(table(("measured", *(f"{v:g}" for v in VALUES)), rows))
    answer = "rises throughout" if found["monotone"] else "does NOT rise throughout"
    single = f"in {found['portraits_monotone']} of {found['portraits']} portraits on their own"
    print(f"\n{KNOBS[knob]} {answer} (mean); {single}; {found['ratio_of_ends']:.2f} times as much at 1 as at 0")


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw both curves to an image file; prints a note if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        say("no plot: matplotlib is not installed")
        return
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axis, (knob, found) in zip(figure.subplots(1, 2), results.items(), strict=True):
        for label in KNOBS.values():
            means, errors = (np.array(found[label][key], float) for key in ("mean", "standard_error"))
            axis.errorbar(VALUES, means / means[2], np.nan_to_num(errors) / means[2], marker="o", label=label)
        axis.set(xlabel=knob, ylabel="variance relative to 0.5", ylim=(0, None))
        axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> int:
    """Measure and report; the exit status is 1 if the motion does not rise with a setting."""
    parser = option_parser(__doc__)
    parser.add_argument("--portraits", type=int, default=8, help="number of unseen portraits")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each generation")
    parser.add_argument("--longest-side", type=int, default=256, help="size of the rendered frames")
    parser.add_argument("--meshes", action="store_true", help="measure the meshes that are drawn, and draw nothing")
    parser.add_argument("--plot", type=Path, help="also draw the curves to this file")
    options: argparse.Namespace = parser.parse_args()
    pipeline = load_model(options)
    record = Record("motion_intensity", options, {"seed": options.seed, "longest_side": options.longest_side})
    portraits = choose_portraits(
        options.data, min(options.portraits, options.limit or options.portraits), options.seconds
    )
    measured = measure(pipeline, portraits, record, options.meshes)
    if len(record.left_out) == len(portraits):
        raise SystemExit("No portrait could be used; see the reasons above.")
    results = {knob: series(measured, knob) for knob in KNOBS}
    for knob, found in results.items():
        report(knob, found)
    if options.plot is not None:
        draw(results, options.plot)
    print()
    record.results = {
        **results,
        "measured_on": "drawn meshes" if options.meshes else "rendered frames",
        "per_portrait": {f"{face:g},{body:g}": found for (face, body), found in measured.items()},
        "speech_of": {portrait.window.name: portrait.speaker.name for portrait in portraits},
        "generation": generation_settings(pipeline, **record.settings),
    }
    record.finish()
    return 0 if all(found["monotone"] for found in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
