"""The configuration of a training run, as checked records; the run folder keeps a copy."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fantasytalking.data.condition_dropout import Dropout
from fantasytalking.errors import SettingsError
from fantasytalking.geometry import Strides
from fantasytalking.system.json import read_json, write_json
from fantasytalking.system.records import field, read_record, record
from fantasytalking.training.trainer.model_sizes import check_sizes

__all__ = [
    "MAY_CHANGE",
    "LoopConfig",
    "Schedule",
    "StageSchedule",
    "TrainConfig",
    "differences",
    "load_config",
]

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
        "allow_changes",
    ]
)
"""Fields that may differ when a run is resumed: they affect reporting or how a step is computed, but not its result."""
MAX_SEED = 2**63 - 1


@record
class Schedule:
    """Length and learning rate of one part of a run."""

    stage: Annotated[str, field("Name of this part of the run in the log.")]
    steps: Annotated[int, field("Number of optimiser steps.", minimum=1)]
    learning_rate: Annotated[float, field("Peak learning rate.", minimum=0)]
    warmup: Annotated[int, field("Steps over which the learning rate rises linearly to its peak.", minimum=0)] = 100
    final_fraction: Annotated[
        float, field("Fraction of the peak to which a cosine decays by the last step.", minimum=0, maximum=1)
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
    """Settings of the training loop, common to all runs."""

    stages: Annotated[tuple[Schedule, ...], field("Parts of the run, in order.")]
    weight_decay: Annotated[
        float, field("Weight decay of matrices and kernels; vectors are not decayed.", minimum=0)
    ] = 0.01
    clip_norm: Annotated[
        float, field("Maximum gradient norm; larger gradients are scaled down to it.", minimum=1e-6)
    ] = 1.0
    ema: Annotated[
        float, field("Decay of the averaged weights per step; 0 disables averaging.", minimum=0, maximum=1)
    ] = 0.998
    seed: Annotated[
        int,
        field("Seed of the initial weights, the sample order and every random draw.", minimum=0, maximum=MAX_SEED),
    ] = 0
    checkpoint_minutes: Annotated[float, field("Time between checkpoints.", minimum=0, unit="minutes")] = 4.0
    keep: Annotated[int, field("Number of most recent checkpoints to keep.", minimum=1)] = 2
    validate_every: Annotated[int, field("Steps between validations.", minimum=1)] = 500
    log_every: Annotated[int, field("Steps between log lines.", minimum=1)] = 50
    mixed_precision: Annotated[
        Literal["no", "bf16"], field("Compute in bfloat16 (bf16) or float32 (no); trained weights stay in float32.")
    ] = "no"
    gradient_checkpointing: Annotated[
        bool, field("Recompute activations in the backward pass: slower, but saves memory.")
    ] = False
    accumulate: Annotated[
        int, field("Parts into which each process splits its share of a batch; the result is the same.", minimum=1)
    ] = 1
    fsdp: Annotated[bool, field("Shard weights, gradients and optimiser state across processes (FSDP2).")] = False
    optimizer: Annotated[
        Literal["adamw", "adamw-8bit"],
        field("adamw, or adamw-8bit from bitsandbytes, whose states take one byte each."),
    ] = "adamw"
    prefetch: Annotated[
        int, field("Batches that background threads, one for each, prepare in advance; 0 uses none.", minimum=0)
    ] = 0
    peak_flops: Annotated[
        float | None,
        field(
            "Peak floating point operations per second of a device, for the utilisation in the log; by default it is measured.",
            minimum=1,
        ),
    ] = None
    tensorboard: Annotated[bool, field("Write TensorBoard events.")] = True
    allow_changes: Annotated[
        bool,
        field(
            "Resume a run although learning rates, weight decay, gradient clipping or the length of stages that are not over differ "
            "from those it was begun with; starts.jsonl records each change."
        ),
    ] = False

    def __post_init__(self) -> None:
        if not self.stages:
            raise SettingsError("A run needs at least one stage, but stages is empty; give one.")
        largest = self.largest_batch
        if largest is not None and self.accumulate > largest:
            raise SettingsError(
                f"accumulate must not exceed the {largest} samples of the largest batch, but {self.accumulate} was given; give at most "
                f"{largest}."
            )

    @property
    def largest_batch(self) -> int | None:
        """Samples of the largest batch; None if the configuration does not tell."""
        return None

    def rate_option(self, stage: int) -> str:
        """Name of the option that sets the learning rate of a stage."""
        return f"--train.stages.{stage}.learning-rate"

    @property
    def total_steps(self) -> int:
        """Number of steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def scaled_to(self: C, steps: int) -> C:
        """Scale the run to exactly `steps` steps in total: every stage in proportion, and at least one step long.

        Raises:
            SettingsError: There are more stages than steps.
        """
        if steps < len(self.stages):
            raise SettingsError(
                f"steps must be at least {len(self.stages)}, one for each stage of the recipe, but {steps} was given."
            )
        factor = steps / self.total_steps
        exact = [s.steps * factor for s in self.stages]
        lengths = [max(1, int(share)) for share in exact]
        while sum(lengths) != steps:
            # the stage that is furthest from its share gets a step more or less
            way = 1 if sum(lengths) < steps else -1
            far = max(
                (i for i, length in enumerate(lengths) if length + way >= 1),
                key=lambda i: way * (exact[i] - lengths[i]),
            )
            lengths[far] += way
        stages = tuple(
            replace(s, steps=length, warmup=max(min(1, s.warmup), round(s.warmup * min(1.0, factor))))
            for s, length in zip(self.stages, lengths, strict=True)
        )
        return replace(self, stages=stages)

    def at(self, step: int) -> tuple[Schedule, int]:
        """Stage that a global step belongs to, and the step within it; past the end, the last step of the last stage."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        return self.stages[-1], self.stages[-1].steps - 1

    def save(self, path: Path) -> None:
        """Write the configuration as JSON, replacing the file atomically."""
        write_json(path, asdict(self), indent=1)


@record
class TrainConfig(LoopConfig):
    """Configuration of a run that trains the transformer."""

    stages: Annotated[tuple[StageSchedule, ...], field("Stages of the run, in order.")]
    model: Annotated[
        dict[str, Any], field("Sizes of the transformer, as arguments of `FantasyTalkingTransformer3DModel`.")
    ] = dataclasses.field(default_factory=dict)
    frames: Annotated[
        tuple[int, ...],
        field("Lengths of training windows in video frames (4n+1); each batch draws one length from this list."),
    ] = (73,)
    batch_tokens: Annotated[
        int,
        field("Latent frames per batch; the batch size is this divided by the latent frames of a window.", minimum=1),
    ] = 304
    shift: Annotated[float, field("Shift of the noise levels, as at inference.", minimum=0.1, maximum=100)] = 3.0
    dropout: Annotated[Dropout, field("Probabilities of dropping conditions.")] = Dropout()
    identity_scale: Annotated[float, field("Scale of the identity attention (lambda_2 of the paper).", minimum=0)] = 0.5
    generated_weight: Annotated[
        float, field("How often identities of generated clips are drawn, relative to those of real clips.", minimum=0)
    ] = 0.5
    continuation: Annotated[
        float,
        field(
            "Share of windows that continue a previous segment, with their first latent frames given.",
            minimum=0,
            maximum=1,
        ),
    ] = 0.25

    def __post_init__(self) -> None:
        check_sizes(self.model)
        if not self.frames:
            raise SettingsError("Training needs windows of some length, but frames is empty; give one, such as 73.")
        try:
            tokens = [Strides().latent_frames(count) for count in self.frames]
        except SettingsError as error:
            raise SettingsError(f"frames: {error}") from None
        if self.batch_tokens < max(tokens):
            raise SettingsError(
                f"batch_tokens must be at least {max(tokens)}, the latent frames of a window of {max(self.frames)} frames, but "
                f"{self.batch_tokens} was given; give more, or shorter frames."
            )
        super().__post_init__()

    @property
    def largest_batch(self) -> int:
        """Samples of a batch of the shortest windows."""
        return self.batch_tokens // Strides().latent_frames(min(self.frames))


def load_config(kind: type[C], path: Path) -> C:
    """Read a configuration that `LoopConfig.save` wrote.

    Args:
        kind: Class of the configuration.
        path: The JSON file.

    Raises:
        SettingsError: The file is damaged, a key is unknown, or a value is out of range.
    """
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise SettingsError(f"{path} holds no training configuration; give a run folder of `fantasytalking train`.")
    config = read_record(kind, raw, str(path))
    sizes = getattr(config, "model", None)
    if sizes is None:
        return config
    # JSON has no tuples.
    return replace(config, model={k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()})  # type: ignore[call-arg]


def differences(a: object, b: object, path: str = "") -> list[str]:
    """List the differences of two values made of dicts and sequences, as "path: one there, other now" with a dotted path.

    Args:
        a: Earlier value, as `dataclasses.asdict` returns it.
        b: Present value, as `dataclasses.asdict` returns it.
        path: Dotted path of the two values, for the recursion.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [*a, *(k for k in b if k not in a)]
        return [row for k in keys for row in differences(a.get(k), b.get(k), f"{path}.{k}" if path else str(k))]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [row for i, (x, y) in enumerate(zip(a, b, strict=True)) for row in differences(x, y, f"{path}.{i}")]
    return [] if a == b else [f"{path}: {a} there, {b} now"]
