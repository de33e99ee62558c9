"""Scene cuts by PySceneDetect's content detector: a video to spans without a cut, none of them too long.

The video is decoded once and downscaled, so that an hour of it needs the memory of one frame. `SAMPLE_FPS` frames a second are searched
for cuts, and all of them for a picture that stands still. A cut lies between two sampled frames: one span ends at the frame before it, the
next begins at the frame after it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import cv2

from fantasytalking.data.preparation.clip_records import ClipSpan, Dropped, SourceVideo, StageClock
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.data.usable_stretches import SHOWN_SECONDS, Unusable, divide, frame_rate_fault
from fantasytalking.errors import AudioError, MissingDependencyError
from fantasytalking.media.coverage import PictureChanges, SoundStretches, Stretch, sound_stretches
from fantasytalking.media.video import iterate_frames, probe_video

__all__ = ["SAMPLE_FPS", "find_cuts", "find_spans"]

SAMPLE_FPS = 12.5
"""Frames per second that are searched for cuts."""
_SIDE = 256


def find_spans(video: SourceVideo, settings: PreparationSettings, clock: StageClock) -> list[ClipSpan | Dropped]:
    """Find the spans of a video, in order: pieces of scenes in which there is sound and the picture moves.

    What is cut away ("no-sound", "silent", "frozen"), pieces that are not long enough ("too-short") and those that show too few frames
    ("frame-rate") are given as `Dropped`.

    Args:
        video: The video.
        settings: Uses `scene_threshold`, `min_seconds`, `max_seconds`, `max_frozen`, `min_frame_rate`.
        clock: Counts the time.

    Raises:
        InputError: The video is missing, empty, unreadable or has no picture.
        MissingDependencyError: PySceneDetect is not installed.
    """
    changes = PictureChanges()
    with clock.stage("scenes", clips=0):
        scenes = [Stretch(*scene) for scene in find_cuts(video.path, settings.scene_threshold, changes)]
        sound = _sound(video.path)
        frozen = changes.frozen(settings.max_frozen, scenes[-1].end)
        pieces = [piece for scene in scenes for piece in _pieces(scene, sound, frozen, settings)]
    clock.count("scenes", len(pieces))
    return [
        _judged(ClipSpan(video, index, round(piece.start, 3), round(piece.end, 3)), why, changes, settings)
        for index, (piece, why) in enumerate(pieces)
    ]


def _pieces(
    scene: Stretch, sound: SoundStretches | None, frozen: Sequence[Stretch], settings: PreparationSettings
) -> list[tuple[Stretch, Unusable | None]]:
    """Pieces of a scene in order, each with the reason if it is cut away."""
    usable, cut = divide(scene, sound, frozen, settings.max_frozen)
    edges = [edge for part in usable for edge in cut_evenly(part.start, part.end, settings)]
    pieces = [*((Stretch(*edge), None) for edge in edges), *((part.stretch, part) for part in cut)]
    if cut:
        # the ragged ends of a recording are no candidates
        pieces = [piece for piece in pieces if piece[0].seconds >= SHOWN_SECONDS] or pieces
    return sorted(pieces, key=lambda piece: piece[0].start)


def _judged(
    span: ClipSpan, why: Unusable | None, changes: PictureChanges, settings: PreparationSettings
) -> ClipSpan | Dropped:
    row: dict[str, Any] = {"seconds": round(span.seconds, 3)}
    if why is not None:
        return Dropped(span, why.reason, why.detail, row)
    if not _long_enough(span.seconds, settings):
        detail = f"The scene lasts {span.seconds:.2f} s; at least {settings.min_seconds:g} s are needed."
        return Dropped(span, "too-short", detail, row)
    rate, fault = frame_rate_fault(changes, Stretch(span.start, span.end), settings.min_frame_rate)
    if fault:
        return Dropped(span, "frame-rate", fault, {**row, "frame_rate": rate})
    return span


def _sound(path: str) -> SoundStretches | None:
    """Where a file has sound; None where it has none at all, which the reading of each span tells."""
    try:
        return sound_stretches(path)
    except AudioError:
        return None


def find_cuts(path: str, threshold: float, changes: PictureChanges | None = None) -> list[tuple[float, float]]:
    """Find the scenes of a video as (start, end) in seconds; the picture changes in the gap between two of them.

    Args:
        path: The video.
        threshold: Minimum content value of a cut (mean change of hue, saturation and brightness between two sampled frames, 0..255).
        changes: Also collects every frame.

    Raises:
        InputError: See `find_spans`.
        MissingDependencyError: See `find_spans`.
    """
    detector, timecode = _detector(threshold)
    info = probe_video(path)
    rate = min(SAMPLE_FPS, float(info.fps))
    scenes, start = [], 0.0
    seen = None if changes is None else changes.push
    # a higher rate than the source's would only repeat frames
    for index, frame in enumerate(iterate_frames(path, rate, longest_side=_SIDE, seen=seen)):
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
