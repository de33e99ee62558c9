"""Generate a folder of raw videos as found in practice: good ones, and every kind that preparation has to reject or correct.

    python examples/raw_videos.py FOLDER [--footage DATA --clips 6] [--minutes 50]

The good clips are rendered by the embedded model from the example portrait and speech. With `--footage`, links to clips from each split of
that folder's catalogue are added. The last line of the output is the path of the folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fantasytalking.system.startup import importing_frameworks

with importing_frameworks():
    from fantasytalking import FantasyTalkingPipeline
    from fantasytalking.media.audio import Audio, load_audio
    from fantasytalking.media.video import write_video
    from fantasytalking.pipeline.model_names import embedded_folder

Pixels = NDArray[np.uint8]
EXAMPLE = embedded_folder() / "example"
FPS = 25
LAG = 6  # frames by which the face lags in the clip that is out of sync
SIDE = 256


def portraits() -> dict[str, Image.Image]:
    """Crop the example portrait to head and shoulders, and make variants that stand for other people."""
    own = Image.open(EXAMPLE / "portrait.png").convert("RGB").crop((64, 0, 384, 320)).resize((SIDE, SIDE))
    wide = own.resize((SIDE, round(0.88 * SIDE))).resize((SIDE, SIDE))
    return {"anna": own, "berta": ImageOps.mirror(own), "clara": ImageOps.autocontrast(wide, 2)}


def talking(pipeline: FantasyTalkingPipeline, image: Image.Image, speech: Audio, seed: int) -> Pixels:
    """Generate frames [F, H, W, 3] of the portrait speaking."""
    return pipeline(image, speech, seed=seed, steps=8, w_face=0.8).frames


def tile(frames: Pixels) -> Pixels:
    """Show two people side by side, the second one mirrored."""
    return np.concatenate([frames, frames[:, :, ::-1]], 2)


def scenery(count: int) -> Pixels:
    """Make frames [F, H, W, 3] of drifting clouds, without a face."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(60, 200, (9, 9, 3), np.uint8)).resize(
        (SIDE + count, SIDE), Image.Resampling.BICUBIC
    )
    wide = np.asarray(soft)
    return np.stack([wide[:, i : i + SIDE] for i in range(count)])


def long_video(path: Path, frames: Pixels, speech: Audio, minutes: float) -> None:
    """Write a recording of so many minutes: a person speaks for a moment, then a title card is shown at one frame a second."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "23"})
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        video.codec_context.time_base = Fraction(1, FPS)
        sound = container.add_stream("aac", rate=speech.sample_rate, layout="mono", options={"aac_coder": "fast"})
        for number, pixels in _timed(frames, minutes):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        rng, whole = np.random.default_rng(0), round(minutes * 60 * speech.sample_rate)
        for first in range(0, whole, 60 * speech.sample_rate):
            # the room is heard when nobody speaks
            count = min(60 * speech.sample_rate, whole - first)
            samples = (0.001 * rng.standard_normal(count)).astype(np.float32)
            spoken = speech.samples[first : first + count]
            samples[: len(spoken)] += spoken
            heard = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            heard.sample_rate, heard.pts, heard.time_base = speech.sample_rate, first, Fraction(1, speech.sample_rate)
            container.mux(sound.encode(heard))
        container.mux(sound.encode())


def _timed(frames: Pixels, minutes: float) -> Iterator[tuple[int, Pixels]]:
    yield from enumerate(frames)
    card = np.full_like(frames[0], 40)
    for number in range(len(frames), round(minutes * 60 * FPS), FPS):
        yield number, card


def link_footage(footage: Path, folder: Path, clips: int) -> list[dict[str, str]]:
    """Link clips of a catalogue, `clips` of the split train and half as many of val, and return their rows."""
    rows = [json.loads(line) for line in (footage / "catalogue.jsonl").read_text().splitlines() if line.strip()]
    chosen = []
    for split, count in (("train", clips), ("val", max(1, clips // 2))):
        # People in turn, so that even a few clips show many people.
        seen: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            if row["split"] == split and row["kind"] == "real":
                seen.setdefault(row["identity"], []).append(row)
        turns = [group[i] for i in range(max(map(len, seen.values()))) for group in seen.values() if i < len(group)]
        chosen += turns[:count]
    for row in chosen:
        target = folder / Path(row["file"]).name
        target.symlink_to((footage / row["file"]).resolve())
        row["file"] = target.name
    return chosen


def make(folder: Path, footage: Path | None, clips: int, minutes: float) -> None:
    """Write all videos, and a catalogue that describes them."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = FantasyTalkingPipeline.from_pretrained("embedded")
    speech = load_audio(EXAMPLE / "speech.wav", max_seconds=None, min_seconds=0.0)
    made = {name: talking(pipeline, image, speech, seed) for seed, (name, image) in enumerate(portraits().items())}
    for name, frames in made.items():
        write_video(folder / f"{name}.mp4", frames, FPS, speech)
    anna = made["anna"]
    write_video(folder / "two-faces.mp4", tile(anna), FPS, speech)
    write_video(folder / "silent.mp4", anna, FPS, Audio(np.zeros_like(speech.samples), speech.sample_rate))
    write_video(folder / "no-face.mp4", scenery(len(anna)), FPS, speech)
    late = np.concatenate([np.repeat(anna[:1], LAG, 0), anna])[: len(anna)]
    write_video(folder / "out-of-step.mp4", late, FPS, speech)
    hold = len(anna) // 3
    write_video(
        folder / "frozen.mp4",
        np.concatenate([anna[:hold], anna[hold : hold + 1].repeat(len(anna) - hold, 0)]),
        FPS,
        speech,
    )
    write_video(folder / "few-frames.mp4", anna[np.arange(len(anna)) // 5 * 5], FPS, speech)
    (folder / "broken.mp4").write_bytes((folder / "anna.mp4").read_bytes()[:3000])
    long_video(folder / "long.mp4", anna, speech, minutes)
    names = (*made, "two-faces", "silent", "no-face", "out-of-step", "frozen", "few-frames", "broken", "long")
    known = {"kind": "generated", "terms": "made by this script"}
    # All of them show the same face, so none of them can be used for validation.
    rows = [{"file": f"{n}.mp4", "identity": n, "split": "train", **known} for n in names]
    if footage is not None:
        rows += link_footage(footage, folder, clips)
    (folder / "catalogue.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and make the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument("--footage", type=Path, help="folder with catalogue.jsonl, to whose clips links are added")
    parser.add_argument("--clips", type=int, default=6, help="number of clips from the footage")
    parser.add_argument("--minutes", type=float, default=50.0, help="length of the long recording in minutes")
    options = parser.parse_args(arguments)
    make(options.folder, options.footage, options.clips, options.minutes)
    print(options.folder)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted; the same command makes all videos again.", file=sys.stderr)
        sys.exit(130)
