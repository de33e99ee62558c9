"""Recipes of the embedded model."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from fantasytalking.errors import SettingsError
from fantasytalking.system.records import field, record
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig

PAINTER_RATE = 5e-4
"""Peak learning rate of the mouth painter."""


OPENING_WEIGHT = 0.5


@record
class EmbeddedRecipe:
    """Recipe that makes a model folder from videos."""

    train: Annotated[TrainConfig, field("Configuration of the transformer's run.")]
    painter_steps: Annotated[
        int, field("Optimiser steps of the mouth painter; 0 keeps the painter of start.", minimum=0)
    ]
    painter_batch: Annotated[int, field("Pairs per step of the mouth painter.", minimum=1)]
    pairs_per_identity: Annotated[int, field("Pairs of frames per person for training the painter.", minimum=1)]
    start: Annotated[
        str,
        field(
            "Model folder, or embedded, whose transformer is trained further and whose codec is kept; empty trains from scratch."
        ),
    ] = ""
    part: Annotated[
        Literal["all", "measure", "painter", "transformer"],
        field(
            "Part of the run that this command does. measure: face tracks, codec, pairs for the mouth painter; painter and transformer: "
            "these alone, from what measure left in the run folder, without the videos, so that copies of the folder may do the two on "
            "different machines; all: everything that is still missing, and the model."
        ),
    ] = "all"
    opening_weight: Annotated[
        float, field("Weight of the loss on the opening of the mouth, relative to that of flow matching.", minimum=0)
    ] = OPENING_WEIGHT
    painter_learning_rate: Annotated[float, field("Peak learning rate of the mouth painter.", minimum=0)] = PAINTER_RATE

    def __post_init__(self) -> None:
        if self.painter_steps == 0 and not self.start:
            raise SettingsError(
                f"The mouth painter needs at least 1 step, but has {self.painter_steps}; 0 takes over the painter of the model that "
                "--start names."
            )
        if self.part == "painter" and self.painter_steps == 0:
            raise SettingsError(
                "The part painter trains the mouth painter, but --painter-steps is 0; give at least 1 step, or leave this part out."
            )

    @property
    def reads_data(self) -> bool:
        """Whether this part of the run reads the data, and not only what an earlier part left in the run folder."""
        return self.part in ("all", "measure")

    def scaled_to(self, steps: int) -> EmbeddedRecipe:
        """Scale the recipe to `steps` optimiser steps of the transformer in total, stages in proportion."""
        return replace(self, train=self.train.scaled_to(steps))


EMBEDDED_MODEL: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 3,
    "attention_head_dim": 64,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 16,
    "freq_dim": 128,
    "ffn_dim": 768,
    "num_layers": 6,
    "audio_feature_dim": 384,
    "audio_dim": 192,
    "audio_positions": 24,
    "identity_feature_dim": 192,
    "identity_dim": 128,
    "identity_tokens": 4,
    "identity_layers": 1,
    "motion": True,
}
"""Sizes of the embedded transformer: the released architecture at width 192 and 6 layers, with identity and motion."""

EMBEDDED_TRANSFORMER = TrainConfig(
    stages=(
        StageSchedule("clip", 267, 6e-4, warmup=67, final_fraction=0.7),
        StageSchedule("frame", 1333, 6e-4, warmup=33, final_fraction=0.02),
        # a second round, starting from a high rate
        StageSchedule("frame", 2400, 5e-4, warmup=67, final_fraction=0.02),
    ),
    model=EMBEDDED_MODEL,
    frames=(73, 73, 145, 245),
    batch_tokens=912,
    ema=0.9985,
)

TINY_TRANSFORMER = TrainConfig(
    stages=(StageSchedule("clip", 4, 1e-3, warmup=1), StageSchedule("frame", 4, 1e-3, warmup=1)),
    model=EMBEDDED_MODEL
    | {"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 1, "audio_dim": 16},
    frames=(9,),
    batch_tokens=6,
    validate_every=4,
    log_every=2,
)
"""Configuration that runs for seconds, for trials."""

RECIPES = {
    "embedded": EmbeddedRecipe(EMBEDDED_TRANSFORMER, painter_steps=4600, painter_batch=8, pairs_per_identity=56),
    "tiny": EmbeddedRecipe(TINY_TRANSFORMER, painter_steps=2, painter_batch=2, pairs_per_identity=4),
}
