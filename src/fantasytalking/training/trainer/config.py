"""Everything that decides a training run, as typed data; the run folder keeps a copy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fantasytalking.data.samples import Dropout
from fantasytalking.errors import SettingsError
from fantasytalking.system.files import atomic_path

MAY_CHANGE = frozenset(
    [
        "checkpoint_minutes",
        "keep",
        "validate_every",
        "log_every",
        "gradient_checkpointing",
        "accumulate",
        "fsdp",
        "prefetch",
        "peak_flops",
        "tensorboard",
    ]
)
"""Fields of `TrainConfig` that may differ when a run goes on: they change what is reported or how it is computed, not the run."""


@dataclass(frozen=True)
class StageSchedule:
    """How long one stage lasts and how it learns.

    Attributes:
        stage: "clip" or "frame" (see `fantasytalking.training.trainer.stages`).
        steps: optimiser steps.
        learning_rate: peak; warmed up linearly over `warmup` steps, then cosine to `final_fraction` of it.
        warmup: steps.
        final_fraction: of the peak, at the stage's last step.
    """

    stage: str
    steps: int
    learning_rate: float
    warmup: int = 100
    final_fraction: float = 0.1


@dataclass(frozen=True)
class TrainConfig:
    """A run of the transformer.

    Attributes:
        stages: run one after the other.
        model: transformer config (keyword arguments of `FantasyTalkingTransformer3DModel`).
        frames: video frames of a training window (4n+1); one batch holds windows of one length, drawn from this list.
        batch_tokens: latent frames a batch; the batch size is this divided by a window's latent frames.
        shift: of the noise levels.
        dropout: of reference, audio and text.
        identity_scale: lambda_2.
        generated_weight: weight of identities of generated footage.
        continuation: share of windows whose first latent frames are given as the end of a previous segment.
        weight_decay: of matrices and kernels.
        clip_norm: limit of the gradient's norm.
        ema: decay of the averaged weights per step.
        seed: of everything.
        checkpoint_minutes: between checkpoints.
        keep: checkpoints kept.
        validate_every: steps between validations.
        log_every: steps between log lines.
        mixed_precision: "no" or "bf16".
        gradient_checkpointing: trade time for memory.
        accumulate: parts that each process's share of a batch is cut into, one after the other; the result is the same.
        fsdp: spread weights, gradients and optimiser state over the processes (FSDP2).
        optimizer: "adamw", or "adamw-8bit" (bitsandbytes).
        prefetch: batches that a thread prepares ahead.
        peak_flops: floating point operations per second of the device, for the share of it that is used; None: measured.
        tensorboard: whether to write TensorBoard events.
    """

    stages: tuple[StageSchedule, ...]
    model: dict[str, Any]
    frames: tuple[int, ...] = (73,)
    batch_tokens: int = 304
    shift: float = 3.0
    dropout: Dropout = field(default_factory=Dropout)
    identity_scale: float = 0.5
    generated_weight: float = 0.5
    continuation: float = 0.25
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.998
    seed: int = 0
    checkpoint_minutes: float = 4.0
    keep: int = 2
    validate_every: int = 500
    log_every: int = 50
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False
    accumulate: int = 1
    fsdp: bool = False
    optimizer: str = "adamw"
    prefetch: int = 0
    peak_flops: float | None = None
    tensorboard: bool = True

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def scaled_to(self, steps: int) -> TrainConfig:
        """The same run with `steps` steps in all, every stage in proportion and at least one step long."""
        factor = steps / self.total_steps
        stages = tuple(
            replace(s, steps=max(1, round(s.steps * factor)), warmup=max(1, round(s.warmup * min(1.0, factor))))
            for s in self.stages
        )
        return replace(self, stages=stages)

    def at(self, step: int) -> tuple[StageSchedule, int]:
        """The stage that a global step belongs to and the step inside it; past the end: the last stage's last step."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        return self.stages[-1], self.stages[-1].steps - 1

    def save(self, path: Path) -> None:
        """Write as JSON; the file is replaced in one go."""
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read what `save` wrote.

        Raises:
            SettingsError: a key is unknown.
        """
        raw = json.loads(path.read_text())
        try:
            raw["stages"] = tuple(StageSchedule(**s) for s in raw["stages"])
            raw["dropout"] = Dropout(**raw["dropout"])
            raw["frames"] = tuple(raw["frames"])
            # JSON knows no tuples
            raw["model"] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw["model"].items()}
            return cls(**raw)
        except TypeError as error:
            raise SettingsError(f"{path} is not a training configuration of this version: {error}.") from error


def differences(a: object, b: object, path: str = "") -> list[str]:
    """Where two values made of dicts and sequences differ: "path: one, other", dotted.

    Args:
        a, b: as `dataclasses.asdict` makes them.
        path: of the values themselves.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [*a, *(k for k in b if k not in a)]
        return [row for k in keys for row in differences(a.get(k), b.get(k), f"{path}.{k}" if path else str(k))]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [row for i, (x, y) in enumerate(zip(a, b, strict=True)) for row in differences(x, y, f"{path}.{i}")]
    return [] if a == b else [f"{path}: {a} there, {b} now"]


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a model folder out of videos.

    Attributes:
        transformer: the run of the transformer.
        painter_steps: optimiser steps of the mouth painter; 0: the painter of `start`.
        painter_batch: pairs a step of it.
        pairs_per_identity: frame pairs that it learns from.
        start: model folder, or embedded, whose transformer is trained on and whose codec is kept; empty: from nothing.

    Raises:
        SettingsError: no painter is to be trained and there is none to take over.
    """

    transformer: TrainConfig
    painter_steps: int
    painter_batch: int
    pairs_per_identity: int
    start: str = ""

    def __post_init__(self) -> None:
        if self.painter_steps < 0 or (self.painter_steps == 0 and not self.start):
            raise SettingsError(
                f"The mouth painter needs at least 1 step, but has {self.painter_steps}; 0 takes over the painter of the model that "
                "--start names."
            )
