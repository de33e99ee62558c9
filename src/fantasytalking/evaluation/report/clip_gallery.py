"""Worst and best clips of the report: chosen by rank, embedded small, playable beside the ground truth."""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.report.report_plots import Line, line_plot
from fantasytalking.evaluation.report.report_table import with_unit
from fantasytalking.evaluation.results import ClipResult, Column, Method, Report
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import VideoWriter, iterate_frames, probe_video
from fantasytalking.reporting.html import finite, number, render

__all__ = ["Choice", "choose_clips", "clips_section", "embed_video"]

LONGEST_SIDE = 256
SECONDS = 6.0
_CRF = 30
_FASTEST = 30.0
_SOUND_BITRATE = 48_000


@dataclass(frozen=True)
class Choice:
    """A clip that is shown.

    Attributes:
        method: The method that generated it.
        clip: Its name.
        label: `worst`, `second worst`, `best`, `second best`, or `only`.
        rank: Mean rank over metrics, 1 is best.
        of: Number of ranked clips.
    """

    method: Method
    clip: str
    label: str
    rank: float
    of: int


def mean_ranks(method: Method, columns: Sequence[Column]) -> dict[str, float]:
    """Mean rank of each clip over the metrics that have a better direction, 1 best; ties share their mean rank.

    Where a metric is missing for some clips, its ranks are stretched to 1..number of clips, so that a clip which few were ranked
    against has no advantage. Clips without any such value are left out.
    """
    ranks: dict[str, list[float]] = {}
    values_of = {c.key: {n: finite(clip.values.get(c.key)) for n, clip in method.clips.items()} for c in columns}
    ranked = {n for known in values_of.values() for n, value in known.items() if value is not None}
    for column in columns:
        if column.better == "neither" or not column.per_clip:
            continue
        sign = -1.0 if column.better == "higher" else 1.0
        known = {name: sign * value for name, value in values_of[column.key].items() if value is not None}
        names, values = list(known), np.array(list(known.values()))
        for name, value in zip(names, values, strict=True):
            rank = 1 + float((values < value).sum()) + (float((values == value).sum()) - 1) / 2
            stretched = (
                1 + (rank - 1) * (len(ranked) - 1) / (len(names) - 1) if len(names) > 1 else (len(ranked) + 1) / 2
            )
            ranks.setdefault(name, []).append(stretched)
    return {name: sum(found) / len(found) for name, found in ranks.items()}


