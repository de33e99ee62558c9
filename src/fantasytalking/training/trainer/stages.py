"""Training stages as data: how video tokens attend to speech, and where the loss is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ETA = 0.2
"""Share of stage 2 samples trained with the plain loss (paper: with the lip loss alone, head and background freeze)."""


@dataclass(frozen=True)
class Stage:
    """One stage of the dual-stage audio-visual alignment.

    Attributes:
        name: Name in logs and checkpoints.
        audio: "clip": every video token attends to all audio tokens (stage 1); "frame": only to those of its window (stage 2).
        eta: Probability of the plain loss; 1 disables the lip mask.
        rest_weight: Weight of the loss outside the mask where the mask applies; 0 gives the paper's M * L.
    """

    name: str
    audio: Literal["clip", "frame"]
    eta: float = 1.0
    rest_weight: float = 0.0


CLIP_LEVEL = Stage("clip", "clip")
FRAME_LEVEL = Stage("frame", "frame", eta=ETA)
FRAME_UNMASKED = Stage("frame-unmasked", "frame")
"""Stage 2 without the lip-tracing mask, for the ablation."""
STAGES = {stage.name: stage for stage in (CLIP_LEVEL, FRAME_LEVEL, FRAME_UNMASKED)}
