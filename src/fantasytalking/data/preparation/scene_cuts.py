"""Scene cuts: a video to spans without a cut, none too long, those too short named (PySceneDetect's content detector).

The video is decoded once, small and at `LOOKS` frames a second, so that an hour of it needs the memory of one frame. A cut is known to lie
between two looks: a span ends at the look before it and begins at the look after it.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import cv2

from fantasytalking.data.preparation.clip_records import ClipSpan, Dropped, SourceVideo, StageClock
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.errors import MissingDependencyError
from fantasytalking.media.video import iterate_frames, probe_video

__all__ = ["LOOKS", "find_cuts", "find_spans"]

LOOKS = 12.5
"""Frames a second that cuts are looked for in."""
_SIDE = 256


def find_spans(video: SourceVideo, settings: PreparationSettings, clock: StageClock) -> list[ClipSpan | Dropped]:
    """Spans of a video in order; pieces of scenes, and as `Dropped` ("too-short") what is not long enough.

    Raises:
        InputError: the video is missing, empty, unreadable or has no picture.
        MissingDependencyError: PySceneDetect is not installed.
    """
    with clock.stage("scenes", clips=0):
        pieces: list[tuple[float, float]] = []
        for start, end in find_cuts(video.path, settings.scene_threshold):
            pieces += cut_evenly(start, end, settings)
    clock.count("scenes", len(pieces))
    spans = [ClipSpan(video, index, round(a, 3), round(b, 3)) for index, (a, b) in enumerate(pieces)]
    return [span if _long_enough(span.seconds, settings) else _too_short(span, settings) for span in spans]


def find_cuts(path: str, threshold: float) -> list[tuple[float, float]]:
    """Scenes of a video as (start, end) in seconds; between two of them lies the time in which the picture changed.

    Args:
        path: the video.
        threshold: least content value (mean change of hue, saturation and brightness between two looks, 0..255) of a cut.

    Raises:
        InputError, MissingDependencyError: as `find_spans`.
    """
    detector, timecode = _detector(threshold)
    info = probe_video(path)
    looks = min(LOOKS, float(info.fps))
    scenes, start = [], 0.0
    # one look beyond every source frame would only repeat it
    for index, frame in enumerate(iterate_frames(path, looks, longest_side=_SIDE)):
        cuts = detector.process_frame(timecode(index, LOOKS), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        if cuts and index:
            scenes.append((start, (index - 1) / looks))
            start = index / looks
    return [*scenes, (start, info.seconds)]


def cut_evenly(start: float, end: float, settings: PreparationSettings) -> list[tuple[float, float]]:
    """A scene in even pieces of at most `max_seconds`; in pieces of just that and a rest where even ones were too short."""
    length = end - start
    count = max(1, math.ceil(length / settings.max_seconds - 1e-6))
    even = length / count
    step = even if count == 1 or _long_enough(even, settings) else settings.max_seconds
    edges = [start + step * i for i in range(count)] + [end]
    return list(itertools.pairwise(edges))


def _long_enough(seconds: float, settings: PreparationSettings) -> bool:
    return seconds >= settings.min_seconds - 1e-3


def _too_short(span: ClipSpan, settings: PreparationSettings) -> Dropped:
    detail = f"The scene lasts {span.seconds:.2f} s; at least {settings.min_seconds:g} s are needed."
    return Dropped(span, "too-short", detail, {"seconds": round(span.seconds, 3)})


def _detector(threshold: float) -> tuple[Any, Any]:
    try:
        from scenedetect import ContentDetector, FrameTimecode
    except ImportError as error:
        raise MissingDependencyError(
            f"Finding scene cuts needs the package scenedetect, which cannot be imported ({error}); "
            'install it with: pip install "fantasytalking[prepare]"'
        ) from error
    # every cut counts, also one that follows another within a moment: merged, it would lie inside a clip
    return ContentDetector(threshold=threshold, min_scene_len=0), FrameTimecode
