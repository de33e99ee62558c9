"""Does the invisible watermark survive what happens to videos, is it seen, does it raise false alarms, and what does it cost?

Talking clips of the data set, and clips that the embedded model makes, are marked, damaged in ten ways and read again. The same clips
without a mark count false alarms. Figures are means over clips; a watermark is found where its chance of a false alarm is at most 1e-3.

    python benchmarks/watermark.py --clips 200 --output /tmp/watermark.jsonl
    python benchmarks/watermark.py --strengths 0.5 0.7 1 1.4 --clips 12
    python benchmarks/watermark.py --clips 40 --frames 96 --side 448
    python benchmarks/watermark.py --alarms 3000
    python benchmarks/watermark.py --sheet /tmp/watermark.png
    python benchmarks/watermark.py --cost
    python benchmarks/watermark.py --network FOLDER --clips 6

The last one takes the two ONNX files of the wheel invisible-watermark 0.2.0, and needs onnxruntime.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from benchmark_run import Quiet, option_parser, say, table
from contact_sheet import check_outside
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import binomtest

from fantasytalking.media.video import iterate_frames
from fantasytalking.media.video_writer import QUICK_CRF, add_picture, encodable, even_frame
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.talking_video import VideoOutput
from fantasytalking.provenance.watermark import STRENGTH, Watermark
from fantasytalking.provenance.watermark_code import encode
from fantasytalking.provenance.watermark_reader import Reading

EVERY = 2
Frames = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Cut:
    """What is taken of a clip. Short and small cuts are the hard case, as the mark is read from all that is there.

    Attributes:
        frames: Number of frames.
        side: Side of a square from the middle, in pixels.
    """

    frames: int = 16
    side: int = 320

    def middle(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The square, or what there is of it."""
        height, width = frame.shape[:2]
        top, left = max(0, (height - self.side) // 2), max(0, (width - self.side) // 2)
        return np.ascontiguousarray(frame[top : top + self.side, left : left + self.side])


def encoded(frames: Frames, crf: int, fps: int = 25) -> Frames:
    """Frames after H.264."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        first = even_frame(frames[0])
        options = {"crf": str(crf), "preset": "veryfast"}
        stream = add_picture(container, Fraction(fps), (first.shape[1], first.shape[0]), options, 1)
        for number, frame in enumerate(frames):
            container.mux(stream.encode(encodable(even_frame(frame), number, Fraction(fps))))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def scaled(frames: Frames, share: float) -> Frames:
    """Frames of another size."""
    return [cv2.resize(one, None, fx=share, fy=share, interpolation=cv2.INTER_AREA) for one in frames]


def cropped(frames: Frames, share: float) -> Frames:
    """Frames without a margin: so much of each side is cut off, half at either end."""
    height, width = frames[0].shape[:2]
    top, left = round(height * share / 2), round(width * share / 2)
    return [one[top : height - top, left : width - left] for one in frames]


def recorded_screen(frames: Frames) -> Frames:
    """Frames as a recording of a player's window: on a desktop, 0.83 of their size, other gamma, noise, 30 frames a second."""
    random = np.random.default_rng(0)
    small = scaled(frames, 0.83)
    height, width = small[0].shape[:2]
    desktop = np.full((height + 96, width + 64, 3), (46, 52, 64), np.uint8)
    curve = np.rint(255 * (np.arange(256) / 255) ** 0.9).astype(np.uint8)
    shown = []
    for number in range(len(small) * 30 // 25):
        screen = desktop.copy()
        screen[48 : 48 + height, 32 : 32 + width] = small[min(number * 25 // 30, len(small) - 1)]
        noisy = curve[screen] + random.normal(0, 1.5, screen.shape)
        shown.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    return encoded(shown, 25, 30)


DAMAGES: dict[str, Callable[[Frames], Frames]] = {
    f"as written (CRF {QUICK_CRF})": lambda frames: encoded(frames, QUICK_CRF),
    "CRF 18": lambda frames: encoded(frames, 18),
    "CRF 23": lambda frames: encoded(frames, 23),
    "CRF 28": lambda frames: encoded(frames, 28),
    "CRF 33": lambda frames: encoded(frames, 33),
    "75 % of the size, CRF 23": lambda frames: encoded(scaled(frames, 0.75), 23),
    "50 % of the size, CRF 23": lambda frames: encoded(scaled(frames, 0.5), 23),
    "10 % cut off, CRF 23": lambda frames: encoded(cropped(frames, 0.1), 23),
    "23 to 25 frames a second, CRF 23": lambda frames: encoded(
        [frames[at * 23 // 25] for at in range(len(frames))], 23
    ),
    "brightness + 20 %, CRF 23": lambda frames: encoded([cv2.convertScaleAbs(one, alpha=1.2) for one in frames], 23),
    "screen recorded": recorded_screen,
}


def real_frames(data: Path, kind: str | None = None, cut: Cut = Cut()) -> Iterator[tuple[str, Frames]]:
    """The first frames of each clip of the data set, one of another person after the other."""
    entries = [json.loads(line) for line in (data / "catalogue.jsonl").read_text().splitlines()]
    by_person: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if kind in (None, entry["kind"]):
            by_person.setdefault(entry["identity"], []).append(entry)
    for turn in itertools.zip_longest(*by_person.values()):
        for entry in filter(None, turn):
            frames = list(iterate_frames(data / "clips" / Path(entry["file"]).name, max_frames=cut.frames))
            if len(frames) >= cut.frames // 2:
                yield f"{entry['kind']} {entry['file']}", [cut.middle(one) for one in frames]


def unmarked_windows(data: Path, count: int, cut: Cut = Cut()) -> Iterator[tuple[str, Frames]]:
    """About `count` windows of frames without a mark, equally many of each clip of the data set and spread over its length."""
    files = sorted((data / "clips").glob("*.mp4"))
    each = -(-count // len(files))
    for file in files:
        frames = [cut.middle(one) for one in iterate_frames(file)]
        starts = np.linspace(0, max(0, len(frames) - cut.frames), min(each, max(1, len(frames) // cut.frames)))
        for start in starts.astype(int):
            yield file.stem, frames[start : start + cut.frames]


def false_alarms(windows: Iterator[tuple[str, Frames]], target: Path | None) -> str:
    """How often a watermark is found where there is none, in windows that are damaged in turn in four ways.

    Args:
        windows: Name of a clip and frames.
        target: File for the chances, a line each, or None.
    """
    kinds = itertools.cycle(("CRF 18", "CRF 23", "CRF 28", "50 % of the size, CRF 23"))
    chances: list[float] = []
    clips: set[str] = set()
    for (name, frames), what in zip(windows, kinds, strict=False):
        clips.add(name)
        chances.append(Watermark.read(DAMAGES[what](frames)[::EVERY]).chance)
        if len(chances) % 200 == 0:
            say(f"{len(chances)} windows: {alarms_told(chances)}")
        if target is not None and len(chances) % 200 == 0:
            target.write_text("".join(f"{one:.6g}\n" for one in chances))
    return f"{len(chances)} windows of {len(clips)} clips without a mark: {alarms_told(chances)}"


def alarms_told(chances: Sequence[float]) -> str:
    """Share of chances at or below some levels, with exact 95 % intervals (Clopper and Pearson)."""
    told = []
    for level in (1e-3, 1e-2, 0.1):
        hits = int(np.sum(np.array(chances) <= level))
        interval = binomtest(hits, len(chances)).proportion_ci()
        told.append(f"{hits} at {level:g} ({hits / len(chances):.2%}, {interval.low:.2%} to {interval.high:.2%})")
    return ", ".join(told)


def own_frames(count: int, cut: Cut = Cut()) -> Iterator[tuple[str, Frames]]:
    """Clips that the embedded model makes of the packaged portrait and parts of the packaged speech, each with another seed."""
    pipeline, example = FantasyTalkingPipeline.from_pretrained("embedded"), embedded_folder() / "example"
    for seed in range(count):
        video = pipeline(
            example / "portrait.png",
            example / "speech.wav",
            seed=seed,
            steps=4,
            longest_side=cut.side,
            max_seconds=cut.frames / 25,
            progress=Quiet(),
        )
        yield f"own seed {seed}", [cut.middle(one) for one in video.frames]


def outcome(reading: Reading, identifier: int) -> dict[str, Any]:
    """What is kept of a reading."""
    return {
        "found": reading.found,
        "right": identifier in reading.identifiers,
        "wrong": any(one != identifier for one in reading.identifiers),
        "deviations": round(reading.deviations, 2),
        "chance": reading.chance,
        "bits": float(np.mean(np.array(reading.soft_bits) * np.where(encode(identifier), 1, -1) > 0)),
    }


def psnr(frames: Frames, marked: Frames) -> float:
    """Over RGB, of all frames."""
    error = np.mean([np.mean((a.astype(np.float32) - b) ** 2) for a, b in zip(frames, marked, strict=True)])
    return float(10 * np.log10(255**2 / error))


def measure(
    clips: Iterator[tuple[str, Frames]], count: int, damages: Sequence[str], strength: float
) -> list[dict[str, Any]]:
    """A record of each clip."""
    records = []
    for number, (name, frames) in enumerate(itertools.islice(clips, count)):
        identifier = int(np.random.default_rng(number).integers(2**32))
        marked = list(Watermark(identifier, strength).embed(frames))
        unmarked = encoded(frames, 18)[::EVERY]
        alarms = [Watermark.read(unmarked)]
        readings = {what: outcome(Watermark.read(DAMAGES[what](marked)[::EVERY]), identifier) for what in damages}
        records.append(
            {
                "clip": name,
                "psnr": psnr(frames[::10], marked[::10]),
                "alarms": [one.chance for one in alarms],
                "readings": readings,
            }
        )
        if number % 10 == 9:
            say(f"{number + 1} clips\n{summary(records, damages)}")
    return records


def summary(records: Sequence[dict[str, Any]], damages: Sequence[str]) -> str:
    """The table of the documentation."""
    rows = []
    for what in damages:
        ones = [record["readings"][what] for record in records]
        mean = {
            name: float(np.mean([one[name] for one in ones]))
            for name in ("found", "right", "wrong", "bits", "deviations")
        }
        row = (
            what,
            f"{mean['bits']:.3f}",
            f"{mean['found']:.1%}",
            f"{mean['right']:.1%}",
            f"{mean['wrong']:.1%}",
            f"{mean['deviations']:.1f}",
        )
        rows.append(row)
    chances = np.array([chance for record in records for chance in record["alarms"]])
    told = ", ".join(f"{int((chances <= level).sum())} at {level:g}" for level in (1e-3, 1e-2, 0.1))
    values = [record["psnr"] for record in records]
    header = ("after", "bits right", "found", "identifier read", "a wrong one", "standard deviations")
    return (
        f"{table(header, rows)}\n{len(records)} clips, PSNR {np.mean(values):.1f} dB (lowest {min(values):.1f}); "
        f"false alarms in {len(chances)} unmarked readings: {told}."
    )


def difference_sheet(data: Path, target: Path) -> None:
    """Picture, marked picture and 16 times their difference, of own clips alone: footage of others is not shown."""
    rows = []
    for _, frames in own_frames(2):
        marked = next(Watermark(0x5EED5EED).embed(frames[-1:]))
        difference = np.clip(128 + 16 * (marked.astype(int) - frames[-1]), 0, 255).astype(np.uint8)
        rows.append(np.concatenate([frames[-1], marked, difference], axis=1))
    Image.fromarray(np.concatenate(rows)).save(check_outside(target))


def cost(threads: int) -> str:
    """Seconds of a run with and without the watermark, in turn, and of the marks alone."""
    pipeline, example = FantasyTalkingPipeline.from_pretrained("embedded"), embedded_folder() / "example"
    target = Path("/tmp/watermark-cost.mp4")
    taken: dict[str, list[float]] = {"on": [], "off": []}
    for _ in range(4):
        for choice in ("off", "on"):
            begin = time.perf_counter()
            output = VideoOutput(target, True, threads)
            video = pipeline(
                example / "portrait.png",
                example / "speech.wav",
                output=output,
                watermark=choice,
                manifest=choice,
                progress=Quiet(),
            )
            taken[choice].append((time.perf_counter() - begin) / video.duration)
    frames = list(iterate_frames(target))
    begin = time.perf_counter()
    for _ in Watermark(1).embed(frames):
        pass
    alone = (time.perf_counter() - begin) / len(frames)
    size = f"{frames[0].shape[1]} x {frames[0].shape[0]}"
    least = {choice: min(values[1:]) for choice, values in taken.items()}
    target.unlink()
    return (
        f"{size}: {least['off']:.3f} s a second of video without marks, {least['on']:.3f} s with both "
        f"(the least of three runs each, in turn); the watermark alone {1e3 * alone:.2f} ms a frame, "
        f"{25 * alone / least['off']:.1%} of the generation."
    )


def network(folder: Path, clips: Iterator[tuple[str, Frames]], count: int) -> str:
    """RivaGAN on the same clips, a residual for each frame as it is used, but at 256 pixels: at full size it takes seconds a frame."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / f"rivagan_{part}.onnx", options) for part in ("encoder", "decoder")
    )

    def plane(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (frame.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None, :, None]

    right: dict[int, list[float]] = {crf: [] for crf in (18, 23, 28, 33)}
    seconds, noise = [], []
    for number, (_, frames) in enumerate(itertools.islice(clips, count)):
        bits = np.random.default_rng(number).integers(0, 2, (1, 32)).astype(np.float32)
        small = [cv2.resize(one, (256, 256), interpolation=cv2.INTER_AREA) for one in frames[:: len(frames) // 6]]
        begin = time.perf_counter()
        made = [encoder.run(None, {"frame": plane(one), "data": bits})[0][0, :, 0].transpose(1, 2, 0) for one in small]
        seconds.append((time.perf_counter() - begin) / len(small))
        marked = [np.clip(np.rint(127.5 * (one + 1)), 0, 255).astype(np.uint8) for one in made]
        noise.append(psnr(small, marked))
        for crf, values in right.items():
            read = np.mean([decoder.run(None, {"frame": plane(one)})[0][0] for one in encoded(marked, crf)[:3]], axis=0)
            values.append(float(np.mean((read > 0.5) == (bits[0] > 0.5))))
    told = ", ".join(f"CRF {crf}: {np.mean(values):.3f}" for crf, values in right.items())
    return f"RivaGAN at 256 x 256: PSNR {np.mean(noise):.1f} dB, {np.mean(seconds):.2f} s a frame on one core; bits right after {told}."


def main() -> int:
    """Run what was asked for."""
    parser = option_parser(__doc__)
    parser.add_argument("--clips", type=int, default=200, help="number of clips, a tenth of them made by the model")
    parser.add_argument("--strengths", type=float, nargs="+", default=[STRENGTH], help="strengths to measure")
    parser.add_argument("--output", type=Path, help="file for the records, one line a clip")
    parser.add_argument("--frames", type=int, default=Cut.frames, help="frames of a clip")
    parser.add_argument(
        "--side", type=int, default=Cut.side, help="side of the square from the middle of a clip, in pixels"
    )
    parser.add_argument(
        "--leave-out", type=int, default=0, help="number of clips at the beginning that are not measured"
    )
    parser.add_argument("--alarms", type=int, help="measure false alarms in so many windows without a mark, and stop")
    parser.add_argument("--sheet", type=Path, help="write a sheet of differences and stop")
    parser.add_argument("--cost", action="store_true", help="measure the cost and stop")
    parser.add_argument("--network", type=Path, help="folder with RivaGAN's two ONNX files: measure it and stop")
    options: argparse.Namespace = parser.parse_args()
    cut = Cut(options.frames, options.side)
    if options.sheet is not None:
        difference_sheet(options.data, options.sheet)
        return 0
    if options.alarms is not None:
        print(false_alarms(unmarked_windows(options.data, options.alarms, cut), options.output))
        return 0
    if options.cost:
        print(cost(options.threads))
        return 0
    if options.network is not None:
        print(network(options.network, real_frames(options.data, "real", cut), options.clips))
        return 0
    few = len(options.strengths) > 1
    damages = ["CRF 23", "CRF 28", "50 % of the size, CRF 23"] if few else list(DAMAGES)
    for strength in options.strengths:
        made = 0 if few else options.clips // 10
        real = itertools.islice(
            real_frames(options.data, cut=cut), options.leave_out, options.leave_out + options.clips - made
        )
        clips = itertools.chain(real, own_frames(made, cut))
        records = measure(clips, options.clips, damages, strength)
        print(f"strength {strength:g}\n{summary(records, damages)}\n", flush=True)
        if options.output is not None:
            options.output.write_text("".join(json.dumps(record) + "\n" for record in records))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
