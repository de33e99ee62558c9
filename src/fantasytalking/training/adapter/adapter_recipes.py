"""Ready-made recipes for the adapter and LoRA at the released size, with the paper's numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Annotated, Any

from fantasytalking.errors import SettingsError
from fantasytalking.geometry import Strides
from fantasytalking.system.records import field, nearest_name, record
from fantasytalking.training.lora import LoraSettings
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig
from fantasytalking.training.trainer.model_sizes import check_sizes

__all__ = ["ADAPTER_RECIPES", "BACKBONE_LINEARS", "DESCRIPTION", "AdapterRecipe"]

DESCRIPTION = "adapter.json"
"""File of a run's description, in its output folder."""
PART_SIZES = ("audio_dim", "identity_dim", "identity_tokens", "identity_layers", "motion")
"""Sizes that `AdapterRecipe.parts` may hold."""

BACKBONE_LINEARS = (
    *(f"{attention}.{name}" for attention in ("attn1", "attn2") for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *("attn2.add_k_proj", "attn2.add_v_proj", "ffn.net.0.proj", "ffn.net.2"),
)
"""Linear layers of Wan's own blocks: self-attention, cross-attention to text and image, feed-forward. The names include the attention,
as the Q-Former has layers of the same names."""


@record
class AdapterRecipe:
    """Recipe of a run on a frozen backbone."""

    train: Annotated[
        TrainConfig,
        field(
            "Configuration of the run. Its model is filled in from the base; the number of clips in a global batch is batch-tokens "
            "divided by the latent frames of the longest window."
        ),
    ]
    parts: Annotated[
        dict[str, Any],
        field(
            "Sizes of the parts that a base lacks: audio, identity and motion. The widths of speech features and face embedding "
            "come from the data."
        ),
    ] = dataclasses.field(default_factory=dict)
    lora: Annotated[LoraSettings | None, field("LoRA on the backbone, trained together with the adapter.")] = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.parts if name not in PART_SIZES]
        if unknown:
            raise SettingsError(
                f"parts: There is no part size {unknown[0]!r}; {nearest_name(unknown[0], PART_SIZES, 'part sizes')}"
            )
        # the width of the face embedding comes from the data; here it only completes the pair
        width = {} if self.parts.get("identity_dim") is None else {"identity_feature_dim": 1}
        check_sizes({**self.parts, **width}, "parts")
        if self.train.accumulate > self.batch:
            raise SettingsError(
                f"train.accumulate must not exceed the {self.batch} clips of a batch, but {self.train.accumulate} was given; give at most "
                f"{self.batch}."
            )

    @property
    def batch(self) -> int:
        """Number of clips in a global batch."""
        return max(1, self.train.batch_tokens // Strides().latent_frames(max(self.train.frames)))

    def scaled_to(self, steps: int) -> AdapterRecipe:
        """Scale the run to `steps` steps in total, stages in proportion."""
        return replace(self, train=self.train.scaled_to(steps))


RELEASED_PARTS: dict[str, Any] = {
    "audio_dim": 2048,
    "identity_dim": 2048,
    "identity_tokens": 16,
    "identity_layers": 2,
    "motion": True,
}
"""Audio as released; identity and motion, which were not released, at sizes of our choice."""

_PAPER = TrainConfig(
    stages=(
        StageSchedule("clip", 80_000, 1e-4, warmup=1000, final_fraction=1.0),
        StageSchedule("frame", 20_000, 1e-4, warmup=100, final_fraction=1.0),
    ),
    frames=(81, 81, 81, 49),
    batch_tokens=64 * 21,
    shift=5.0,
    continuation=0.1,
    ema=0.999,
    checkpoint_minutes=30.0,
    keep=3,
    validate_every=2000,
    log_every=20,
    mixed_precision="bf16",
    gradient_checkpointing=True,
    fsdp=True,
    prefetch=2,
)
"""From the paper: 80,000 and 20,000 steps, 1e-4, 64 GPUs, dropout 0.1, eta 0.2, lambda_2 0.5 (lambda_1 is 1). Our choice where it is
silent: one clip per GPU, warm-up, one batch in four of shorter windows, one window in ten a continuation, averaged weights."""

ADAPTER_14B = AdapterRecipe(_PAPER, RELEASED_PARTS)
"""The paper's run: projector, audio and identity projections, Q-Former and motion network on Wan2.1-I2V-14B."""

LORA_14B = AdapterRecipe(
    _PAPER.scaled_to(10_000), RELEASED_PARTS, LoraSettings(rank=64, alpha=64.0, targets=BACKBONE_LINEARS)
)
"""As above with LoRA on the backbone's linear layers and a tenth of the steps, to tune a base with a trained adapter to new footage."""

_TINY_PARTS: dict[str, Any] = {
    "audio_dim": 20,
    "identity_dim": 16,
    "identity_tokens": 3,
    "identity_layers": 1,
    "motion": True,
}
_TINY = replace(
    _PAPER,
    stages=(StageSchedule("clip", 4, 1e-3, warmup=1), StageSchedule("frame", 4, 1e-3, warmup=1)),
    frames=(9, 9, 5),
    batch_tokens=2 * 3,
    checkpoint_minutes=4.0,
    validate_every=1000,
    log_every=2,
    mixed_precision="no",
    fsdp=False,
)
ADAPTER_TINY = AdapterRecipe(_TINY, _TINY_PARTS)
LORA_TINY = AdapterRecipe(_TINY, _TINY_PARTS, LoraSettings(rank=4, alpha=8.0, targets=BACKBONE_LINEARS))
"""Recipes that run for seconds on a tiny model of Wan's architecture, for trials."""

ADAPTER_RECIPES = {
    "adapter-14b": ADAPTER_14B,
    "lora-14b": LORA_14B,
    "adapter-tiny": ADAPTER_TINY,
    "lora-tiny": LORA_TINY,
}
"""Recipes by name; all need a base model and a prepared set with latents."""
