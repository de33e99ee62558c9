"""Does dubbed footage follow the new speech, keep nothing of the old, and stay as filmed outside the mouth?

Each real validation clip is dubbed with the speech of another one, whose true mouth is known, and measured on the written file: r of the
mouth's opening to the true mouth of the new speech, beside that of a still image (the clip's first frame) with the same speech; r to the
clip's own, old mouth, beside that of the still image, which cannot know it; and PSNR of all pixels that lie outside the area of the mouth
in every frame, beside the same frames only encoded again.

    python benchmarks/dubbing.py --output /tmp/dubbing --sheet /tmp/dubbing.png
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmark_run import (
    Quiet,
    Record,
    generation_settings,
    load_model,
    make_video,
    mean_and_error,
    option_parser,
    say,
    table,
)
from clips import FPS, LEFT_OUT, Clip, Window, assign_speech, validation_clips
from contact_sheet import check_outside, make_sheet
from lip_following import read_lags
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.autoencoder.dub_areas import dub_outline
from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.metrics.mouth_correlation import correlation
from fantasytalking.media.video import iterate_frames, probe_video, read_frames, write_video
from fantasytalking.perception.landmarks import mouth_opening, track_mesh
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.talking_video import VideoOutput

MOVING = {"r0083": 230}
"""Frames at `FPS`, from which on clips move that are in no other figure."""
LAGS = Path(__file__).with_name("validation_lags.json")
Pixels = NDArray[np.uint8]


@dataclass
class Case:
    """One clip that is dubbed.

    Attributes:
        window: The footage.
        speech: Window of the new speech.
        file: The footage as a file.
    """

    window: Window
    speech: Window
    file: Path


def choose_windows(data: Path, seconds: float) -> list[Window]:
    """One window of every real validation clip, from its beginning, or from where its picture begins to move."""
    lags = read_lags(LAGS)
    clips = validation_clips(data, "real", lags)
    for name in LEFT_OUT:
        path = data / "clips" / f"{name}.mp4"
        frames = int(probe_video(path).seconds * FPS + 1e-6)
        clips.append(Clip(path, name, "real", frames, lags.get(name, 0)))
    longest = round(seconds * FPS)
    starts = [MOVING.get(clip.name, 0) for clip in clips]
    return [Window(clip, start, min(longest, clip.frames - start)) for clip, start in zip(clips, starts, strict=True)]


def write_footage(window: Window, folder: Path) -> Path:
    """The window as a file at the clip's own rate; nearly lossless, as it is what the dubbed video is compared with."""
    path = folder / f"{window.clip.name}_source.mp4"
    if not path.is_file():
        rate = probe_video(window.clip.path).fps
        count = int(window.frames / FPS * rate)
        frames = iterate_frames(window.clip.path, rate, count, window.start / FPS)
        write_video(path, frames, rate, crf=6, preset="veryfast")
    return path


def opening_at(path: Path, fps: float = FPS) -> NDArray[np.float32]:
    """Mouth opening in a video at `fps`, [F]."""
    points, _ = track_mesh(iterate_frames(path, fps))
    return np.asarray(mouth_opening(points), np.float32)


