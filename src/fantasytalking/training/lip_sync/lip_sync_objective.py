"""Objective and validation of the lip-sync network of `fantasytalking.perception.lip_sync`.

The loss is contrastive: a few frames of the mouth must be closer to the speech of the same moment than to the speech of the same clip 1 to
15 frames earlier or later, and than to the speech of other clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.errors import SettingsError
from fantasytalking.perception.lip_sync import (
    MAX_OFFSET,
    MOUTH_REACH,
    PIXEL_HEIGHT,
    PIXEL_WIDTH,
    SPEECH_DIM,
    SPEECH_REACH,
    TOKENS_PER_FRAME,
    LipSync,
    LipSyncNetwork,
)
from fantasytalking.perception.mouth_view import SHAPE_DIM, MouthView
from fantasytalking.training.check_recipe import check_means
from fantasytalking.training.lip_sync.lip_sync_data import MouthClip, SyncBatch, SyncWindows
from fantasytalking.training.lip_sync.lip_sync_figures import ClipMeasure, distance_cost, figures
from fantasytalking.training.lip_sync.lip_sync_recipes import LipSyncConfig, LipSyncRecipe
from fantasytalking.training.trainer.callbacks import Validate
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.objective import Losses, Workload
from fantasytalking.training.trainer.random_draws import seeded
from fantasytalking.training.trainer.run_folder import RunFolder

__all__ = [
    "POOLS",
    "LipSyncConfig",
    "LipSyncObjective",
    "LipSyncRecipe",
    "ScaledNetwork",
    "averaged_network",
    "check_network",
    "clip_measure",
    "lip_sync_trainer",
    "new_network",
    "sync_loss",
    "validate",
]

POOLS = (4, 16)
"""Numbers of frames over which similarities are averaged before they are compared; both have equal weight."""


@dataclass(frozen=True)
class LipSyncBatch:
    """Windows of the global batch; the mouths of some are compared with the speech of all.

    Attributes:
        windows: All B windows.
        rows: Indices [R] of the windows whose mouths are compared.
        chance: Seed of the network's dropout.
    """

    windows: SyncBatch
    rows: Tensor
    chance: int

    def to(self, device: torch.device) -> LipSyncBatch:
        """Copy of the batch on a device."""
        return LipSyncBatch(self.windows.to(device), self.rows.to(device), self.chance)


class ScaledNetwork(nn.Module):
    """Network with the two scales of its similarities, which are needed only in training."""

    def __init__(self, network: LipSyncNetwork) -> None:
        super().__init__()
        self.network = network
        self.log_scale = nn.Parameter(torch.full((len(POOLS),), 2.5))

    def forward(self, batch: SyncBatch, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed the mouths of some windows and the speech of all.

        Returns:
            Mouth embeddings [R, W, d], speech embeddings [B, W + 2 MAX_OFFSET, d] and scales [2].
        """
        mouth = self.network.mouth(batch.shape[rows], batch.pixels[rows], batch.use[rows])
        return mouth, self.network.speech(batch.speech), self.log_scale.exp()


