"""Training the lip-sync network of `fantasytalking.perception.lip_sync`: loss and loop.

Contrastive: a few frames of the mouth must be nearer to the speech of the same moment than to the speech of the same clip 1 to 15 frames
earlier or later, and than to other clips' speech.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.perception.lip_sync import MAX_OFFSET, LipSync, LipSyncNetwork
from fantasytalking.perception.mouth_view import MouthView
from fantasytalking.training.lip_sync.lip_sync_data import MouthClip, SyncBatch, SyncWindows, Variation
from fantasytalking.training.lip_sync.lip_sync_figures import ClipMeasure, distance_cost, figures
from fantasytalking.training.trainer.averaging import start_average, update_average
from fantasytalking.training.trainer.checkpoints import Checkpointer
from fantasytalking.training.trainer.config import StageSchedule
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.loop import learning_rate
from fantasytalking.training.trainer.run_folder import RunFolder

POOLS = (4, 16)
"""Frames over which similarities are averaged before they are compared; both count alike."""


@dataclass(frozen=True)
class LipSyncConfig:
    """A run.

    Attributes:
        steps, learning_rate, weight_decay: of AdamW; warmed up, then cosine to 2 %.
        batch: windows a step.
        window: frames W of the mouth in each.
        smoothing: share of the target that goes to the offsets -1 and +1, as clips are in step within a frame only.
        generated_weight: how often identities of generated footage are drawn against real ones.
        align_steps: steps of each network that puts training clips in step (see `fantasytalking.training.lip_sync.align_clips`).
        ema: decay of the averaged weights per step.
        variation: of the windows.
        seed: of everything.
        checkpoint_minutes, log_every, validate_every: the last two in steps.
    """

    steps: int = 600
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    batch: int = 32
    window: int = 16
    smoothing: float = 0.1
    generated_weight: float = 0.3
    align_steps: int = 300
    ema: float = 0.998
    variation: Variation = field(default_factory=Variation)
    seed: int = 0
    checkpoint_minutes: float = 3.0
    log_every: int = 50
    validate_every: int = 200


class ScaledNetwork(nn.Module):
    """The network and the two scales of its similarities, which only training needs."""

    def __init__(self, network: LipSyncNetwork) -> None:
        super().__init__()
        self.network = network
        self.log_scale = nn.Parameter(torch.full((len(POOLS),), 2.5))

    def forward(self, batch: SyncBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Mouth [B, W, d], speech [B, W + 2 MAX_OFFSET, d] and scales [2]."""
        mouth = self.network.mouth(batch.shape, batch.pixels, batch.use)
        return mouth, self.network.speech(batch.speech), self.log_scale.exp()


