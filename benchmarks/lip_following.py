"""Does the mouth follow the speech? Correlation of mouth opening between generated and true video.

Each window's first frame is the portrait and its own sound the speech. The face mesh is tracked through the generated
and through the true frames; the figure is Pearson's r of the two curves of `mouth_opening` over the window, averaged
within a clip, then over clips. True lips are known of real footage only; generated clips stand in a table of their own.

    python benchmarks/lip_following.py                                # the model that comes with the package
    python benchmarks/lip_following.py --model FOLDER --stage1 FOLDER --longest-side 256
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from clips import FPS, Clip, Window, donors, spread_windows, validation_clips
from common import (
    Record,
    generation_settings,
    load_model,
    make_video,
    mean_and_error,
    option_parser,
    say,
    table,
)
from numpy.typing import NDArray
from safetensors.torch import load_file

from fantasytalking.autoencoder import Reference, from_uint8
from fantasytalking.errors import CheckpointError, FantasyTalkingError
from fantasytalking.evaluation.metrics.mouth_correlation import correlation
from fantasytalking.geometry import TIME_STRIDE
from fantasytalking.media.audio import Audio
from fantasytalking.perception.landmarks import mouth_opening, track_mesh
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline

OWN, SHUFFLED, STILL, STAGE_1, DEAF = "own speech", "shuffled", "still image", "without stage 2", "audio scale 0"


def load_stage1(folder: Path, model: str) -> FantasyTalkingPipeline:
    """A stage 1 model: a model folder, or a checkpoint of a training run, whose weights are put into `model`.

    Raises:
        CheckpointError: the folder holds neither, or weights of another shape.
    """
    if (folder / "model_index.json").is_file():
        return FantasyTalkingPipeline.from_pretrained(folder)
    weights = folder / "ema.safetensors"
    if not weights.is_file():
        raise CheckpointError(
            f"'{folder}' holds neither model_index.json nor ema.safetensors; give a stage 1 checkpoint."
        )
    pipeline = FantasyTalkingPipeline.from_pretrained(model)
    try:
        pipeline.transformer.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise CheckpointError(
            f"The weights in '{weights}' do not fit the model '{model}'; give both of one run."
        ) from error
    return pipeline


@dataclass
class Take:
    """A window with what is measured on it once: its portrait, its own speech, a foreign one, the true curve [F]."""

    window: Window
    portrait: NDArray[np.uint8]
    own: Audio
    other: Audio
    other_name: str
    truth: NDArray[np.float32]


@dataclass
class Row:
    """One line of the table: clip -> r of its windows."""

    name: str
    values: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""

    def add(self, clip: Clip, value: float) -> None:
        """One window's r."""
        self.values.setdefault(clip.name, []).append(value)

    @property
    def summary(self) -> dict[str, Any]:
        """Mean and standard error over clips, windows averaged within a clip first."""
        means = {clip: float(np.mean(values)) for clip, values in self.values.items()}
        mean, error = mean_and_error(list(means.values()))
        windows = sum(map(len, self.values.values()))
        record = {"r": mean, "standard_error": error, "clips": len(means), "windows": windows, "per_clip": means}
        return record | ({"note": self.note} if self.note else {})


