"""Validation videos rendered with the averaged weights during a run: files, strips of frames, and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import Progress
from fantasytalking.training.trainer.callbacks import Callback, Moment, Validated
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

STRIP_FRAMES = 8


class _Quiet(Progress):
    def show_note(self, text: str) -> None:
        pass


@dataclass(frozen=True)
class ValidationVideos(Callback):
    """Callback that renders validation clips through a pipeline: files in the run folder, and a strip of frames of each.

    Args:
        pipeline: Function that builds a pipeline around a transformer.
        clips: Short name -> portrait and speech, as `FantasyTalkingPipeline` takes them.
        settings: Generation settings; a fixed seed makes the videos of a run comparable.
        every: Interval in validations; 2 renders every second one.
        measure: Function from the path of a video with sound to figures by name; None measures nothing.
        needs_whole_model: See `Callback`; the pipeline moves and casts the model.
    """

    pipeline: Callable[[FantasyTalkingTransformer3DModel], FantasyTalkingPipeline]
    clips: Mapping[str, tuple[Any, Any]]
    settings: Mapping[str, Any] = field(default_factory=lambda: {"seed": 0})
    every: int = 1
    measure: Callable[[Path], Mapping[str, float]] | None = None
    needs_whole_model: bool = True

    def on_validation(self, model: FantasyTalkingTransformer3DModel, moment: Moment) -> Validated:
        """Write ``validation/step-N/NAME.mp4`` in the run folder.

        Returns:
            Means of `measure` over the clips, and the strips; empty if this validation is not rendered.
        """
        if moment.number % self.every:
            return Validated()
        folder = moment.run.path / "validation" / f"step-{moment.step}"
        folder.mkdir(parents=True, exist_ok=True)
        made = self.pipeline(model)
        rows, pictures = [], {}
        for name, (portrait, speech) in self.clips.items():
            video = made(portrait, speech, progress=_Quiet(), **self.settings)
            path = video.save(folder / f"{name}.mp4", overwrite=True)
            pictures[f"validation/{name}"] = strip(video.frames)
            rows.append({} if self.measure is None else self.measure(path))
        return Validated({f"video_{key}": value for key, value in means(rows).items()}, pictures)


def strip(frames: NDArray[np.uint8], count: int = STRIP_FRAMES) -> NDArray[np.uint8]:
    """Place evenly spaced frames of a video [F, H, W, 3] side by side."""
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return np.concatenate([frames[i] for i in chosen], 1)


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average each figure over the rows that contain it."""
    names = sorted({name for row in rows for name in row})
    return {
        name: math.fsum(row[name] for row in rows if name in row) / sum(name in row for row in rows) for name in names
    }
