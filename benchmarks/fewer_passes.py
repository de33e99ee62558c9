"""How many network passes does a talking video need? Windows of guidance, step caches and profiles, with lips, likeness and latent error.

Each case is generated with full guidance, and then under each variant with the same noise. Work is the share of the blocks that the plain
loop of three passes a step computes, which no load on the machine can change.

    python benchmarks/fewer_passes.py --model TEACHER --cases training --portraits FOLDER
    python benchmarks/fewer_passes.py --model TEACHER --cases validation --portraits FOLDER --plot windows.svg
    python benchmarks/fewer_passes.py --model TEACHER --student embedded --cases validation --variants profiles --portraits FOLDER
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_run import Quiet, Record, load_model, option_parser, say, table
from clips import FPS
from passes_plot import write_plot
from portraits import add_portrait_options
from speaking_cases import SETS, SpeakingCase, speaking_cases
from step_caches import counted

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.metrics import csim, mouth_correlation, sync_confidence
from fantasytalking.evaluation.metrics.articulation import articulation
from fantasytalking.evaluation.speech_targets import syllable_targets
from fantasytalking.perception.face_measures import lip_opening
from fantasytalking.pipeline.inputs import load_portrait, load_speech
from fantasytalking.system.json import read_json_object, write_json

PASSES = 3
"""Network passes of a step of the plain loop."""
FULL, TURBO = "full", "turbo"
FIGURES = ("sync_c", "mouth_r", "csim", "contrast", "closed")
RESAMPLES = 2000


def window(start: float, end: float) -> dict[str, Any]:
    """Guidance on some of the steps; one pass with speech on the others."""
    return {"guidance_start_percent": start, "guidance_end_percent": end}


def heard(start: float, end: float) -> dict[str, Any]:
    """Speech on some of the steps; none at all on the others."""
    return {"audio_start_percent": start, "audio_end_percent": end}


def taylor(interval: int, **more: Any) -> dict[str, Any]:
    """TaylorSeer, one step of `interval` computed."""
    return {"cache": "taylorseer", "cache_interval": interval, **more}


WINDOWS: dict[str, dict[str, Any]] = {
    "never": window(0, 0),
    **{
        f"{start}-{end}": window(start, end)
        for start in (0, 20, 40)
        for end in (40, 60, 80, 100)
        if 0 < end - start < 100
    },
    **{f"heard {start}-{end}": heard(start, end) for start, end in ((0, 60), (0, 80), (20, 100), (40, 100))},
}
CACHES: dict[str, dict[str, Any]] = {
    **{f"taylorseer {interval}": taylor(interval) for interval in (2, 3, 4)},
    **{f"taylorseer {interval}, {end}": taylor(interval, **window(0, end)) for interval in (2, 3) for end in (60, 80)},
    "first-block 0.2": {"cache": "first-block", "cache_threshold": 0.2},
    "sea 0.4": {"cache": "sea", "cache_threshold": 0.4},
    **{f"{steps} steps": {"steps": steps} for steps in (8, 6, 4)},
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "windows": WINDOWS,
    "caches": CACHES,
    "all": WINDOWS | CACHES,
    "profiles": {"balanced": taylor(3)},
    "none": {},
}
"""What can be compared: windows of guidance, step caches and fewer steps, profiles, and nothing but the model itself."""


def generate(pipeline: Any, inputs: tuple[Any, Any], case: SpeakingCase, steps: int, **settings: Any) -> dict[str, Any]:
    """Generate a case once: its figures, and its latents under `latents`. Work is in shares of a plain loop of so many steps."""
    latents: list[torch.Tensor] = []
    with counted(pipeline.transformer, "ffn") as rows:
        video = pipeline(
            *inputs,
            progress=Quiet(),
            callback_on_step_end=lambda pipe, step, timestep, tensors: latents.append(tensors["latents"]),
            **settings,
        )
    found = {"work": rows[0] / (PASSES * steps * len(pipeline.transformer.blocks)), "latents": latents[-1]}
    return found | {"seconds": video.seconds["sampling"]} | measured(case, video.frames)


def measured(case: SpeakingCase, frames: Any) -> dict[str, float]:
    """Figures of generated frames, as far as a case has what they need."""
    clip = case.footage(frames)
    sync = sync_confidence.proxy().measure(clip, clip).values
    found = {"sync_c": sync["sync_c"], "csim": csim.proxy().measure(clip, case.still).values["csim"]}
    if case.truth is not None:
        found["mouth_r"] = mouth_correlation.standard().measure(clip, case.truth).values["mouth"]
    if case.onsets is not None:
        lips = articulation(lip_opening(clip.track[0]), FPS, syllable_targets(case.onsets))
        found |= {"contrast": lips.contrast, "closed": lips.closed}
    return found


def compared(made: dict[str, Any], full: dict[str, Any]) -> dict[str, float]:
    """Figures of a variant with the difference of its latents from full guidance, in shares of their RMS."""
    difference = made["latents"] - full["latents"]
    rms = float(difference.square().mean().sqrt() / full["latents"].square().mean().sqrt())
    return {name: value for name, value in made.items() if name != "latents"} | {"rms": rms}


def mean_difference(
    cases: Mapping[str, Mapping[str, float]], full: Mapping[str, Mapping[str, float]], name: str
) -> list[float] | None:
    """Mean difference of a figure from full guidance with its 95 % interval, cases drawn anew; None where no case has it."""
    pairs = [(cases[case][name], full[case][name]) for case in cases if name in cases[case]]
    if not pairs:
        return None
    values = np.array([made - plain for made, plain in pairs])
    drawn = values[np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return [float(values.mean()), float(low), float(high)]


def summarise(runs: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """Means of each variant over its cases, and mean differences from full guidance."""
    full, found = runs[FULL], {}
    for variant, cases in runs.items():
        row: dict[str, Any] = {}
        for name in ("work", "rms", *FIGURES):
            values = [case[name] for case in cases.values() if name in case]
            row[name] = float(np.mean(values)) if values else None
        row["differences"] = {name: mean_difference(cases, full, name) for name in FIGURES}
        found[variant] = row
    return found


def run(
    pipeline: Any,
    cases: Sequence[SpeakingCase],
    variants: Mapping[str, Mapping[str, Any]],
    record: Record,
    kept: Path | None = None,
    student: Any = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Generate and measure everything that is not kept yet: variant -> case -> figures. The variant turbo is the student's."""
    runs: dict[str, dict[str, dict[str, float]]] = {name: {} for name in (FULL, *variants)}
    for case in cases:
        file = None if kept is None else kept / f"{case.name.replace(', ', '-')}.json"
        found = read_json_object(file) if file is not None and file.is_file() else {}
        try:
            found = run_case(pipeline, case, variants, record.settings, found, student)
        except FantasyTalkingError as error:
            record.leave_out(case.name, error)
            continue
        if file is not None:
            write_json(file, found)
        for name, figures in runs.items():
            figures[case.name] = found[name]
        say(f"{case.name}: sync {found[FULL]['sync_c']:.3f}, {(time.monotonic() - record.started) / 60:.1f} min")
    return runs