def outside(frames: Pixels) -> NDArray[np.bool_]:
    """Pixels [H, W] that lie outside the area of the mouth in every frame, with two pixels to spare."""
    points, _ = track_mesh(frames)
    inside = np.zeros(frames.shape[1:3], np.uint8)
    for mesh in points:
        cv2.fillPoly(inside, [np.round(dub_outline(mesh) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return cv2.dilate(inside, np.ones((5, 5), np.uint8)) == 0


def psnr(a: Pixels, b: Pixels, where: NDArray[np.bool_]) -> float:
    """Peak signal-to-noise ratio in dB over the chosen pixels of all frames, RGB."""
    squares = [float(((x[where].astype(np.float32) - y[where]) ** 2).mean()) for x, y in zip(a, b, strict=True)]
    return float(10 * np.log10(255**2 / max(float(np.mean(squares)), 1e-9)))


def dub_one(case: Case, pipeline: FantasyTalkingPipeline, record: Record, folder: Path) -> dict[str, Any]:
    """Dub one clip, and measure the written file."""
    settings, path = record.settings, folder / f"{case.window.clip.name}.mp4"
    speech = case.speech.speech(case.window.frames)
    done = pipeline.dub(case.file, speech, VideoOutput(path, True), progress=Quiet(), **settings)
    source, rate = read_frames(case.file)
    made, _ = read_frames(path)
    assert len(made) == len(source) == done.frames
    again = folder / f"{case.window.clip.name}_again.mp4"
    write_video(again, source, rate, overwrite=True)
    still = make_video(pipeline, source[0], speech, **settings)
    still_mouth = mouth_opening(track_mesh(still.frames)[0])
    truth = mouth_opening(track_mesh(case.speech.video()[: case.window.frames])[0])
    old, new = opening_at(case.file), opening_at(path)
    count = min(map(len, (truth, old, new, still_mouth)))
    truth, old, new, still_mouth = (curve[:count] for curve in (truth, old, new, still_mouth))
    where = outside(source)
    return {
        "speech_of": case.speech.name,
        "frames": len(made),
        "fps": float(Fraction(rate)),
        "new": correlation(new, truth),
        "still_new": correlation(still_mouth, truth),
        "old": correlation(new, old),
        "still_old": correlation(still_mouth, old),
        "spread": float(new.std()),
        "still_spread": float(still_mouth.std()),
        "psnr": psnr(made, source, where),
        "psnr_again": psnr(read_frames(again)[0], source, where),
        "outside": float(where.mean()),
        "seconds": done.seconds,
        "notes": list(done.notes),
    }


def sheet_rows(case: Case, folder: Path, count: int) -> list[list[Pixels]]:
    """Two rows of faces: as filmed, and as dubbed."""
    source, made = read_frames(case.file)[0], read_frames(folder / f"{case.window.clip.name}.mp4")[0]
    points, _ = track_mesh(source)
    rows: list[list[Pixels]] = [[], []]
    for index in np.linspace(2, len(source) - 3, count).round().astype(int):
        mesh = points[index][:, :2]
        centre, reach = mesh.mean(0), 0.75 * float(np.ptp(mesh[:, 1]))
        (x0, y0), (x1, y1) = np.maximum(np.rint(centre - reach), 0).astype(int), np.rint(centre + reach).astype(int)
        for row, frames in zip(rows, (source, made), strict=True):
            row.append(frames[index][y0:y1, x0:x1])
    return rows


def summarise(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over clips with their standard errors, and the share of the still image's r."""
    names = ("new", "still_new", "old", "still_old", "spread", "still_spread", "psnr", "psnr_again")
    found = {name: mean_and_error([one[name] for one in results.values()]) for name in names}
    summary: dict[str, Any] = {name: {"mean": mean, "standard_error": error} for name, (mean, error) in found.items()}
    summary["least_psnr"] = min(one["psnr"] for one in results.values())
    summary["new_over_still"] = summary["new"]["mean"] / summary["still_new"]["mean"]
    return summary


def main() -> int:
    """Dub every clip, measure and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="longest footage")
    parser.add_argument("--output", type=Path, required=True, help="folder for the videos, outside the repository")
    parser.add_argument("--sheet", type=Path, help="contact sheet to write, outside the repository")
    options = parser.parse_args()
    folder = check_outside(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = load_model(options)
    record = Record("dubbing", options, {"seed": options.seed})
    windows = choose_windows(options.data, options.seconds)
    giver = assign_speech([w.frames for w in windows], [w.clip.identity for w in windows])
    results: dict[str, dict[str, Any]] = {}
    rows: list[list[Pixels]] = []
    for own, other in list(zip(windows, giver, strict=True))[: options.limit]:
        name = own.clip.name
        try:
            case = Case(own, windows[other], write_footage(own, folder))
            results[name] = dub_one(case, pipeline, record, folder)
        except FantasyTalkingError as error:
            record.leave_out(name, error)
            continue
        one = results[name]
        say(f"{name}: new {one['new']:.2f} (still {one['still_new']:.2f}), old {one['old']:.2f}, {one['psnr']:.1f} dB")
        if options.sheet is not None:
            rows += sheet_rows(case, folder, 8)
    if rows:
        Image.fromarray(make_sheet(rows, 208)).save(check_outside(options.sheet))
    shown = ("speech_of", "new", "still_new", "old", "still_old", "spread", "still_spread", "psnr", "psnr_again")
    print(table(("clip", *shown), [(name, *(one[key] for key in shown)) for name, one in results.items()]))
    record.results = {"clips": results, "summary": summarise(results)}
    record.results["generation"] = generation_settings(pipeline, **record.settings)
    print(f"\nr to the new speech over that of a still image: {record.results['summary']['new_over_still']:.2f}\n")
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