def choose_clips(report: Report, count: int = 2) -> list[Choice]:
    """Choose the worst and best clips of every method, then of every baseline, worst first.

    No clip is chosen twice, and none of ground truth.

    Args:
        report: The report whose clips are ranked.
        count: Most worst and most best clips of a method.
    """
    choices = []
    for method in sorted(report.methods, key=lambda m: m.kind != "method"):
        if method.kind == "ground truth":
            continue
        ranks = mean_ranks(method, report.columns)
        order = sorted(ranks, key=lambda name: (ranks[name], name))
        best = order[: min(count, (len(order) + 1) // 2)]
        worst = order[::-1][: min(count, len(order) // 2)]
        for kind, names in (("worst", worst), ("best", best)):
            for place, name in enumerate(names):
                label = ("", "second ", "third ")[place] + kind if place < 3 else f"{place + 1}th {kind}"
                choices.append(Choice(method, name, "only" if len(order) == 1 else label, ranks[name], len(order)))
    return choices


def embed_video(path: str) -> tuple[bytes, bytes]:
    """Encode the first seconds of a video small: mp4 of H.264 and AAC, longest side at most 256 pixels, at most 30 frames a second.

    Returns:
        The mp4, and its first frame as JPEG: printers and some browsers show no frame of a video that never played.

    Raises:
        FantasyTalkingError: The file is missing or cannot be read; a damaged sound track only loses the sound.
    """
    info = probe_video(path)
    rate = info.fps if info.fps <= _FASTEST else _FASTEST
    scale = min(1.0, LONGEST_SIDE / max(info.width, info.height))
    size = (max(2, round(info.width * scale / 2) * 2), max(2, round(info.height * scale / 2) * 2))
    poster = b""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "clip.mp4"
        sound = _sound(path) if info.has_audio else None
        with VideoWriter(target, rate, sound, crf=_CRF, preset="fast", audio_bitrate=_SOUND_BITRATE) as writer:
            for frame in iterate_frames(path, rate, max(1, math.floor(SECONDS * float(rate)))):
                small = _resized(frame, size)
                poster = poster or cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
                writer.write(small)
        return target.read_bytes(), poster


def _resized(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if frame.shape[1::-1] == size:
        return frame
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _sound(path: str) -> Audio | None:
    try:
        return load_audio(path, 48000, min_seconds=0.0, seconds=SECONDS, allow_silent=True)
    except FantasyTalkingError:
        return None


@dataclass(frozen=True)
class Video:
    """A video for the page.

    Attributes:
        source: Data URI of the mp4, or "".
        poster: Data URI of its first frame, or "".
        reason: Why there is none, or "".
    """

    source: str = ""
    poster: str = ""
    reason: str = ""


class _VideoBudget:
    """Videos that are embedded in the page, within its size.

    Attributes:
        left: Bytes of base64 that still fit.
        left_out: Paths of files for which there was no room.
    """

    def __init__(self, budget: int, enabled: bool) -> None:
        self.left, self.enabled = budget, enabled
        self.left_out: list[str] = []
        self._seen: dict[str, Video] = {}

    def take(self, path: str) -> Video:
        """Embed the video of a file, as long as there is room."""
        if not path:
            return Video(reason="this baseline exists in memory only")
        if not self.enabled:
            return Video(reason="the report was made without videos")
        if path not in self._seen:
            self._seen[path] = _encoded(path)
        found = self._seen[path]
        size = len(found.source) + len(found.poster)
        if size > self.left:
            self.left_out.append(path)
            return Video(reason="left out to keep this page small")
        self.left -= size
        return found


def _encoded(path: str) -> Video:
    try:
        video, poster = embed_video(path)
    except (FantasyTalkingError, av.error.FFmpegError, cv2.error, OSError, ValueError, MemoryError) as error:
        # Whatever is wrong with one file, the report of all others must come out.
        return Video(reason=str(error) or type(error).__name__)
    return Video(_data_uri("video/mp4", video), _data_uri("image/jpeg", poster))


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode("ascii")


def clips_section(
    report: Report, budget: int, media: bool = True, advance: Callable[[], None] = lambda: None
) -> Markup:
    """Make the section with the worst and best clips.

    Args:
        report: The report whose clips are shown.
        budget: Most bytes of videos. They are filled in round by round, the worst clip of every method first.
        media: Whether to embed videos at all.
        advance: Called after each video.
    """
    choices = choose_clips(report)
    if not choices:
        return Markup("")
    shelf = _VideoBudget(budget, media)
    videos = _videos(choices, shelf, advance)
    methods: dict[str, list[dict[str, Any]]] = {}
    for choice, pair in zip(choices, videos, strict=True):
        methods.setdefault(choice.method.name, []).append(_card(report, choice, *pair))
    directed = [c.label for c in report.columns if c.better != "neither" and c.per_clip]
    return render(
        Path(__file__).with_name("clips.html"),
        methods=methods.items(),
        directed=directed,
        directed_names=", ".join(directed),
        seconds=f"{SECONDS:g}",
        longest_side=LONGEST_SIDE,
        left_out=", ".join(sorted(set(shelf.left_out))),
    )


def _videos(choices: Sequence[Choice], shelf: _VideoBudget, advance: Callable[[], None]) -> list[tuple[Video, Video]]:
    """Generated and real video of each chosen clip, taken from the budget in rounds over the methods."""
    counts: dict[str, int] = {}
    rounds = []
    for position, choice in enumerate(choices):
        rounds.append((counts.setdefault(choice.method.name, 0), position))
        counts[choice.method.name] += 1
    found: dict[int, tuple[Video, Video]] = {}
    for _, position in sorted(rounds):
        clip = choices[position].method.clips[choices[position].clip]
        pair = []
        for path in (clip.generated, clip.reference):
            pair.append(shelf.take(path))
            advance()
        found[position] = (pair[0], pair[1])
    return [found[position] for position in range(len(choices))]


def _card(report: Report, choice: Choice, generated: Video, reference: Video) -> dict[str, Any]:
    """Values for one card of `clips.html`."""
    playable = [side for side, video in (("generated", generated), ("ground truth", reference)) if video.source]
    clip, real = choice.method.clips[choice.clip], _truth(report, choice.clip)
    return {
        "choice": choice,
        "generated": generated,
        "reference": reference,
        "playable": "both" if len(playable) == 2 else "".join(playable),
        "plots": _curves(report, choice),
        "rows": [
            (with_unit(column, arrow=True), _number(clip, column), _number(real, column))
            for column in report.columns
            if column.per_clip
        ],
    }


def _number(clip: ClipResult | None, column: Column) -> str | None:
    value = finite(clip.values.get(column.key)) if clip else None
    return None if value is None else number(value, column.decimals)


def _curves(report: Report, choice: Choice) -> list[Markup]:
    clip, real = choice.method.clips[choice.clip], _truth(report, choice.clip)
    names = [method.name for method in report.methods]
    own = names.index(choice.method.name)
    real_style = next((i for i, m in enumerate(report.methods) if m.kind == "ground truth"), own + 1)
    pairs = (
        ("Mouth opening", clip.curves.get("mouth"), clip.curves.get("mouth_reference")),
        ("Motion of the person", clip.curves.get("motion"), real.curves.get("motion") if real else None),
    )
    plots = []
    for title, mine, theirs in pairs:
        lines = [Line("ground truth", real_style, theirs)] if theirs else []
        lines += [Line(choice.method.name, own, mine)] if mine else []
        plots.append(line_plot(title, lines, "seconds", (300, 140), playhead=True))
    return [plot for plot in plots if plot]


def _truth(report: Report, clip: str) -> ClipResult | None:
    method = next((m for m in report.methods if m.kind == "ground truth"), None)
    return method.clips.get(clip) if method else None