def run_case(
    pipeline: Any,
    case: SpeakingCase,
    variants: Mapping[str, Mapping[str, Any]],
    shared: Mapping[str, Any],
    found: Mapping[str, Any],
    student: Any = None,
) -> dict[str, Any]:
    """Figures of the variants of a case that are not among those found already."""
    missing = {name: value for name, value in variants.items() if name not in found}
    if FULL in found and not missing:
        return dict(found)
    chosen = pipeline.settings(fps=FPS, **shared)
    inputs = load_portrait(case.picture, chosen, pipeline.rules, True), load_speech(case.speech, chosen, pipeline.rules)
    steps = chosen.steps
    plain = generate(pipeline, inputs, case, steps, fps=FPS, **shared)
    made = {FULL: compared(plain, plain)}
    for name, settings in missing.items():
        model = student if name == TURBO else pipeline
        made[name] = compared(generate(model, inputs, case, steps, fps=FPS, **{**shared, **settings}), plain)
    return {**found, **made}


def shown(runs: dict[str, Any]) -> str:
    """The table of the summaries."""

    def cell(row: dict[str, Any], name: str) -> str | None:
        if row[name] is None:
            return None
        _, low, high = row["differences"][name]
        return f"{row[name]:.3f} ({low:+.3f} to {high:+.3f})"

    rows = [
        (variant, f"{row['work']:.2f}", f"{row['rms']:.3f}", *(cell(row, name) for name in FIGURES))
        for variant, row in runs.items()
    ]
    return table(("variant", "work", "latents (RMS)", *FIGURES), rows)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    add_portrait_options(parser)
    parser.add_argument("--cases", choices=SETS, default="training", help="cases to choose by, or to report on")
    parser.add_argument("--variants", choices=tuple(VARIANTS), default="windows", help="what is compared")
    parser.add_argument("--student", help="few-step model that is compared as the profile turbo")
    parser.add_argument("--names", nargs="+", help="variants by name, for a quick try")
    parser.add_argument("--kept", type=Path, help="folder of figures by case; what lies there is used again")
    parser.add_argument("--seconds", type=float, default=4.0, help="most seconds of speech")
    parser.add_argument("--plot", type=Path, help="SVG file of sync over the computed blocks")
    parser.add_argument("--longest-side", type=int, default=256, help="size of the rendered frames")


def main() -> int:
    """Generate, measure and report."""
    parser = option_parser(__doc__)
    add_options(parser)
    options = parser.parse_args()
    settings = {"seed": options.seed, "longest_side": options.longest_side}
    record = Record("fewer_passes", options, settings)
    pipeline = load_model(options)
    variants = {
        name: value for name, value in VARIANTS[options.variants].items() if not options.names or name in options.names
    }
    student = None if options.student is None else type(pipeline).from_pretrained(options.student)
    if student is not None:
        variants[TURBO] = {}
    try:
        runs = run(pipeline, speaking_cases(options.cases, options), variants, record, options.kept, student)
    except FantasyTalkingError as error:
        raise SystemExit(str(error)) from error
    if not runs[FULL]:
        raise SystemExit("No case could be generated; see the reasons above.")
    found = summarise(runs)
    print(f"\n{len(runs[FULL])} cases; in brackets the 95 % interval of the difference from full guidance\n")
    print(shown(found) + "\n")
    if options.plot is not None:
        write_plot(options.plot, found, "sync_c", "sync-proxy-C", aside="heard")
    record.results = {"variants": variants, "summary": found, "per_case": runs}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