def opening(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mouth opening over time [F] of the face in frames [F, H, W, 3]."""
    points, _ = track_mesh(frames)
    return np.asarray(mouth_opening(points), np.float32)


def take_windows(clips: Sequence[Clip], count: int, record: Record) -> list[Take]:
    """Portraits, speech and true curves of all windows; windows without a face or without sound are left out."""
    frames = round(record.options.seconds * FPS)
    windows = [spread_windows(clip, count, frames) for clip in clips]
    giver = donors([w[0].frames for w in windows], [clip.identity for clip in clips])
    takes = []
    # The foreign speech does not depend on --limit.
    for own, donor in list(zip(windows, giver, strict=True))[: record.options.limit]:
        for index, window in enumerate(own):
            other = windows[donor][index % len(windows[donor])]
            try:
                video = window.video()
                truth = opening(video)
                takes.append(Take(window, video[0], window.speech(), other.speech(len(video)), other.name, truth))
            except FantasyTalkingError as error:
                record.leave_out(window.name, error)
    return takes


def measure(
    name: str, takes: Sequence[Take], pipeline: FantasyTalkingPipeline, settings: dict[str, Any], record: Record
) -> Row:
    """Generate every window and correlate."""
    row = Row(name)
    for take in takes:
        speech = take.other if name == SHUFFLED else take.own
        try:
            video = make_video(pipeline, take.portrait, speech, **settings)
            made = opening(video.frames)
        except FantasyTalkingError as error:
            record.leave_out(f"{take.window.name} ({name})", error)
            continue
        length = min(len(made), len(take.truth))
        row.add(take.window.clip, correlation(made[:length], take.truth[:length]))
        say(f"{name:>16}  {take.window.name:<12} r = {row.values[take.window.clip.name][-1]:+.3f}")
    return row


def ceiling(takes: Sequence[Take], pipeline: FantasyTalkingPipeline) -> Row:
    """The true motion through the autoencoder: what a perfect transformer would reach."""
    row = Row("true motion, decoded", note="upper bound set by the autoencoder")
    for take in takes:
        reference = Reference(from_uint8(take.portrait)[None])
        frames = take.window.video()
        # Whole latent frames: 4 f + 1 of them.
        clip = from_uint8(frames[: (len(frames) - 1) // TIME_STRIDE * TIME_STRIDE + 1]).movedim(0, 1)[None]
        latents = pipeline.autoencoder.encode(clip, reference)
        made = opening(np.stack(list(pipeline.autoencoder.decode_frames(latents, reference))))
        row.add(take.window.clip, correlation(made, take.truth[: len(made)]))
    return row


def read_lags(path: Path | None) -> dict[str, int]:
    """Clip name -> frames by which the face lags behind the sound, from a JSON object; empty without a file."""
    return {} if path is None else {str(k): int(v) for k, v in json.loads(path.read_text()).items()}


def measure_real(options: argparse.Namespace, pipeline: FantasyTalkingPipeline, record: Record) -> list[Row]:
    """All rows on real footage."""
    takes = take_windows(validation_clips(options.data, "real", read_lags(options.lags)), options.windows, record)
    record.results["speech_of"] = {take.window.name: take.other_name for take in takes}
    base = record.settings
    rows = [measure(name, takes, pipeline, base, record) for name in (OWN, SHUFFLED)]
    still = Row(STILL, note="a still mouth is constant: r is defined as 0")
    for take in takes:
        still.add(take.window.clip, correlation(np.zeros_like(take.truth), take.truth))
    stage_1 = Row(STAGE_1, note="not measured: no --stage1 checkpoint was given")
    if options.stage1 is not None:
        stage_1 = measure(
            STAGE_1, takes, load_stage1(options.stage1, options.model), {**base, "audio_level": "clip"}, record
        )
    deaf = measure(DEAF, takes, pipeline, {**base, "audio_scale": 0.0}, record)
    rows += [still, stage_1, deaf]
    return [*rows, ceiling(takes, pipeline)] if options.ceiling else rows


def measure_generated(options: argparse.Namespace, pipeline: FantasyTalkingPipeline, record: Record) -> list[Row]:
    """Own and shuffled speech on clips that other systems generated: lips only as true as those systems made them."""
    takes = take_windows(validation_clips(options.data, "generated"), 1, record)
    return [measure(name, takes, pipeline, record.settings, record) for name in (OWN, SHUFFLED)]


def gap(rows: Sequence[Row]) -> dict[str, float | None]:
    """How much better the own speech is followed than a foreign one: mean and standard error of clip-wise differences."""
    own, shuffled = (next(row for row in rows if row.name == name).summary["per_clip"] for name in (OWN, SHUFFLED))
    mean, error = mean_and_error([own[clip] - shuffled[clip] for clip in own if clip in shuffled])
    return {"gap": mean, "standard_error": error}


def report(title: str, rows: Sequence[Row]) -> dict[str, float | None]:
    """Print one table and its gap; returns the gap."""
    summaries = [(row, row.summary) for row in rows]
    cells = [(row.name, s["r"], s["standard_error"], s["clips"], s["windows"], row.note) for row, s in summaries]
    print(f"\n{title}\n")
    print(table(("speech", "r", "standard error", "clips", "windows", "note"), cells))
    found = gap(rows)
    if found["gap"] is not None:
        error = "" if found["standard_error"] is None else f" +- {found['standard_error']:.3f}"
        print(f"\ngap over shuffled: {found['gap']:+.3f}{error}")
    return found


def main() -> int:
    """Measure and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--windows", type=int, default=2, help="windows of a real clip, at most")
    parser.add_argument("--seconds", type=float, default=4.0, help="longest window")
    parser.add_argument("--stage1", type=Path, help="model folder or checkpoint of stage 1, run in clip mode")
    parser.add_argument("--lags", type=Path, help="JSON, clip name -> frames its face lags behind its sound; corrected")
    parser.add_argument("--longest-side", type=int, help="render smaller, to be quick")
    parser.add_argument("--generated", action=argparse.BooleanOptionalAction, default=True, help="the side table")
    parser.add_argument("--ceiling", action="store_true", help="add the true motion through the autoencoder")
    options = parser.parse_args()
    pipeline = load_model(options)
    settings = {"seed": options.seed} | ({"longest_side": options.longest_side} if options.longest_side else {})
    record = Record("lip_following", options, settings)
    real = measure_real(options, pipeline, record)
    generated = measure_generated(options, pipeline, record) if options.generated else []
    record.results["gap_over_shuffled"] = report("Real clips of unseen identities", real)
    record.results["real"] = {row.name: row.summary for row in real}
    if generated:
        title = "Generated clips of unseen identities (not a reference: other systems made their lips)"
        record.results["generated_gap_over_shuffled"] = report(title, generated)
        record.results["generated"] = {row.name: row.summary for row in generated}
    print()
    record.results["lags_corrected"] = read_lags(options.lags)
    record.results["generation"] = generation_settings(pipeline, **settings)
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
