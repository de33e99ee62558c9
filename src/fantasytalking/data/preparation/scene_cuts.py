"""Scene cuts by PySceneDetect's content detector: a video to spans without a cut, none of them too long.

The video is decoded once, downscaled and at `SAMPLE_FPS` frames a second, so that an hour of it needs the memory of one frame. A cut lies
between two sampled frames: one span ends at the frame before it, the next begins at the frame after it.
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

__all__ = ["SAMPLE_FPS", "find_cuts", "find_spans"]

SAMPLE_FPS = 12.5
"""Frames per second that are searched for cuts."""
_SIDE = 256


def find_spans(video: SourceVideo, settings: PreparationSettings, clock: StageClock) -> list[ClipSpan | Dropped]:
    """Find the spans of a video, in order: pieces of scenes, and as `Dropped` ("too-short") those that are not long enough.

    Args:
        video: The video.
        settings: Uses `scene_threshold`, `min_seconds`, `max_seconds`.
        clock: Counts the time.

    Raises:
        InputError: The video is missing, empty, unreadable or has no picture.
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
    """Find the scenes of a video as (start, end) in seconds; the picture changes in the gap between two of them.

    Args:
        path: The video.
        threshold: Minimum content value of a cut (mean change of hue, saturation and brightness between two sampled frames, 0..255).

    Raises:
        InputError: See `find_spans`.
        MissingDependencyError: See `find_spans`.
    """
    detector, timecode = _detector(threshold)
    info = probe_video(path)
    rate = min(SAMPLE_FPS, float(info.fps))
    scenes, start = [], 0.0
    # a higher rate than the source's would only repeat frames
    for index, frame in enumerate(iterate_frames(path, rate, longest_side=_SIDE)):
        cuts = detector.process_frame(timecode(index, SAMPLE_FPS), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        if cuts and index:
            scenes.append((start, (index - 1) / rate))
            start = index / rate
    return [*scenes, (start, info.seconds)]


def cut_evenly(start: float, end: float, settings: PreparationSettings) -> list[tuple[float, float]]:
    """Cut a scene into even pieces of at most `max_seconds`; into pieces of exactly that and a rest if even ones were too short.

    Args:
        start: Where the scene begins, in seconds.
        end: Where it ends, in seconds.
        settings: Uses `min_seconds`, `max_seconds`.
    """
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
    # every cut counts, also two in close succession: if they were merged, one would lie inside a clip
    return ContentDetector(threshold=threshold, min_scene_len=0), FrameTimecode
