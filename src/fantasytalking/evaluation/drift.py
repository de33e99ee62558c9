"""Does a long video drift, and do its segments show seams? Measured of any video, piece by piece of some seconds.

Frames are read one at a time, so a video of any length needs little memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fantasytalking.errors import VideoError
from fantasytalking.evaluation.metrics.picture_statistics import laplacian_variance
from fantasytalking.media.video import iterate_frames, probe_video
from fantasytalking.perception.face_embedding import embed_face
from fantasytalking.perception.faces import Face, detect_faces
from fantasytalking.perception.landmarks import mouth_opening, track_mesh
from fantasytalking.reporting.svg import Scale, element, tick_label, ticks, x_axis, y_axis

__all__ = ["Drift", "DriftPiece", "drift_plot", "measure_drift"]

_LOOKED_AT = 5
"""Every so many frames are looked at for identity."""
MEASURES = {
    "luma": "brightness, 0..255",
    "colour": "colour distance to the portrait (CIE Lab)",
    "sharpness": "sharpness of the face over the portrait's",
    "identity": "identity: cosine to the portrait",
    "articulation": "articulation: spread of the mouth opening",
}
"""What is measured of each piece, and how a plot calls it."""


@dataclass(frozen=True)
class DriftPiece:
    """Figures of a piece of a video, means over its frames.

    Attributes:
        start: Where it begins, in seconds.
        luma: Brightness of the picture, 0 to 255.
        colour: Distance of the face's mean colour from the portrait's, CIE Lab.
        sharpness: Variance of the Laplacian over the face, over the portrait's.
        identity: Cosine between the face embeddings of frame and portrait.
        articulation: Standard deviation of the mouth opening, in face heights.
        mouth_r: Correlation of the mouth opening with the expected one; NaN where there is none.
    """

    start: float
    luma: float
    colour: float
    sharpness: float
    identity: float
    articulation: float
    mouth_r: float


@dataclass(frozen=True)
class Drift:
    """Figures of a video.

    Attributes:
        pieces: Its pieces in order.
        differences: Mean absolute difference of each frame from the one before, in grey levels [F - 1].
        seams: Numbers of frames that are the first of a segment.
        opening: Mouth opening of each frame [F].
    """

    pieces: tuple[DriftPiece, ...]
    differences: NDArray[np.float32]
    seams: tuple[int, ...]
    opening: NDArray[np.float32]

    def seam_percentiles(self) -> list[float]:
        """Share of all frame differences below that of each seam, in percent."""
        return [float((self.differences < self.differences[frame - 1]).mean() * 100) for frame in self.seams]

    def flash_percentile(self) -> float:
        """Share of all frame differences below the largest of the first three, in percent: a flash of the first frame stands out."""
        return float((self.differences < self.differences[:3].max()).mean() * 100)

    def change(self, measure: str) -> float:
        """The last piece over the first one, less 1."""
        first, last = (float(getattr(piece, measure)) for piece in (self.pieces[0], self.pieces[-1]))
        return last / first - 1 if first else 0.0


def measure_drift(
    path: str | os.PathLike[str],
    portrait: NDArray[np.uint8] | None = None,
    seconds: float = 10.0,
    seams: Sequence[int] = (),
    expected: NDArray[np.float32] | None = None,
) -> Drift:
    """Measure a video.

    Args:
        path: The video.
        portrait: What its face is compared with, [H, W, 3]; None takes the first frame.
        seconds: Length of a piece.
        seams: Numbers of frames that are the first of a segment.
        expected: Mouth opening to correlate with [n], a value a frame from the first frame on; NaN where nothing is expected.

    Raises:
        VideoError: The video cannot be read, or is shorter than two pieces.
        FaceError: It shows no face.
    """
    info = probe_video(path)
    size = round(seconds * float(info.fps))
    if info.frames < 2 * size:
        raise VideoError(
            f"The video '{path}' lasts {info.frames / float(info.fps):.1f} s, less than two pieces of {seconds:g} s; give fewer seconds."
        )
    watch = _Watch(portrait)
    points, _ = track_mesh(watch.passing(iterate_frames(path)))
    opening = np.asarray(mouth_opening(points), np.float32)
    pieces = []
    # A rest that is no whole piece belongs to none; the last piece ends with the video.
    count = len(opening) // size
    for number in range(count):
        start = len(opening) - size if number + 1 == count else number * size
        stretch = slice(start, start + size)
        identity = [value for frame, value in watch.identity if start <= frame < start + size]
        told = np.full(size, np.nan) if expected is None else np.asarray(expected[stretch], np.float64)
        pieces.append(
            DriftPiece(
                start / float(info.fps),
                float(np.mean(watch.luma[stretch])),
                float(np.mean(watch.colour[stretch])),
                float(np.mean(watch.sharpness[stretch])),
                float(np.mean(identity)) if identity else float("nan"),
                float(opening[stretch].std()),
                _correlation(opening[stretch][: len(told)], told),
            )
        )
    return Drift(tuple(pieces), np.array(watch.differences, np.float32), tuple(seams), opening)


def _correlation(measured: NDArray[np.float32], expected: NDArray[np.float64]) -> float:
    known = np.isfinite(expected)
    if known.sum() < 25:
        return float("nan")
    return float(np.corrcoef(measured[known], expected[known])[0, 1])


class _Watch:
    """Looks at each frame as it passes to the face tracker."""

    def __init__(self, portrait: NDArray[np.uint8] | None) -> None:
        self._portrait = portrait
        self._face: Face | None = None
        self.luma: list[float] = []
        self.colour: list[float] = []
        self.sharpness: list[float] = []
        self.identity: list[tuple[int, float]] = []
        self.differences: list[float] = []

    def passing(self, frames: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """The frames, each measured before it is handed on."""
        before: NDArray[np.float32] | None = None
        for number, frame in enumerate(frames):
            if number == 0:
                self._begin(frame if self._portrait is None else self._portrait, frame.shape[:2])
            grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
            if before is not None:
                self.differences.append(float(np.abs(grey - before).mean()))
            before = grey
            self.luma.append(float(grey.mean()))
            self.colour.append(float(np.linalg.norm(self._lab(frame) - self._own_lab)))
            self.sharpness.append(laplacian_variance(frame, self._box) / self._own_sharpness)
            if number % _LOOKED_AT == 0:
                found = detect_faces(frame)
                if found:
                    self.identity.append((number, float(embed_face(frame, found[0]) @ self._own_embedding)))
            yield frame

    def _begin(self, portrait: NDArray[np.uint8], size: tuple[int, int]) -> None:
        if portrait.shape[:2] != size:
            portrait = np.asarray(cv2.resize(portrait, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        found = detect_faces(portrait)
        if not found:
            raise VideoError("The portrait shows no face; give one that does, or none to compare with the first frame.")
        self._box = found[0].box
        self._own_embedding = embed_face(portrait, found[0])
        self._own_lab = self._lab(portrait)
        self._own_sharpness = max(laplacian_variance(portrait, self._box), 1e-6)

    def _lab(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        x0, y0, x1, y1 = (max(0, round(edge)) for edge in self._box)
        lab = cv2.cvtColor(frame[y0:y1, x0:x1].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        return np.asarray(lab.mean((0, 1)), np.float32)


_WIDTH, _ROW, _LEFT = 640, 90, 64


def drift_plot(drift: Drift, title: str) -> Markup:
    """Plot each measure over the pieces, and the frame differences of the seams among those of all frames, as an SVG file's content.

    Args:
        drift: The figures.
        title: Caption.
    """
    style = (
        "text{font:11px sans-serif;fill:#333}.grid{stroke:#ddd}.line{fill:none;stroke:#2563a8;stroke-width:1.6}"
        ".seam{stroke:#c2410c;stroke-width:1}.bar{fill:#9db8d6}.head{font-weight:600}"
    )
    parts = [element("style", Markup(style)), element("text", title, css="head", x=8, y=16)]
    starts = [piece.start for piece in drift.pieces]
    x = Scale(0.0, max(starts), _LEFT, _WIDTH - 12)
    times = [(value, f"{value:g} s") for value in ticks(0.0, max(starts), 6)]
    for row, (name, label) in enumerate(MEASURES.items()):
        top = 28 + row * _ROW
        values = [float(getattr(piece, name)) for piece in drift.pieces]
        high = max(*values, 1e-6) * 1.1
        y = Scale(0.0, high, top + _ROW - 26, top + 14)
        marks = ticks(0.0, high, 3)
        parts.append(element("text", label, x=_LEFT, y=top + 8))
        parts += y_axis([(value, tick_label(value, marks)) for value in marks], y, _LEFT, _WIDTH - 12)
        points = " ".join(f"{x(start):.1f},{y(value):.1f}" for start, value in zip(starts, values, strict=True))
        parts.append(element("polyline", css="line", points=points))
    bottom = 28 + len(MEASURES) * _ROW
    parts += x_axis(times, x, bottom - 24)
    parts += _differences(drift, bottom)
    height = bottom + _ROW + 12
    return element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height}",
        role="img",
        aria_label=title,
    )


def _differences(drift: Drift, top: int) -> list[Markup]:
    """Histogram of the frame differences, with a mark at each seam's."""
    counts, edges = np.histogram(drift.differences, 60, (0.0, float(drift.differences.max(initial=1e-6))))
    x = Scale(0.0, float(edges[-1]), _LEFT, _WIDTH - 12)
    y = Scale(0.0, float(counts.max(initial=1)), top + _ROW - 16, top + 18)
    parts = [
        element("text", "difference of a frame from the one before (grey levels); marks: seams", x=_LEFT, y=top + 10)
    ]
    for count, begin, end in zip(counts, edges, edges[1:], strict=False):
        at = y(float(count))
        parts.append(
            element("rect", css="bar", x=x(begin), y=at, width=max(0.5, x(end) - x(begin) - 1), height=y(0.0) - at)
        )
    for frame in drift.seams:
        at = x(float(drift.differences[frame - 1]))
        parts.append(element("line", css="seam", x1=at, x2=at, y1=top + 18, y2=top + _ROW - 16))
    marks = ticks(0.0, float(edges[-1]), 6)
    return [*parts, *x_axis([(value, tick_label(value, marks)) for value in marks], x, top + _ROW - 16)]
