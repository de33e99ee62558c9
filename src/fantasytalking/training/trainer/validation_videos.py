"""Videos of the averaged weights while a run goes on: files, a strip of frames, and their sync and motion figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import FaceError
from fantasytalking.evaluation.footage import load_footage
from fantasytalking.evaluation.metrics.sync_confidence import proxy as bundled_sync
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.perception.landmarks import mouth_opening
from fantasytalking.perception.lip_sync import MIN_OVERLAP
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import Progress
from fantasytalking.training.trainer.monitor import Monitor
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

STRIP_FRAMES = 8
FASTEST = 15
"""Largest shift that sync is looked for at, frames at 25 a second."""


class _Quiet(Progress):
    def show_note(self, text: str) -> None:
        pass


@dataclass(frozen=True)
class ValidationVideos:
    """Renders validation clips through a pipeline; for `Trainer(videos=...)`.

    Args:
        pipeline: makes a pipeline of a transformer.
        clips: portrait and speech, as `FantasyTalkingPipeline` takes them, by a short name.
        settings: of the generation; the same seed makes videos of one run comparable.
        every: every n-th validation is rendered.
    """

    pipeline: Callable[[FantasyTalkingTransformer3DModel], FantasyTalkingPipeline]
    clips: Mapping[str, tuple[Any, Any]]
    settings: Mapping[str, Any] = field(default_factory=lambda: {"seed": 0})
    every: int = 1

    def __call__(self, model: FantasyTalkingTransformer3DModel, step: int, monitor: Monitor) -> dict[str, float]:
        """Write ``validation/step-N/NAME.mp4`` into the run folder and a strip of each to TensorBoard.

        Returns:
            Means over the clips, see `video_figures`; nothing where this validation is not rendered.
        """
        if (step // max(1, monitor.validate_every)) % self.every:
            return {}
        folder = monitor.run.path / "validation" / f"step-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        made = self.pipeline(model)
        rows = []
        for name, (portrait, speech) in self.clips.items():
            video = made(portrait, speech, progress=_Quiet(), **self.settings)
            path = video.save(folder / f"{name}.mp4", overwrite=True)
            monitor.log_picture(step, f"validation/{name}", strip(video.frames))
            rows.append(video_figures(path))
        return {f"video_{key}": value for key, value in means(rows).items()}


def strip(frames: NDArray[np.uint8], count: int = STRIP_FRAMES) -> NDArray[np.uint8]:
    """Evenly spread frames of [F, H, W, 3] side by side."""
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return np.concatenate([frames[i] for i in chosen], 1)


def video_figures(path: Path) -> dict[str, float]:
    """Figures of one video with sound.

    Returns:
        ``sync_confidence``, ``sync_distance`` and ``sync_offset`` (frames at 25 a second) of the bundled lip-sync network;
        ``mouth_motion``, the deviation of the mouth's opening over time; ``head_motion``, that of the face's middle in units of its
        height. What cannot be measured is left out.
    """
    footage = load_footage(path, Protocol(max_offset=FASTEST))
    try:
        points, _ = footage.track
    except FaceError:
        return {}
    run = footage.longest_run
    seen = points[run]
    if len(seen) < 2:
        return {}
    middles, height = seen[..., :2].mean(1), float(np.ptp(seen[..., 1], axis=1).mean())
    found = {
        "mouth_motion": float(np.std(mouth_opening(seen))),
        "head_motion": float(np.sqrt(middles.var(0).sum()) / max(height, 1e-6)),
    }
    if footage.sound is None or len(seen) <= MIN_OVERLAP:
        return found
    curve = bundled_sync().curve(footage, run)
    return found | {
        "sync_confidence": float(curve.confidence),
        "sync_distance": float(curve.distance),
        "sync_offset": float(curve.offset),
    }


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of every figure over the rows that have it."""
    names = sorted({name for row in rows for name in row})
    return {
        name: math.fsum(row[name] for row in rows if name in row) / sum(name in row for row in rows) for name in names
    }
