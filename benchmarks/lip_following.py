"""Does the mouth follow the speech? Correlates mouth opening between generated and true video.

The first frame of each window is the portrait and the window's sound is the speech. The face mesh is tracked in the
generated and in the true frames; the figure is Pearson's r of the two curves of `mouth_opening`, averaged over the
windows of a clip and then over clips. Only real footage has true lips; generated clips are in a separate table.

    python benchmarks/lip_following.py                                # the packaged model
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
from benchmark_run import (
    Record,
    generation_settings,
    load_model,
    make_video,
    mean_and_error,
    option_parser,
    say,
    table,
)
from clips import FPS, Clip, Window, assign_speech, spread_windows, validation_clips
from numpy.typing import NDArray
from safetensors.torch import load_file

from fantasytalking.autoencoder import Reference, from_uint8
from fantasytalking.errors import CheckpointError, FantasyTalkingError
from fantasytalking.evaluation.metrics.mouth_correlation import correlation
from fantasytalking.geometry import TIME_STRIDE
from fantasytalking.media.audio import Audio
from fantasytalking.perception.landmarks import mouth_opening, track_mesh
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline

OWN, SHUFFLED, STILL, STAGE_1, NO_AUDIO = "own speech", "shuffled", "still image", "without stage 2", "audio scale 0"


def load_stage1(folder: Path, model: str) -> FantasyTalkingPipeline:
    """Load a model that was trained with stage 1 only.

    Args:
        folder: A model folder, or a checkpoint of a training run.
        model: Model into which the weights of a checkpoint are loaded.

    Raises:
        CheckpointError: The folder is neither, or its weights do not fit the model.
    """
    if (folder / "model_index.json").is_file():
        return FantasyTalkingPipeline.from_pretrained(folder)
    weights = folder / "ema.safetensors"
    if not weights.is_file():
        raise CheckpointError(
            f"'{folder}' holds neither model_index.json nor ema.safetensors; give a model folder or a stage 1 checkpoint."
        )
    pipeline = FantasyTalkingPipeline.from_pretrained(model)
    try:
        pipeline.transformer.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise CheckpointError(
            f"The weights in '{weights}' do not fit the model '{model}'; give a checkpoint and a model of the same run."
        ) from error
    return pipeline


@dataclass
class Take:
    """A window with the inputs of its generations and the true mouth curve.

    Attributes:
        window: The window.
        portrait: Its first frame, [H, W, 3] uint8.
        own: Its own speech.
        other: Speech of another identity.
        other_name: Name of the window that `other` is from.
        truth: Mouth opening in the true frames, [F].
    """

    window: Window
    portrait: NDArray[np.uint8]
    own: Audio
    other: Audio
    other_name: str
    truth: NDArray[np.float32]


@dataclass
class Row:
    """One row of the table.

    Attributes:
        name: Name of the speech or model.
        values: Correlations of a clip's windows, by name of the clip.
        note: Remark for the last column.
    """

    name: str
    values: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""

    def add(self, clip: Clip, value: float) -> None:
        """Add the correlation of one window."""
        self.values.setdefault(clip.name, []).append(value)

    @property
    def summary(self) -> dict[str, Any]:
        """Mean and standard error over clips, after averaging over the windows of each clip."""
        means = {clip: float(np.mean(values)) for clip, values in self.values.items()}
        mean, error = mean_and_error(list(means.values()))
        windows = sum(map(len, self.values.values()))
        record = {"r": mean, "standard_error": error, "clips": len(means), "windows": windows, "per_clip": means}
        return record | ({"note": self.note} if self.note else {})


def opening(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Track the face in frames [F, H, W, 3] and return its mouth opening, [F]."""
    points, _ = track_mesh(frames)
    return np.asarray(mouth_opening(points), np.float32)


