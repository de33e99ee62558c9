"""Everything that decides a training run, as checked records; the run folder keeps a copy."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fantasytalking.data.samples import Dropout
from fantasytalking.errors import SettingsError
from fantasytalking.geometry import Strides
from fantasytalking.system.json import read_json, write_json
from fantasytalking.system.records import field, read_record, record

__all__ = ["MAY_CHANGE", "LoopConfig", "Schedule", "StageSchedule", "TrainConfig", "differences", "load_config"]

C = TypeVar("C", bound="LoopConfig")

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
"""Fields of a configuration that may differ when a run goes on: they change what is reported or how it is computed, not the run."""


@record
class Schedule:
    """Length and learning rate of a part of a run."""

    stage: Annotated[str, field("Name of this part of the run, for the log.")]
    steps: Annotated[int, field("Optimiser steps.", minimum=1)]
    learning_rate: Annotated[float, field("Peak of the learning rate.", minimum=0)]
    warmup: Annotated[int, field("Steps over which the learning rate rises linearly to its peak.", minimum=0)] = 100
    final_fraction: Annotated[
        float, field("Fraction of the peak that a cosine reaches at the last step.", minimum=0, maximum=1)
    ] = 0.1


@record
class StageSchedule(Schedule):
    """Length and learning rate of a stage of the transformer (see `fantasytalking.training.trainer.stages`)."""

    stage: Annotated[
        Literal["clip", "frame", "frame-unmasked"],
        field("Stage 1 (clip), stage 2 (frame), or stage 2 without the lip mask (frame-unmasked)."),
    ]


@record
class LoopConfig:
    """Settings that the training loop needs for any run."""

    stages: Annotated[tuple[Schedule, ...], field("Parts of the run, one after the other.")]
    weight_decay: Annotated[float, field("Weight decay of matrices and kernels; vectors have none.", minimum=0)] = 0.01
    clip_norm: Annotated[float, field("Largest norm of the gradient; longer ones are scaled down.", minimum=0)] = 1.0
    ema: Annotated[
        float, field("Decay of the averaged weights per step; 0 averages nothing.", minimum=0, maximum=1)
    ] = 0.998
    seed: Annotated[int, field("Seed of weights, order and every draw.", minimum=0)] = 0
    checkpoint_minutes: Annotated[float, field("Time between checkpoints.", minimum=0, unit="minutes")] = 4.0
    keep: Annotated[int, field("Number of newest checkpoints that are kept.", minimum=1)] = 2
    validate_every: Annotated[int, field("Steps between validations.", minimum=1)] = 500
    log_every: Annotated[int, field("Steps between lines of the log.", minimum=1)] = 50
    mixed_precision: Annotated[
        Literal["no", "bf16"], field("Products in bfloat16 (bf16) or float32 (no); what trains stays float32.")
    ] = "no"
    gradient_checkpointing: Annotated[
        bool, field("Compute inner values again in the backward pass, which takes time and saves memory.")
    ] = False
    accumulate: Annotated[
        int, field("Parts that each process's share of a batch is cut into; the result is the same.", minimum=1)
    ] = 1
    fsdp: Annotated[bool, field("Shard weights, gradients and optimiser state over the processes (FSDP2).")] = False
    optimizer: Annotated[
        Literal["adamw", "adamw-8bit"], field("AdamW, or with states of one byte by bitsandbytes (adamw-8bit).")
    ] = "adamw"
    prefetch: Annotated[int, field("Batches that a thread prepares ahead.", minimum=0)] = 0
    peak_flops: Annotated[
        float | None,
        field(
            "Floating point operations per second of a device, for the share of it that is used; nothing measures it.",
            minimum=1,
        ),
    ] = None
    tensorboard: Annotated[bool, field("Write TensorBoard events.")] = True

    def __post_init__(self) -> None:
        if not self.stages:
            raise SettingsError("A run needs at least one stage, but stages is empty; give one.")

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def scaled_to(self: C, steps: int) -> C:
        """The same run with `steps` steps in all, every stage in proportion and at least one step long."""
        factor = steps / self.total_steps
        stages = tuple(
            replace(s, steps=max(1, round(s.steps * factor)), warmup=max(1, round(s.warmup * min(1.0, factor))))
            for s in self.stages
        )
        return replace(self, stages=stages)

    def at(self, step: int) -> tuple[Schedule, int]:
        """The stage that a global step belongs to and the step inside it; past the end: the last stage's last step."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        return self.stages[-1], self.stages[-1].steps - 1

    def save(self, path: Path) -> None:
        """Write as JSON; the file is replaced in one go."""
        write_json(path, asdict(self), indent=1)


@record
class TrainConfig(LoopConfig):
    """A run of the transformer."""

    stages: Annotated[tuple[StageSchedule, ...], field("Stages of the run, one after the other.")]
    model: Annotated[
        dict[str, Any], field("Sizes of the transformer: arguments of `FantasyTalkingTransformer3DModel`.")
    ] = dataclasses.field(default_factory=dict)
    frames: Annotated[
        tuple[int, ...],
        field("Video frames of a training window (4n+1); one batch holds windows of one length, drawn from this list."),
    ] = (73,)
    batch_tokens: Annotated[
        int, field("Latent frames of a batch; the batch size is this over a window's latent frames.", minimum=1)
    ] = 304
    shift: Annotated[float, field("Shift of the noise levels, as in inference.", minimum=0.1, maximum=100)] = 3.0
    dropout: Annotated[Dropout, field("Probabilities of dropping conditions.")] = Dropout()
    identity_scale: Annotated[float, field("Scale of the identity (lambda_2 of the paper).", minimum=0)] = 0.5
    generated_weight: Annotated[
        float, field("How often identities of generated clips are drawn, against those of real ones.", minimum=0)
    ] = 0.5
    continuation: Annotated[
        float,
        field("Share of windows whose first latent frames are given as the end of a segment.", minimum=0, maximum=1),
    ] = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.frames:
            raise SettingsError("Training needs windows of some length, but frames is empty; give one, such as 73.")
        for count in self.frames:
            Strides().latent_frames(count)


def load_config(kind: type[C], path: Path) -> C:
    """Read what `LoopConfig.save` wrote.

    Args:
        kind: of configuration.
        path: the file.

    Raises:
        SettingsError: the file is damaged, a key is unknown, or a value is out of range.
    """
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise SettingsError(f"{path} holds no training configuration; give a run folder of `fantasytalking train`.")
    config = read_record(kind, raw, str(path))
    sizes = getattr(config, "model", None)
    if sizes is None:
        return config
    # JSON knows no tuples
    return replace(config, model={k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()})  # type: ignore[call-arg]


def differences(a: object, b: object, path: str = "") -> list[str]:
    """List where two values made of dicts and sequences differ, as "path: one there, other now" with a dotted path.

    Args:
        a: as `dataclasses.asdict` makes it.
        b: as `dataclasses.asdict` makes it.
        path: of the values themselves.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [*a, *(k for k in b if k not in a)]
        return [row for k in keys for row in differences(a.get(k), b.get(k), f"{path}.{k}" if path else str(k))]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [row for i, (x, y) in enumerate(zip(a, b, strict=True)) for row in differences(x, y, f"{path}.{i}")]
    return [] if a == b else [f"{path}: {a} there, {b} now"]