def sync_loss(
    mouth: Tensor, speech: Tensor, inside: Tensor, scale: Tensor, frames: int, smoothing: float, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the correct offset among all offsets of the clip and the other clips of the batch.

    Args:
        mouth: Unit vectors [R, W, d] of the mouths.
        speech: Unit vectors [B, W + 2 MAX_OFFSET, d] of the speech; speech frame i + MAX_OFFSET belongs to mouth frame i.
        inside: Whether each speech frame exists [B, W + 2 MAX_OFFSET]; the others are not used as negatives.
        scale: Inverse temperature.
        frames: Number of neighbouring frames over which similarities are averaged.
        smoothing: Share of the target for the offsets next to the correct one.
        rows: Indices [R] of the clips that the mouths belong to.

    Returns:
        Loss of each mouth [R], and share of its stretches in which the correct offset scores highest within the clip [R].
    """
    window, offsets = mouth.shape[1], 2 * MAX_OFFSET + 1
    shifted = speech[rows].unfold(1, window, 1).movedim(-1, 2)  # [R, 31, W, d]
    similarity = torch.einsum("bwd,bowd->bow", mouth, shifted)
    exists = inside[rows].float().unfold(1, window, 1)
    centre = speech[:, MAX_OFFSET : MAX_OFFSET + window]
    others = torch.einsum("bwd,cwd->bcw", mouth, centre)

    def pooled(x: Tensor) -> Tensor:
        return F.avg_pool1d(x, frames, 1)

    own = (scale * pooled(similarity)).masked_fill(pooled(exists) < 0.999, -1e4)
    itself = rows[:, None] == torch.arange(len(speech), device=mouth.device)
    foreign = (scale * pooled(others)).masked_fill(itself[..., None], -1e4)
    log_share = torch.cat([own, foreign], 1).log_softmax(1)
    target = torch.zeros_like(own)
    target[:, MAX_OFFSET] = 1 - smoothing
    beside = own[:, [MAX_OFFSET - 1, MAX_OFFSET + 1]] > -1e3
    target[:, [MAX_OFFSET - 1, MAX_OFFSET + 1]] = smoothing / 2 * beside.float()
    loss = -(target * log_share[:, :offsets].clamp_min(-50)).sum(1).mean(1)
    return loss, (own.argmax(1) == MAX_OFFSET).float().mean(1)


@dataclass(frozen=True)
class LipSyncObjective:
    """Objective of the lip-sync network; as other clips of a batch are negatives, every process draws the whole batch.

    Attributes:
        config: Configuration of the run.
    """

    config: LipSyncConfig
    parts: ClassVar[tuple[str, ...]] = ("accuracy",)
    counts_operations: ClassVar[bool] = False
    method: ClassVar[Mapping[str, Any]] = {}

    def begin(self, engine: Engine, average: Mapping[str, Tensor]) -> None:
        """Check that the run does not shard the network.

        Raises:
            SettingsError: Weights are sharded across processes.
        """
        if engine.sharded:
            raise SettingsError(
                "The lip-sync network cannot spread its weights over processes (fsdp), because a process whose windows have no pictures "
                "skips a part of the network; set fsdp to False, as the network is small."
            )

    def prepare(self, source: SyncWindows, step: int, rows: Sequence[int]) -> LipSyncBatch:
        """Draw the global batch of a step."""
        rng = np.random.default_rng((self.config.seed, step))
        windows = source.draw(self.config.batch, rng)
        return LipSyncBatch(windows, torch.tensor(rows), int(rng.integers(2**62)))

    def losses(self, model: nn.Module, batch: LipSyncBatch, step: int) -> Losses:
        """Compare mouths with speech at every offset."""
        with seeded(batch.chance, "dropout", batch.windows.shape.device):
            mouth, speech, scales = model(batch.windows, batch.rows)
        smoothing, window, inside = self.config.smoothing, self.config.window, batch.windows.inside
        found = [
            sync_loss(mouth, speech, inside, scale, min(pool, window), smoothing, batch.rows)
            for pool, scale in zip(POOLS, scales, strict=True)
        ]
        return Losses(torch.stack([loss for loss, _ in found]).mean(0), {"accuracy": found[-1][1]})

    def workload(self, batch: LipSyncBatch) -> Workload:
        """Empty workload, as there is no formula."""
        return Workload()


def check_network(recipe: LipSyncRecipe) -> None:
    """Run an untrained network on two made-up windows of the recipe, before any video is measured.

    Raises:
        SettingsError: The network cannot be trained on such windows.
    """
    check_means(recipe.train, shards=False, recomputes=False)
    config, (reach, around) = recipe.train, (2 * MOUTH_REACH, 2 * MAX_OFFSET)
    windows = SyncBatch(
        shape=torch.zeros(2, config.window + reach, SHAPE_DIM),
        pixels=torch.zeros(2, config.window + reach, PIXEL_HEIGHT, PIXEL_WIDTH),
        use=torch.tensor([[1.0, 0.0]] * 2),  # without pixels, which are most of the work
        speech=torch.zeros(2, TOKENS_PER_FRAME * (config.window + around + 2 * SPEECH_REACH), SPEECH_DIM),
        inside=torch.ones(2, config.window + around, dtype=torch.bool),
    )
    with torch.random.fork_rng(devices=[]):
        try:
            batch = LipSyncBatch(windows, torch.arange(2), 0)
            LipSyncObjective(config).losses(ScaledNetwork(LipSyncNetwork()), batch, 0).total.sum().backward()
        except RuntimeError as error:
            raise SettingsError(
                f"train.window must be a number of frames that the network can take, but it is {config.window} ({error})."
            ) from error


def lip_sync_trainer(
    network: LipSyncNetwork,
    windows: SyncWindows,
    config: LipSyncConfig,
    run: RunFolder,
    validation: Sequence[MouthClip] = (),
) -> Trainer:
    """Make the trainer of a network, resumed from the newest checkpoint of its run folder.

    Args:
        network: Network, which is trained in place.
        windows: Source of the batches.
        config: Configuration of the run.
        run: Folder of the run.
        validation: Clips that are measured for the log and never trained on.

    Raises:
        SettingsError: The run folder belongs to another run.
    """

    def measured(model: ScaledNetwork) -> dict[str, float]:
        return validate(LipSync(model.network.cpu()), validation)

    callbacks = [Validate(measured, needs_whole_model=True)] if validation else []
    return Trainer(ScaledNetwork(network), windows, LipSyncObjective(config), config, run, callbacks)


def averaged_network(trainer: Trainer) -> LipSync:
    """Copy the network of a trainer with the averaged weights to the CPU; every process must call this."""
    return LipSync(trainer.averaged().network.cpu())


def validate(sync: LipSync, clips: Sequence[MouthClip]) -> dict[str, float]:
    """Pairwise accuracy for windows of 10 and 25 frames."""
    measures = [clip_measure(sync, clip) for clip in clips]
    return {f"pairwise_{int(row['frames'])}": round(row["pairwise"], 4) for row in figures(measures, (10, 25))}


def clip_measure(sync: LipSync, clip: MouthClip, other: MouthClip | None = None) -> ClipMeasure:
    """Apply the network as a measure to one clip, with another clip's sound as the foreign one."""
    mouth = sync.embed_view(MouthView(clip.shape.numpy(), clip.crops.numpy()))
    foreign = None
    if other is not None:
        heard = sync.embed_speech(other.speech.numpy())
        foreign = distance_cost(mouth, np.resize(heard, (len(mouth), heard.shape[1])))
    return ClipMeasure(clip.name, len(clip), distance_cost(mouth, sync.embed_speech(clip.speech.numpy())), foreign)


def new_network(
    clips: Sequence[MouthClip], template: NDArray[np.float32], seed: int, part: str = "network"
) -> LipSyncNetwork:
    """Make an untrained network with template and speech statistics, in which all clips have equal weight.

    Args:
        clips: Clips of the statistics.
        template: Mesh of an average face [468, 3].
        seed: Seed of the run.
        part: Part of the run that the network belongs to; another part gets other initial weights.
    """
    with seeded(seed, part):
        network = LipSyncNetwork()
    network.template.copy_(torch.from_numpy(template))
    some = torch.cat([clip.speech[:: max(1, len(clip.speech) // 100)] for clip in clips])
    network.speech_mean.copy_(some.mean(0))
    network.speech_std.copy_(some.std(0) + 1e-3)
    return network
