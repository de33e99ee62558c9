"""Footage that is dubbed: its frames in order, and the face that is followed through them.

Frames are read again and again from the file, never held; what is measured of them lies in a temporary file. So memory does not grow with
the length of the footage.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import FaceError, VideoError
from fantasytalking.media.video import iterate_frames, probe_video, read_frames
from fantasytalking.perception.face_measures import head_angles, mouth_opening
from fantasytalking.perception.faces import choice_of_faces
from fantasytalking.perception.followed_face import FaceFollower
from fantasytalking.pipeline.progress import Progress
from fantasytalking.system.files import existing_file
from fantasytalking.system.flag_runs import flag_runs

__all__ = ["FollowedFace", "OpenedFootage", "follow_face", "open_footage"]

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SHORTEST = 5
"""Frames of footage that are needed at least."""
FADE = 4
"""Frames over which the new mouth comes and goes where the face is found and lost."""
GAP = 0.3
"""Seconds without a new frame from which on they are told as missing."""
_MEASURED = 4000  # frames at most from which the resting one is chosen
_POINTS = (468, 3)


@dataclass(frozen=True)
class OpenedFootage:
    """A video file whose frames can be read, again and again.

    Attributes:
        path: The file.
        rate: Frames per second, exact; the mean rate where it varies.
        frames: Number of frames at that rate, F.
        width: Pixels, upright and with square pixels.
        height: Pixels.
        has_sound: Whether there is a sound track.
    """

    path: Path
    rate: Fraction
    frames: int
    width: int
    height: int
    has_sound: bool

    @property
    def seconds(self) -> float:
        """Duration of the picture."""
        return float(self.frames / self.rate)

    def __iter__(self) -> Iterator[Pixels]:
        """The frames in order, uint8 [H, W, 3] each, F of them."""
        return self.watched(None)

    def watched(self, seen: Callable[[float, Pixels], None] | None) -> Iterator[Pixels]:
        """The frames in order; `seen` is called with time and picture of every frame of the file that can be decoded.

        Raises:
            VideoError: None of them can.
        """
        done, last = 0, None
        for last in iterate_frames(self.path, self.rate, self.frames, seen=seen):
            yield last
            done += 1
        if last is None:
            raise VideoError(f"The picture of '{self.path}' cannot be decoded; the file is corrupt, give another copy.")
        for _ in range(done, self.frames):
            yield last  # the end of the file cannot be decoded

    def frame(self, index: int) -> Pixels:
        """One frame, uint8 [H, W, 3]."""
        frames, _ = read_frames(self.path, self.rate, 1, float(index / self.rate))
        result: Pixels = frames[0]
        return result


@dataclass(frozen=True)
class FollowedFace:
    """The face that is dubbed, in all frames of its footage.

    Attributes:
        meshes: Mesh of the face in each frame [F, 468, 3] in pixels; where it is not seen, as it was last.
        shares: How far each frame is dubbed [F]: 0 where the face is not seen, 1 elsewhere, and between them for a few frames.
        rest: Number of the frame that shows the face most from the front, with its lips closed or nearly so.
        notes: What was found, one sentence each.
    """

    meshes: Array
    shares: Array
    rest: int
    notes: tuple[str, ...] = ()


def open_footage(path: str | os.PathLike[str]) -> OpenedFootage:
    """Look at a video file without reading more than its first frame.

    Raises:
        VideoError: The file is missing, corrupt, has no picture, or a few frames only.
    """
    file = existing_file(path, "video", VideoError)
    info = probe_video(file)
    if info.frames < SHORTEST:
        raise VideoError(
            f"The video '{file}' has {info.frames} frame{'s' if info.frames > 1 else ''} and at least {SHORTEST} are needed to dub it; "
            "give a longer video, or give the picture as the image."
        )
    return OpenedFootage(file, info.fps, info.frames, info.width, info.height, info.has_audio)


def follow_face(video: OpenedFootage, face: int | None, progress: Progress) -> FollowedFace:
    """Follow the face that talks through all frames.

    Args:
        video: The footage.
        face: Which face, 0 for the largest, in the first frame that shows as many.
        progress: Shows the stage.

    Raises:
        FaceError: No frame shows a face, or never as many.
        VideoError: The picture cannot be decoded.
    """
    follower, clock = FaceFollower(face or 0), _Clock()
    seen = np.zeros(video.frames, bool)
    with tempfile.TemporaryFile() as file, progress.stage("tracking", video.frames) as advance:
        last, before = None, 0
        for index, frame in enumerate(video.watched(clock)):
            mesh = follower(frame)
            if mesh is not None:
                last, seen[index] = mesh.points.astype(np.float32), True
            if last is None:
                before += 1
            else:
                # frames before the first with the face have its mesh
                file.write(last.tobytes() * (before + 1))
                before = 0
            advance()
        if last is None:
            raise _no_face(video, face, follower.most)
        file.flush()
        meshes = np.memmap(file, np.float32, "r", shape=(video.frames, *_POINTS))
    notes = (*_told_gaps(clock, video), *_told_losses(seen, video), *_told_faces(face, follower.most))
    return FollowedFace(meshes, _shares(seen), _resting(meshes, seen), notes)


class _Clock:
    """Times of the frames that could be decoded."""

    def __init__(self) -> None:
        self.last: float | None = None
        self.gaps: list[tuple[float, float]] = []

    def __call__(self, time: float, frame: Pixels) -> None:
        if self.last is not None and time - self.last > GAP:
            self.gaps.append((self.last, time))
        self.last = time


def _no_face(video: OpenedFootage, face: int | None, most: int) -> FaceError:
    if face and most:
        return FaceError(
            f"There is no face {face} in the video '{video.path}': at most {most} {'are' if most > 1 else 'is'} seen at once, "
            f"{choice_of_faces(most)}."
        )
    return FaceError(
        f"None of the {video.frames} frames of the video '{video.path}' shows a face; give one in which the person who is to speak is "
        "seen from the front."
    )


def _shares(seen: NDArray[np.bool_]) -> Array:
    """1 where the face is seen, 0 where it is not, rising and falling over `FADE` frames on the side where it is seen."""
    shares = np.zeros(len(seen), np.float32)
    for edge in range(FADE):
        # seen in all frames up to this far away
        near = np.pad(seen, edge, constant_values=True)
        whole = np.lib.stride_tricks.sliding_window_view(near, 2 * edge + 1).all(1)
        shares += whole / np.float32(FADE)
    return shares


def _resting(meshes: Array, seen: NDArray[np.bool_]) -> int:
    frames = np.flatnonzero(seen)
    frames = frames[:: max(1, len(frames) // _MEASURED)]
    chosen = np.asarray(meshes[frames])
    turned = np.abs(head_angles(chosen)[:, :2]).max(1)
    frontal = turned <= np.quantile(turned, 0.3) + 3.0
    opening = np.where(frontal, mouth_opening(chosen), np.inf)
    return int(frames[int(np.argmin(opening))])


def _spans(spans: list[tuple[float, float]]) -> str:
    named = [f"{a:.1f} to {b:.1f} s" for a, b in spans[:5]]
    return ", ".join(named) + (f" and {len(spans) - 5} more" if len(spans) > 5 else "")


def _told_losses(seen: NDArray[np.bool_], video: OpenedFootage) -> list[str]:
    lost = [(float(a / video.rate), float(b / video.rate)) for a, b in flag_runs(~seen).tolist()]
    if not lost:
        return []
    missing = float((~seen).sum() / video.rate)
    return [
        f"The face is not seen for {missing:.1f} s ({_spans(lost)}): it is hidden or too far turned, or another shot is shown; the frames "
        "stay as filmed there."
    ]


def _told_gaps(clock: _Clock, video: OpenedFootage) -> list[str]:
    end = video.seconds
    gaps = clock.gaps + (
        [(clock.last, end)] if clock.last is not None and end - clock.last > GAP + 1 / video.rate else []
    )
    if not gaps:
        return []
    return [
        f"The picture of the footage cannot be read, or stands still, from {_spans(gaps)}; the nearest frame that could be read is shown "
        "there."
    ]


def _told_faces(face: int | None, most: int) -> list[str]:
    if face is not None or most < 2:
        return []
    return [f"{most} faces are seen in the footage; the largest, face 0, is dubbed. Choose another with --face."]