def sync_loss(
    mouth: Tensor, speech: Tensor, inside: Tensor, scale: Tensor, frames: int, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the right offset among all offsets of the clip and the other clips of the batch.

    Args:
        mouth: [B, W, d] unit vectors.
        speech: [B, W + 2 MAX_OFFSET, d] unit vectors; speech frame i + MAX_OFFSET belongs to mouth frame i.
        inside: [B, W + 2 MAX_OFFSET], speech frames that exist; the others are no negatives.
        scale: inverse temperature.
        frames: over how many neighbouring frames similarities are averaged.
        smoothing: share of the target for the offsets beside the right one.

    Returns:
        Loss [] and share of stretches in which the right offset is above all others of the clip [].
    """
    window, size = mouth.shape[1], len(mouth)
    offsets = 2 * MAX_OFFSET + 1
    shifted = speech.unfold(1, window, 1).movedim(-1, 2)  # [B, 31, W, d]
    similarity = torch.einsum("bwd,bowd->bow", mouth, shifted)
    exists = inside.float().unfold(1, window, 1)
    centre = speech[:, MAX_OFFSET : MAX_OFFSET + window]
    others = torch.einsum("bwd,cwd->bcw", mouth, centre)

    def pooled(x: Tensor) -> Tensor:
        return F.avg_pool1d(x, frames, 1)

    own = (scale * pooled(similarity)).masked_fill(pooled(exists) < 0.999, -1e4)
    foreign = (scale * pooled(others)).masked_fill(
        torch.eye(size, dtype=torch.bool, device=mouth.device)[..., None], -1e4
    )
    log_share = torch.cat([own, foreign], 1).log_softmax(1)
    target = torch.zeros_like(own)
    target[:, MAX_OFFSET] = 1 - smoothing
    beside = own[:, [MAX_OFFSET - 1, MAX_OFFSET + 1]] > -1e3
    target[:, [MAX_OFFSET - 1, MAX_OFFSET + 1]] = smoothing / 2 * beside.float()
    loss = -(target * log_share[:, :offsets].clamp_min(-50)).sum(1).mean()
    return loss, (own.argmax(1) == MAX_OFFSET).float().mean()


class LipSyncTrainer:
    """Trains on windows; goes on from the newest checkpoint of its run folder.

    Args:
        config: the run.
        windows: where batches come from.
        network: trained in place.
        run: folder of checkpoints and log.
        validation: measured every `validate_every` steps for the log; never trained on.
    """

    def __init__(
        self,
        config: LipSyncConfig,
        windows: SyncWindows,
        network: LipSyncNetwork,
        run: RunFolder,
        validation: Sequence[MouthClip] = (),
    ) -> None:
        self.config, self.windows, self.run, self.validation = config, windows, run, validation
        self.engine = Engine.create(ScaledNetwork(network), config.learning_rate, config.weight_decay, clip_norm=1.0)
        self.ema = start_average(self.engine.trainable())
        self.checkpoints = Checkpointer(run, self.engine, self.ema)
        self.step = 0
        run.path.mkdir(parents=True, exist_ok=True)
        run.config.write_text(json.dumps(asdict(config), indent=1) + "\n")
        latest = run.latest()
        if latest is not None:
            self.step, _ = self.checkpoints.load(latest)

    def losses(self, step: int) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of one step; its batch is a pure function of seed and step."""
        rng = np.random.default_rng((self.config.seed, step))
        batch = self.windows.draw(self.config.batch, rng)
        torch.manual_seed(int(rng.integers(2**62)))  # dropout; a resumed run must not differ
        device = self.engine.device
        mouth, speech, scales = self.engine.model(batch.to(device))
        rows = [
            sync_loss(
                mouth, speech, batch.inside.to(device), scale, min(pool, self.config.window), self.config.smoothing
            )
            for pool, scale in zip(POOLS, scales, strict=True)
        ]
        return torch.stack([loss for loss, _ in rows]).mean(), rows[-1][1]

    def train(self, until: int | None = None) -> int:
        """Run to the end or to a step; returns the step reached.

        Raises:
            ResourceError: the loss is no longer finite.
        """
        config = self.config
        end = config.steps if until is None else min(until, config.steps)
        schedule = StageSchedule("lip-sync", config.steps, config.learning_rate, min(100, config.steps // 4 + 1), 0.02)
        saved = began = time.monotonic()
        first, sums = self.step, torch.zeros(2)
        self.engine.model.train()
        while self.step < end:
            self.engine.set_learning_rate(learning_rate(schedule, self.step))
            loss, accuracy = self.losses(self.step)
            self.engine.step(loss)
            update_average(self.ema, self.engine.trainable(), self.step, self.config.ema)
            self.step += 1
            sums += torch.stack([loss.detach().cpu(), accuracy.detach().cpu()])
            if self.step % config.log_every == 0:
                rate = (self.step - first) / (time.monotonic() - began)
                mean_loss, mean_accuracy = (round(float(v) / config.log_every, 4) for v in sums)
                left = round((end - self.step) / rate / 60, 1)
                self._log({"step": self.step, "loss": mean_loss, "accuracy": mean_accuracy, "minutes_left": left})
                sums = torch.zeros(2)
            if self.validation and self.step % config.validate_every == 0:
                self._log({"step": self.step, "validation": validate(self.averaged(), self.validation)})
            if (time.monotonic() - saved) / 60 > config.checkpoint_minutes:
                self.save()
                saved = time.monotonic()
        if self.step > first:
            self.save()
        self.checkpoints.wait()
        return self.step

    def save(self) -> Path:
        """Write a checkpoint of the present step in the background."""
        return self.checkpoints.save(self.step, {})

    def averaged(self) -> LipSync:
        """The network with the averaged weights."""
        network = LipSyncNetwork()
        prefix = "network."
        values = self.engine.bare_model.state_dict() | self.ema
        network.load_state_dict({k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)})
        return LipSync(network)

    def _log(self, record: dict[str, object]) -> None:
        self.run.log(record)
        print(record, flush=True)


def validate(sync: LipSync, clips: Sequence[MouthClip]) -> dict[str, float]:
    """Pairwise accuracy of windows of 10 and of 25 frames."""
    measures = [clip_measure(sync, clip) for clip in clips]
    return {f"pairwise_{int(row['frames'])}": round(row["pairwise"], 4) for row in figures(measures, (10, 25))}


def clip_measure(sync: LipSync, clip: MouthClip, other: MouthClip | None = None) -> ClipMeasure:
    """The network as a measure on one clip, with another clip's sound as the foreign one."""
    mouth = sync.embed_view(MouthView(clip.shape.numpy(), clip.crops.numpy()))
    foreign = None
    if other is not None:
        heard = sync.embed_speech(other.speech.numpy())
        foreign = distance_cost(mouth, np.resize(heard, (len(mouth), heard.shape[1])))
    return ClipMeasure(clip.name, len(clip), distance_cost(mouth, sync.embed_speech(clip.speech.numpy())), foreign)


def new_network(clips: Sequence[MouthClip], template: NDArray[np.float32], seed: int) -> LipSyncNetwork:
    """An untrained network with template and speech statistics filled in; every clip counts alike in them."""
    torch.manual_seed(seed)
    network = LipSyncNetwork()
    network.template.copy_(torch.from_numpy(template))
    some = torch.cat([clip.speech[:: max(1, len(clip.speech) // 100)] for clip in clips])
    network.speech_mean.copy_(some.mean(0))
    network.speech_std.copy_(some.std(0) + 1e-3)
    return network
