"""Are the last ten seconds of long speeches as good as their first ten? Over several seeds, without making what lies between.

All that a segment takes over from the one before is the motion of its last frames; noise, speech and blinks depend on its place alone. Two
runs that begin differently but draw the same noise come together: `--check` measures how fast. So the last seconds are sampled as in an
uninterrupted run, but for a run-in that begins with the portrait at rest some time before them. Only the two ends are drawn.

    python benchmarks/last_seconds.py --check --speech minute.wav
    python benchmarks/last_seconds.py --speech FOLDER/*.wav --seeds 2 --output OTHER
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_run import Quiet, Record, generation_settings, load_model, option_parser, say, table
from drawn_meshes import drawn_meshes, openings_in
from numpy.typing import NDArray
from repeated_speech import with_error

from fantasytalking.autoencoder.mesh_codec import POSE_DIMENSIONS
from fantasytalking.evaluation.drift import MEASURES, measure_drift
from fantasytalking.evaluation.metrics.mouth_correlation import correlation
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.call_arguments import cases_of
from fantasytalking.pipeline.clip_batches import Run
from fantasytalking.pipeline.long_video import LongVideo
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.segments import overlap_of
from fantasytalking.system.files import atomic_path

EXAMPLE = embedded_folder() / "example"
SECONDS = 10.0


class Maker:
    """Makes the long video of a speech from any of its segments on."""

    def __init__(self, pipeline: Any, speech: Path, longest_side: int, seed: int) -> None:
        run = Run(Quiet())
        settings = {"seed": seed, "longest_side": longest_side}
        (case,), _ = cases_of(str(EXAMPLE / "portrait.png"), str(speech), pipeline.settings, settings)
        self.portrait, self.speech = pipeline._read(case)
        self._parts = (
            pipeline,
            pipeline._settle(case, self.portrait, self.speech, run, ""),
            self.portrait,
            self.speech,
            run,
        )
        self._pipeline, self.seed = pipeline, seed
        self.ends = segment_ends(LongVideo(*self._parts))

    def begun(self, number: int) -> LongVideo:
        """The video after so many segments, as if the person had been at rest, like the portrait, at the end of them."""
        video = LongVideo(*self._parts)
        if number:
            video.restore(self._state(video, number))
        return video

    def before(self, first: int, run_in: float) -> LongVideo:
        """The video some seconds before a frame."""
        return self.begun(sum(end <= first - run_in * self.speech.fps for end in self.ends))

    @torch.no_grad()
    def _state(self, video: LongVideo, number: int) -> dict[str, torch.Tensor]:
        """What `LongVideo.state` would hold; its noise is that of an uninterrupted run."""
        autoencoder, overlap = self._pipeline.autoencoder, overlap_of(video.longest, 9)
        reference = video._reference
        (_, mesh), *_ = autoencoder._portraits(reference)
        still = autoencoder.codec.still(torch.from_numpy(mesh))
        noise, start = torch.Generator().manual_seed(self.seed), 0
        for end in self.ends[:number]:
            shape = autoencoder.latent_shape(end - start, *reference.images.shape[-2:])
            torch.randn(1, *shape, generator=noise)
            start = end - overlap
        held = video._decoder.held_back
        given = self.ends[number - 1] - held
        return {
            "segment": torch.tensor([given, number - 1, 0, 0, 0, 0]),
            "generator": noise.get_state(),
            "decoder.motion": still.expand(held, -1).clone(),
            "decoder.numbers": torch.tensor([given, 0, 0, 0]),
            "decoder.left": torch.zeros(1, len(still)),
            "decoder.last": still.expand(overlap, -1).clone(),
            "decoder.drift": torch.zeros(POSE_DIMENSIONS),
        }


def segment_ends(video: LongVideo) -> list[int]:
    """One past the last frame of each segment of a video that has not begun."""
    ends = []
    while video.before is None or not video.before.is_last:
        segment = video._next()
        video._enter(segment)
        assert segment is not None
        ends.append(segment.end)
    return ends


def openings_of(video: LongVideo, frames: int | None = None) -> NDArray[np.float64]:
    """Mouth openings of the next frames, or of all."""
    with drawn_meshes(sys.maxsize) as meshes:
        for _ in itertools.islice(video.each_frame(), frames):
            pass
    return openings_in(meshes)


def check(pipeline: Any, options: Any) -> list[tuple[Any, ...]]:
    """How far a run that begins in the middle is from an uninterrupted one, by the seconds since then."""
    rows = []
    for seed in range(options.seed, options.seed + options.seeds):
        maker = Maker(pipeline, options.speech[0], options.longest_side, seed)
        whole = openings_of(maker.begun(0))
        for number in options.begin:
            late = maker.begun(number)
            first = late.frames
            part = openings_of(late)
            gaps = np.abs(part - whole[first : first + len(part)]) / whole.std()
            told = [
                f"{gaps[25 * at : 25 * at + 50].max():.5f}"
                for at in (0, 2, 4, 8, 12, 16, 24, 32)
                if 25 * at + 50 <= len(gaps)
            ]
            rows.append((seed, number, f"{first / 25:.1f}", *told, *[""] * (8 - len(told))))
            say(str(rows[-1]))
    return rows


End = tuple[NDArray[np.uint8], NDArray[np.float64]]
"""Frames [F, H, W, 3] and mouth openings of the drawn meshes [F]."""


def drawn(maker: Maker, first: int, count: int, run_in: float) -> End:
    """Some frames of the video, after a run-in of some seconds."""
    video = maker.before(first, run_in)
    skipped = first - video.frames
    with drawn_meshes(skipped) as meshes:
        frames = list(itertools.islice(video.each_frame(), skipped, skipped + count))
    return np.stack(frames), openings_in(meshes)[skipped : skipped + count]


def undrawn(maker: Maker, first: int, count: int, run_in: float) -> NDArray[np.float64]:
    """Mouth openings of the same frames' meshes."""
    video = maker.before(first, run_in)
    skipped = first - video.frames
    return openings_of(video, skipped + count)[skipped : skipped + count]


