"""Long speeches that end with the words they begin with, said by people whom no model has heard, for `last_seconds.py` and `long_video.py`.

Each begins and ends with the same ten seconds of a real validation clip; between them are clips of the training split in random order.
Beside each sound file lies the speaker's own mouth opening in those ten seconds, in step with the sound, at 25 frames a second.

    python benchmarks/make_long_speech.py --output FOLDER
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from benchmark_run import option_parser, say
from clips import FPS
from make_speech import RATE, write_wav
from numpy.typing import NDArray
from validation import choose_cases

from fantasytalking.data.catalogue import read_catalogue
from fantasytalking.evaluation.benchmark.benchmark_manifest import Case
from fantasytalking.media.audio import load_audio
from fantasytalking.media.video import probe_video, read_frames
from fantasytalking.perception.landmarks import mouth_opening, track_mesh

LEVEL = 0.06  # root mean square of every part
ENDS = 10.0  # seconds that are said twice


def passages(cases: list[Case], data: Path, most: int) -> Iterator[tuple[str, Path, float, float]]:
    """Name, file, and start of speech and picture of passages of ten seconds, at most so many of a clip, evenly spread."""
    for case in cases:
        file = data / case.reference.file
        late = max(case.speech.start, case.reference.start)
        room = probe_video(file).seconds - late - ENDS + 0.2  # what the picture lacks at its end is not compared
        starts = np.unique(np.linspace(0, max(room, 0), max(1, min(most, int(room // ENDS) + 1))).astype(int))
        for start in starts.tolist() if room >= 0 else ():
            yield f"{case.name}-{start}", file, case.speech.start + start, case.reference.start + start


def sound(file: Path, start: float = 0.0, seconds: float | None = None) -> NDArray[np.float32]:
    """Sound of a clip, mono, at `LEVEL`."""
    samples = load_audio(file, RATE, start=start, seconds=seconds, min_seconds=0.0).samples
    return np.asarray(samples * LEVEL / max(float(np.sqrt((samples**2).mean())), 1e-6), np.float32)


def main() -> int:
    """Write the speeches."""
    parser = option_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of each speech")
    parser.add_argument("--passages", type=int, default=3, help="passages of a clip, at most")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = [
        row for row in read_catalogue(options.data / "catalogue.jsonl") if (row.split, row.kind) == ("train", "real")
    ]
    random.Random(options.seed).shuffle(rows)
    middle, wanted = list[NDArray[np.float32]](), round((options.seconds - 2 * ENDS) * RATE)
    while sum(map(len, middle)) < wanted:
        middle.append(sound(options.data / rows[len(middle) % len(rows)].file))
    between = np.concatenate(middle)[:wanted]
    for name, file, start, seen in passages(choose_cases("real"), options.data, options.passages):
        words = sound(file, start, ENDS)
        words = np.pad(words, (0, max(0, round(ENDS * RATE) - len(words))))[: round(ENDS * RATE)]
        write_wav(options.output / f"{name}.wav", np.concatenate([words, between, words]))
        frames = read_frames(file, FPS, round(ENDS * FPS), seen)[0]
        np.save(options.output / f"{name}.npy", np.asarray(mouth_opening(track_mesh(iter(frames))[0]), np.float32))
        say(f"{name}: {len(frames)} frames of its speaker")
    return 0


if __name__ == "__main__":
    sys.exit(main())
