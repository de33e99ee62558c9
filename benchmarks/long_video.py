"""Does a long video drift, and are there seams? Measures a long video, and what each ingredient of continuation contributes.

The packaged portrait speaks a sound file; its first and last pieces are compared, and the frame differences at the seams with all others.
Let the file end with the speech that it begins with, so that both pieces have the same to say.

    python benchmarks/long_video.py --speech long.wav --ablate --seeds 2 --output FOLDER

A run that is interrupted goes on with the video that is missing in the folder.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_run import Quiet, Record, generation_settings, load_model, option_parser, plain, say, table
from numpy.typing import NDArray

from fantasytalking.autoencoder.mesh_segments import MeshSegmentDecoder
from fantasytalking.autoencoder.segment_decoder import DecodesSegments
from fantasytalking.evaluation.drift import MEASURES, drift_plot, measure_drift
from fantasytalking.media.image import load_image
from fantasytalking.media.video import probe_video
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.talking_video import VideoOutput

EXAMPLE = embedded_folder() / "example"
PORTRAIT = EXAMPLE / "portrait.png"
VARIANTS: dict[str, dict[str, Any]] = {
    "as the model does it": {},
    "noise on the prefix 0.05": {"prefix_noise": 0.05},
    "no noise on the prefix": {"prefix_noise": 0.0},
    "anchors hear the speech": {"anchor_audio": "on"},
    "no audio on anchors": {"anchor_audio": "off"},
    "look not held": {"hold_look": "off"},
    "segments that know nothing of each other": {"anchored": False},
    "windows, linear": {"long_video": "windows", "window_weights": "linear"},
    "windows, pyramid": {"long_video": "windows", "window_weights": "pyramid"},
}
"""Settings by name."""
COLUMNS = (*MEASURES, "mouth_r")


def variants_of(pipeline: Any, options: Any) -> dict[str, dict[str, Any]]:
    """The variants that differ for a model."""
    if not options.ablate:
        return {name: VARIANTS[name] for name in list(VARIANTS)[:1]}
    continues = pipeline.rules.long_video == "continue"
    same = ["no noise on the prefix", "anchors hear the speech"] if continues else []
    same += ["look not held"] if isinstance(pipeline.autoencoder, DecodesSegments) else []
    return {name: settings for name, settings in VARIANTS.items() if name not in same}


@contextmanager
def forgetting() -> Iterator[None]:
    """Let each segment begin as the first one does, and be put behind the one before without a transition."""
    original = MeshSegmentDecoder.beginning

    def beginning(self: MeshSegmentDecoder) -> None:
        return None

    MeshSegmentDecoder.beginning = beginning  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        MeshSegmentDecoder.beginning = original  # type: ignore[method-assign]


def expected_opening(options: Any, frames: int) -> NDArray[np.float32] | None:
    """The speaker's mouth opening at both ends of the video, NaN between them."""
    if options.truth is None:
        return None
    truth = np.load(options.truth).astype(np.float32)
    told = np.full(frames, np.nan, np.float32)
    told[: len(truth)] = truth[:frames]
    start = frames - round(options.piece_seconds * 25)
    told[start : start + len(truth)] = truth[: frames - start]
    return told


def generated(pipeline: Any, options: Any, path: Path, settings: dict[str, Any], seed: int) -> list[int]:
    """Generate one variant, unless its file is there; the seams."""
    known = path.with_suffix(".seams.json")
    if not known.is_file():
        given = {
            "seed": seed,
            "longest_side": options.longest_side,
            "segment_seconds": options.segment_seconds,
            **settings,
        }
        with contextlib.nullcontext() if given.pop("anchored", True) else forgetting():
            video = pipeline(PORTRAIT, options.speech, progress=Quiet(), output=VideoOutput(path, True), **given)
        say(f"{path.stem}: {sum(video.seconds.values()):.0f} s for {video.duration:.0f} s of video")
        known.write_text(json.dumps(list(video.seams)))
    return [int(frame) for frame in json.loads(known.read_text())]


def measured(pipeline: Any, options: Any, name: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Generate one variant and measure it, unless the folder holds its figures."""
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}.mp4"
    known = path.with_suffix(".json")
    if not known.is_file():
        seams, frames = generated(pipeline, options, path, settings, seed), probe_video(path).frames
        found = measure_drift(
            path, load_image(PORTRAIT), options.piece_seconds, seams, expected_opening(options, frames)
        )
        path.with_suffix(".svg").write_text(str(drift_plot(found, f"{frames / 25:.0f} s of speech: {name}")))
        figures = {"pieces": [vars(piece) for piece in found.pieces], "seam_percentiles": found.seam_percentiles()}
        known.write_text(json.dumps(plain(figures)))
    return dict(json.loads(known.read_text()))


def row_of(name: str, seeds: list[dict[str, Any]]) -> tuple[str, ...]:
    """A row of the table: means over the seeds of the last piece with its change from the first one, and the seams."""
    cells = []
    for measure in COLUMNS:
        first, last = (np.array([one["pieces"][place][measure] for one in seeds]) for place in (0, -1))
        cells.append(f"{last.mean():.3f} ({100 * ((last - first) / first).mean():+.1f} %)")
    seams = [value for one in seeds for value in one["seam_percentiles"]]
    if not seams:
        return name, *cells, "-"
    return (
        name,
        *cells,
        f"{np.median(seams):.0f}, {np.max(seams):.1f}, {sum(value > 99 for value in seams)} of {len(seams)}",
    )


def main() -> int:
    """Measure one video, or every variant, and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--speech", type=Path, default=EXAMPLE / "speech.wav", help="sound file of at least two pieces")
    parser.add_argument("--piece-seconds", type=float, default=10.0, help="length of the pieces that are compared")
    parser.add_argument("--longest-side", type=int, default=256, help="longest side of the video, in pixels")
    parser.add_argument(
        "--segment-seconds", type=float, help="most that a segment adds: short ones add up their faults sooner"
    )
    parser.add_argument("--output", type=Path, default=Path("long-video"), help="folder for videos and plots")
    parser.add_argument("--ablate", action="store_true", help="measure every variant, not only the model's own way")
    parser.add_argument("--seeds", type=int, default=1, help="number of videos of each variant")
    parser.add_argument(
        "--truth", type=Path, help="npy file of the speaker's own mouth opening at both ends, 25 frames a second"
    )
    options = parser.parse_args()
    pipeline = load_model(options)
    record = Record("long_video", options, generation_settings(pipeline, longest_side=options.longest_side))
    variants, found = variants_of(pipeline, options), dict[str, list[dict[str, Any]]]()
    for seed in range(options.seed, options.seed + options.seeds):
        for name, settings in variants.items():
            found.setdefault(name, []).append(measured(pipeline, options, name, settings, seed))
    rows = [row_of(name, seeds) for name, seeds in found.items()]
    print(
        table(("last piece, change from the first", *COLUMNS, "seams: median and highest percentile, above 99"), rows)
    )
    record.results.update(found)
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