def kept(path: Path, make: Callable[[], End]) -> End:
    """What a run that was interrupted has left, else made and left."""
    if not path.is_file():
        frames, openings = make()
        with atomic_path(path) as temporary:
            np.savez(temporary, frames=frames, openings=openings)
    with np.load(path) as found:
        return found["frames"], found["openings"]


def of_meshes(ends: Sequence[NDArray[np.float64]], truth: NDArray[np.float64] | None) -> dict[str, list[float]]:
    """Figures of the mouth openings of the drawn meshes at both ends."""
    values = {"articulation of drawn meshes": [float(openings.std()) for openings in ends]}
    if truth is not None:
        told = np.isfinite(truth)
        values["mouth r of drawn meshes"] = [correlation(openings[told], truth[told]) for openings in ends]
    return values


def measured(pipeline: Any, options: Any, seed: int, speech: Path, truth: Path | None) -> dict[str, list[float]]:
    """Figures of the first and the last seconds of one video."""
    maker = Maker(pipeline, speech, options.longest_side, seed)
    fps, folder = maker.speech.fps, Path(options.output)
    count = round(SECONDS * fps)
    last = maker.speech.video_frames - count if options.last is None else round(options.last * fps)
    places = round(options.first * fps), last
    known = None if truth is None else np.load(truth)[:count]
    if known is not None:
        known = np.pad(known, (0, count - len(known)), constant_values=np.nan)
    if options.meshes:
        return of_meshes([undrawn(maker, place, count, options.run_in) for place in places], known)
    ends = [
        kept(
            folder / f"part-{place}-{speech.stem}-{seed}.npz",
            lambda place=place: drawn(maker, place, count, options.run_in),
        )  # type: ignore[misc]
        for place in places
    ]
    path = folder / f"ends-{speech.stem}-{seed}.mp4"
    write_video(path, np.concatenate([frames for frames, _ in ends]), maker.speech.fps, overwrite=True)
    expected = np.tile(np.full(count, np.nan) if known is None else known, 2).astype(np.float32)
    found = measure_drift(path, maker.portrait.original, SECONDS, (), expected)
    values = {name: [float(getattr(piece, name)) for piece in found.pieces] for name in (*MEASURES, "mouth_r")}
    values |= of_meshes([openings for _, openings in ends], known)
    for place in places:
        (folder / f"part-{place}-{speech.stem}-{seed}.npz").unlink()
    return values


def main() -> int:
    """Check the run-in, or measure every seed, and report."""
    parser = option_parser(__doc__)
    parser.add_argument(
        "--speech",
        type=Path,
        nargs="+",
        required=True,
        help="sound files that end with the words they begin with, as make_long_speech.py writes them; NAME.npy beside one is its "
        "speaker's own mouth opening at 25 frames a second",
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of videos of each")
    parser.add_argument("--run-in", type=float, default=40.0, help="seconds that are sampled before the last ones")
    parser.add_argument(
        "--first", type=float, default=0.0, help="second at which the first of the compared parts begins"
    )
    parser.add_argument(
        "--last", type=float, help="second at which the last one begins; as many before the end as it lasts"
    )
    parser.add_argument("--longest-side", type=int, default=256, help="longest side of the video, in pixels")
    parser.add_argument(
        "--output", type=Path, default=Path("last-seconds"), help="folder; seeds that are in it are not made again"
    )
    parser.add_argument(
        "--meshes", action="store_true", help="draw nothing, and measure the mouths of the meshes alone"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare runs that begin in the middle with an uninterrupted one"
    )
    parser.add_argument(
        "--begin", type=int, nargs="+", default=[2, 4], help="with --check: segments that they leave out"
    )
    options = parser.parse_args()
    pipeline = load_model(options)
    record = Record("last_seconds", options, generation_settings(pipeline, longest_side=options.longest_side))
    if options.check:
        header = (
            "seed",
            "segments left out",
            "from second",
            *(f"{at} to {at + 2} s" for at in (0, 2, 4, 8, 12, 16, 24, 32)),
        )
        record.results = {"largest difference over the spread": check(pipeline, options)}
        print(table(header, record.results["largest difference over the spread"]))
        record.finish()
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, list[float]]]] = {speech.stem: [] for speech in options.speech}
    for seed in range(options.seed, options.seed + options.seeds):
        for speech in options.speech:
            path = options.output / f"{speech.stem}-{seed}.json"
            if not path.is_file():
                truth = speech.with_suffix(".npy")
                path.write_text(
                    json.dumps(measured(pipeline, options, seed, speech, truth if truth.is_file() else None))
                )
                say(f"{path.stem}: {path.read_text()}")
            found[speech.stem].append(json.loads(path.read_text()))
    rows = []
    # over speeches, each the mean of its seeds, as speeches differ by more than seeds; of one speech, over its seeds
    units = [[one] for one in found[options.speech[0].stem]] if len(found) == 1 else list(found.values())
    names = [name for name in units[0][0] if all(name in one for unit in units for one in unit)]
    for name in names:
        values = np.array([np.mean([one[name] for one in unit], 0) for unit in units])
        changes = 100 * (values[:, 1] - values[:, 0]) / values[:, 0].mean()
        rows.append(
            (name, *(with_error(column, "{:.4f}") for column in values.T), with_error(changes, "{:+.1f}", 1.96))
        )
    print(table(("", "first part", "last part", "change, % (95 %)"), rows))
    record.results = {"speeches": found}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
