"""Ready-made training configurations."""

from __future__ import annotations

from typing import Any

from fantasytalking.training.lip_sync.train_lip_sync import LipSyncConfig
from fantasytalking.training.trainer.config import Recipe, StageSchedule, TrainConfig

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
"""The embedded transformer: the released architecture at width 192 and 6 layers, with identity and motion."""

EMBEDDED_TRANSFORMER = TrainConfig(
    stages=(
        StageSchedule("clip", 400, 6e-4, warmup=100, final_fraction=0.7),
        StageSchedule("frame", 2000, 6e-4, warmup=50, final_fraction=0.02),
        # once more, from a high rate
        StageSchedule("frame", 3600, 5e-4, warmup=100, final_fraction=0.02),
    ),
    model=EMBEDDED_MODEL,
    frames=(73, 73, 145, 245),
    batch_tokens=304,
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
"""A run of seconds, for trying the machinery out."""

RECIPES = {
    "embedded": Recipe(EMBEDDED_TRANSFORMER, painter_steps=3600, painter_batch=8, pairs_per_identity=84),
    "tiny": Recipe(TINY_TRANSFORMER, painter_steps=2, painter_batch=2, pairs_per_identity=4),
}

LIP_SYNC_RECIPES = {"lip-sync": LipSyncConfig()}
"""The network that measures whether lips and sound are in step."""
