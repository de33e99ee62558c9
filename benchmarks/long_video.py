"""Does a long video drift, and are there seams? Measures a long video, and what each ingredient of continuation contributes.

The packaged portrait speaks a sound file; its first and last pieces are compared, and the frame differences at the seams with all others.
Let the file end with the speech that it begins with, so that both pieces have the same to say.

    python benchmarks/long_video.py --speech long.wav --ablate --output FOLDER
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from benchmark_run import Quiet, Record, generation_settings, load_model, option_parser, say, table

from fantasytalking.evaluation.drift import MEASURES, Drift, drift_plot, measure_drift
from fantasytalking.media.image import load_image
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.talking_video import VideoOutput

EXAMPLE = embedded_folder() / "example"
VARIANTS: dict[str, dict[str, Any]] = {
    "as the model does it": {},
    "noise on the prefix 0.05": {"long_video": "continue", "prefix_noise": 0.05},
    "no noise on the prefix": {"long_video": "continue", "prefix_noise": 0.0},
    "anchors hear the speech": {"long_video": "continue", "anchor_audio": "on"},
    "no audio on anchors": {"long_video": "continue", "anchor_audio": "off"},
    "look not held": {"long_video": "continue", "hold_look": "off"},
    "windows, linear": {"long_video": "windows", "window_weights": "linear"},
    "windows, pyramid": {"long_video": "windows", "window_weights": "pyramid"},
}
"""Settings by name; what makes no difference for a model gives the same figures twice."""


def measured(pipeline: Any, options: Any, name: str, settings: dict[str, Any]) -> Drift:
    """Generate one variant and measure it."""
    portrait, folder = load_image(EXAMPLE / "portrait.png"), Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' ', '-').replace(',', '')}.mp4"
    given = {"seed": options.seed, "longest_side": options.longest_side, **settings}
    video = pipeline(portrait, options.speech, progress=Quiet(), output=VideoOutput(path, True), **given)
    found = measure_drift(path, portrait, options.piece_seconds, video.seams)
    path.with_suffix(".svg").write_text(str(drift_plot(found, f"{video.duration:.0f} s of speech: {name}")))
    say(f"{name}: {sum(video.seconds.values()):.0f} s for {video.duration:.0f} s of video")
    return found


def row_of(name: str, found: Drift) -> tuple[str, ...]:
    """A row of the table: what has changed from the first to the last piece, and the highest seam."""
    changes = [f"{100 * found.change(measure):+.1f} %" for measure in MEASURES]
    seams = found.seam_percentiles()
    return name, *changes, f"{max(seams):.1f}" if seams else "-"


def main() -> int:
    """Measure one video, or every variant, and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--speech", type=Path, default=EXAMPLE / "speech.wav", help="sound file of at least two pieces")
    parser.add_argument("--piece-seconds", type=float, default=10.0, help="length of the pieces that are compared")
    parser.add_argument("--longest-side", type=int, default=256, help="longest side of the video, in pixels")
    parser.add_argument("--output", type=Path, default=Path("long-video"), help="folder for videos and plots")
    parser.add_argument("--ablate", action="store_true", help="measure every variant, not only the model's own way")
    options = parser.parse_args()
    pipeline = load_model(options)
    record = Record("long_video", options, generation_settings(pipeline, longest_side=options.longest_side))
    variants = VARIANTS if options.ablate else {name: VARIANTS[name] for name in list(VARIANTS)[:1]}
    rows = []
    for name, settings in variants.items():
        found = measured(pipeline, options, name, settings)
        rows.append(row_of(name, found))
        record.results[name] = {
            "pieces": [
                {key: None if math.isnan(value) else round(value, 4) for key, value in vars(piece).items()}
                for piece in found.pieces
            ],
            "seam_percentiles": [round(value, 2) for value in found.seam_percentiles()],
        }
    print(table(("last piece against the first", *MEASURES, "highest seam, percentile"), rows))
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