def take_windows(clips: Sequence[Clip], count: int, record: Record) -> list[Take]:
    """Read portraits, speech and true curves of all windows; windows without a face or without sound are left out."""
    frames = round(record.options.seconds * FPS)
    windows = [spread_windows(clip, count, frames) for clip in clips]
    giver = assign_speech([w[0].frames for w in windows], [clip.identity for clip in clips])
    takes = []
    # Assigned before the list is cut, so that the other speech does not depend on --limit.
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
    """Generate every window and correlate its mouth opening with the true one."""
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
    """Encode and decode the true motion: the correlation that a perfect transformer would reach."""
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
    """Read the frames by which each clip's face lags behind its sound from a JSON object; empty without a file."""
    return {} if path is None else {str(k): int(v) for k, v in json.loads(path.read_text()).items()}


def measure_real(options: argparse.Namespace, pipeline: FantasyTalkingPipeline, record: Record) -> list[Row]:
    """Measure all rows on real footage."""
    takes = take_windows(validation_clips(options.data, "real", read_lags(options.lags)), options.windows, record)
    record.results["speech_of"] = {take.window.name: take.other_name for take in takes}
    base = record.settings
    rows = [measure(name, takes, pipeline, base, record) for name in (OWN, SHUFFLED)]
    still = Row(STILL, note="a still mouth is constant, and r is defined as 0")
    for take in takes:
        still.add(take.window.clip, correlation(np.zeros_like(take.truth), take.truth))
    stage_1 = Row(STAGE_1, note="not measured, as no --stage1 was given")
    if options.stage1 is not None:
        stage_1 = measure(
            STAGE_1, takes, load_stage1(options.stage1, options.model), {**base, "audio_level": "clip"}, record
        )
    without_audio = measure(NO_AUDIO, takes, pipeline, {**base, "audio_scale": 0.0}, record)
    rows += [still, stage_1, without_audio]
    return [*rows, ceiling(takes, pipeline)] if options.ceiling else rows


def measure_generated(options: argparse.Namespace, pipeline: FantasyTalkingPipeline, record: Record) -> list[Row]:
    """Measure own and shuffled speech on clips that other systems generated, whose lips are only as good as those systems."""
    takes = take_windows(validation_clips(options.data, "generated"), 1, record)
    return [measure(name, takes, pipeline, record.settings, record) for name in (OWN, SHUFFLED)]


def gap(rows: Sequence[Row]) -> dict[str, float | None]:
    """Difference between own and shuffled speech: mean and standard error of the differences within clips."""
    own, shuffled = (next(row for row in rows if row.name == name).summary["per_clip"] for name in (OWN, SHUFFLED))
    mean, error = mean_and_error([own[clip] - shuffled[clip] for clip in own if clip in shuffled])
    return {"gap": mean, "standard_error": error}


def report(title: str, rows: Sequence[Row]) -> dict[str, float | None]:
    """Print one table and its gap, and return the gap."""
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
    parser.add_argument("--windows", type=int, default=2, help="maximum number of windows of a real clip")
    parser.add_argument("--seconds", type=float, default=4.0, help="longest window")
    parser.add_argument(
        "--stage1", type=Path, help="model folder or checkpoint after stage 1; generates with audio at clip level"
    )
    parser.add_argument(
        "--lags",
        type=Path,
        help="JSON object of the frames by which each clip's face lags behind its sound, to be corrected",
    )
    parser.add_argument("--longest-side", type=int, help="size of the rendered frames; smaller is faster")
    parser.add_argument(
        "--generated", action=argparse.BooleanOptionalAction, default=True, help="the table of generated clips"
    )
    parser.add_argument("--ceiling", action="store_true", help="add a row for the true motion, encoded and decoded")
    options = parser.parse_args()
    pipeline = load_model(options)
    settings = {"seed": options.seed} | ({"longest_side": options.longest_side} if options.longest_side else {})
    record = Record("lip_following", options, settings)
    real = measure_real(options, pipeline, record)
    generated = measure_generated(options, pipeline, record) if options.generated else []
    record.results["gap_over_shuffled"] = report("Real clips of unseen identities", real)
    record.results["real"] = {row.name: row.summary for row in real}
    if generated:
        title = "Generated clips of unseen identities (not a ground truth, as their lips are from other systems)"
        record.results["generated_gap_over_shuffled"] = report(title, generated)
        record.results["generated"] = {row.name: row.summary for row in generated}
    print()
    record.results["lags_corrected"] = read_lags(options.lags)
    record.results["generation"] = generation_settings(pipeline, **settings)
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
