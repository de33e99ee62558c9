"""How far does re-encoding alone move each metric? The same clips, encoded again in known ways, against the clips themselves.

Re-encoding adds no motion, no expression and no likeness: a metric that gets better rewards damage. Letters: F frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from clips import FPS
from numpy.typing import NDArray

from fantasytalking.evaluation.pairing import GROUND_TRUTH
from fantasytalking.evaluation.results import Column, Comparison, Report, Summary
from fantasytalking.media.audio import Audio, fit_length
from fantasytalking.media.video import write_video
from fantasytalking.system.files import atomic_path

Frames = NDArray[np.uint8]
Write = Callable[[Path, Frames, Audio], None]
NEAR_LOSSLESS = 8
"""CRF of the rows whose damage is not the compression."""
SOUND_RATE = 48000
_COLOURS: dict[str, Any] = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}


@dataclass(frozen=True)
class Encoding:
    """One way to encode a clip again.

    Attributes:
        name: Name of the row.
        write: Function of path, frames [F, H, W, 3] and sound that writes the clip.
    """

    name: str
    write: Write


def h264(crf: int) -> Write:
    """H.264 at a quality, 0 (lossless) to 51."""

    def write(path: Path, frames: Frames, sound: Audio) -> None:
        write_video(path, frames, FPS, sound, crf=crf)

    return write


def hevc(path: Path, frames: Frames, sound: Audio) -> None:
    """HEVC at the default quality of x265, CRF 28; width and height must be even."""
    samples = fit_length(sound.samples, round(len(frames) / FPS * SOUND_RATE)).astype(np.float32)
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        picture = container.add_stream("libx265", rate=round(FPS), options={"x265-params": "log-level=none"})
        picture.height, picture.width = frames.shape[1:3]
        picture.pix_fmt = "yuv420p"
        context = picture.codec_context
        context.colorspace = context.color_primaries = context.color_trc = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        track = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for frame in frames:
            shown = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(picture.encode(shown.reformat(format="yuv420p", **_COLOURS)))
        container.mux(picture.encode(None))
        heard = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        heard.sample_rate, heard.time_base, heard.pts = SOUND_RATE, Fraction(1, SOUND_RATE), 0
        container.mux(track.encode(heard))
        container.mux(track.encode(None))


def half_size(path: Path, frames: Frames, sound: Audio) -> None:
    """Half the width and height, nearly lossless; the evaluation scales it up again."""
    size = frames.shape[2] // 2, frames.shape[1] // 2
    small = np.stack([np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8) for frame in frames])
    write_video(path, small, FPS, sound, crf=NEAR_LOSSLESS)


def held(path: Path, frames: Frames, sound: Audio) -> None:
    """Every second frame shown twice, nearly lossless: 12.5 different frames a second."""
    write_video(path, frames[np.arange(len(frames)) // 2 * 2], FPS, sound, crf=NEAR_LOSSLESS)


ENCODINGS = (
    *(Encoding(f"H.264 CRF {crf}", h264(crf)) for crf in (18, 28, 38)),
    Encoding("HEVC CRF 28", hevc),
    Encoding("half size", half_size),
    Encoding("held frames", held),
)


def write_encodings(
    names: Sequence[str], frames: Sequence[Frames], sounds: Sequence[Audio], output: Path
) -> dict[str, Path]:
    """Write every clip in every encoding; existing files are kept.

    Args:
        names: Names of the clips.
        frames: Frames of each clip, [F, H, W, 3], width and height even.
        sounds: Sound of each clip, 48 kHz mono.
        output: Folder to write to.

    Returns:
        Folder of each encoding, by its name.
    """
    folders = {}
    for encoding in ENCODINGS:
        folder = folders[encoding.name] = output / encoding.name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        for name, clip, sound in zip(names, frames, sounds, strict=True):
            if not (folder / f"{name}.mp4").exists():
                encoding.write(folder / f"{name}.mp4", clip, sound)
    return folders


@dataclass(frozen=True)
class Change:
    """How far an encoding moves a metric from its value on the clips themselves.

    Attributes:
        column: Key of the metric's column.
        label: Its label.
        encoding: Name of the encoding.
        mean: Mean change over clips; a Frechet distance for its columns.
        low: Lower end of its interval, or None.
        high: Upper end of its interval, or None.
        largest: Largest change of a single clip, with its sign; None for Frechet distances.
        better: Whether the mean change is an improvement by the metric's direction, so that the metric rewards the damage.
        decimals: Decimals to show.
    """

    column: str
    label: str
    encoding: str
    mean: float
    low: float | None
    high: float | None
    largest: float | None
    better: bool
    decimals: int = 3


def changes(report: Report) -> list[Change]:
    """Changes of every metric by every encoding of a report, in the order of its columns."""
    rows = {method.name: method for method in report.methods}
    truth = rows[GROUND_TRUTH]
    compared = {(c.column, c.second): c for c in report.comparisons if c.first == GROUND_TRUTH}
    found = []
    for column in report.columns:
        for encoding in (e.name for e in ENCODINGS if e.name in rows):
            if column.kind == "frechet":
                cell = rows[encoding].summary[column.key]
                if cell.value is not None:
                    numbers = (cell.value, cell.low, cell.high, None)
                    found.append(Change(column.key, column.label, encoding, *numbers, False))
                continue
            comparison = compared.get((column.key, encoding))
            if comparison is None:
                if column.kind in ("occurring", "closeness"):
                    found += _gap(column, encoding, rows[encoding].summary[column.key], truth.summary[column.key])
                continue
            clips = rows[encoding].clips
            each = [
                clips[name].values[column.key] - clip.values[column.key]
                for name, clip in truth.clips.items()
                if name in clips and column.key in clip.values and column.key in clips[name].values
            ]
            mean, low, high = _turned(comparison)
            better = {"higher": mean > 0, "lower": mean < 0, "neither": False}[column.better]
            largest = max(each, key=abs)
            decimals = max(3, column.decimals)
            found.append(Change(column.key, column.label, encoding, mean, low, high, largest, better, decimals))
    return found


def _gap(column: Column, encoding: str, cell: Summary, truth: Summary) -> list[Change]:
    """Difference of two cells whose clips are not paired: of what occurs, and of closeness. Empty where one has no value."""
    if cell.value is None or truth.value is None:
        return []
    gap = cell.value - truth.value
    better = {"higher": gap > 0, "lower": gap < 0, "neither": False}[column.better]
    return [Change(column.key, column.label, encoding, gap, None, None, None, better, max(3, column.decimals))]


def _turned(comparison: Comparison) -> tuple[float, float | None, float | None]:
    """Encoding minus truth, from truth minus encoding."""
    # 0.0 - x and not -x, which is -0.0 where nothing moved
    low, high = (None if end is None else 0.0 - end for end in (comparison.high, comparison.low))
    return 0.0 - comparison.difference, low, high


def change_rows(found: Sequence[Change]) -> tuple[list[str], list[list[str]]]:
    """The changes as a table: header and rows, metrics down, encodings across.

    A cell is the mean change, its interval in parentheses, and the largest change of a clip behind a semicolon.
    """
    names = list(dict.fromkeys(change.encoding for change in found))
    by: dict[str, dict[str, Change]] = {}
    for change in found:
        by.setdefault(change.label, {})[change.encoding] = change
    rows = [[label, *(_cell(cells.get(name)) for name in names)] for label, cells in by.items()]
    return ["metric", *names], [[cell.replace("|", "\\|") for cell in row] for row in rows]


def _cell(change: Change | None) -> str:
    if change is None:
        return "-"
    # a Frechet distance has no sign: it has an interval, but no largest change of a clip
    form = f"{'' if change.largest is None and change.low is not None else '+'}.{change.decimals}f"
    shown = f"{change.mean:{form}}"
    if change.low is not None and change.high is not None:
        shown += f" ({change.low:{form}} to {change.high:{form}})"
    if change.largest is not None:
        shown += f"; {change.largest:{form}}"
    # -0.000 is rounding, and no direction
    shown = re.sub(r"[-](0\.0+)(?![0-9])", r"\1", shown)
    return f"**{shown}**" if _rewarded(change) else shown


def _rewarded(change: Change) -> bool:
    """Whether the metric is better after the damage, beyond its interval where it has one."""
    clear = change.low is None or change.high is None or not change.low <= 0 <= change.high
    return change.better and clear


def record(found: Sequence[Change]) -> list[dict[str, Any]]:
    """Plain values for the record of a run."""
    return [{**change.__dict__, "rewarded": _rewarded(change)} for change in found]
