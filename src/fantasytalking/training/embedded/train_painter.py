"""Training of the mouth painter on pairs of frames of a clip: warp one frame to the other's mesh, paint the mouth, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.autoencoder.mouth_crops import mouth_windows
from fantasytalking.autoencoder.painter import MouthPainter, painter_input, stack_input
from fantasytalking.system.records import field, record
from fantasytalking.training.embedded.embedded_recipes import PAINTER_RATE
from fantasytalking.training.embedded.mouth_pairs import MouthPairs
from fantasytalking.training.embedded.perceptual_distance import PerceptualDistance
from fantasytalking.training.trainer.config import LoopConfig, Schedule
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.objective import Losses, Workload
from fantasytalking.training.trainer.run_folder import RunFolder

__all__ = [
    "MouthPainting",
    "PainterBatch",
    "PainterConfig",
    "PairDraw",
    "PairSource",
    "painter_batch",
    "painter_config",
    "painter_loss",
    "train_painter",
]


DETAIL_WINDOW = 8  # side of the squares, in pixels, in which fine detail is compared
CANDIDATES = (
    4  # pairs that are drawn for each that is used: those most alike in height, as windows are as large as the largest
)


@record
class PainterConfig(LoopConfig):
    """Configuration of a run that trains the mouth painter."""

    batch: Annotated[int, field("Pairs per step.", minimum=1)] = 16

    def rate_option(self, stage: int) -> str:
        """Name of the option that sets the learning rate."""
        return "--painter-learning-rate"


def painter_config(
    steps: int,
    batch: int = 16,
    learning_rate: float = PAINTER_RATE,
    seed: int = 0,
    checkpoint_minutes: float = 3.0,
) -> PainterConfig:
    """Make the configuration of a painter's run: AdamW, learning rate from its peak to nearly 0, no averaged weights."""
    schedule = Schedule("painter", steps, learning_rate, warmup=100, final_fraction=0.02)
    return PainterConfig(
        (schedule,), weight_decay=1e-3, ema=0.0, seed=seed, checkpoint_minutes=checkpoint_minutes, batch=batch
    )


class PairDraw(NamedTuple):
    """One pair of a batch with its augmentation.

    Attributes:
        pair: Index of the pair.
        mirrored: Whether it is mirrored.
        gain: Factor of each colour [3, 1, 1].
        bias: Offset of each colour [3, 1, 1].
    """

    pair: int
    mirrored: bool
    gain: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class PairSource:
    """Source of batches of pairs, mirrored half of the time and jittered in colour.

    Pairs are drawn with replacement, and those of a batch have mouths of similar height, as the frames that are painted at once in use.

    Attributes:
        pairs: Pairs to draw from.
        batch: Pairs per step.
        seed: Seed of order and augmentation.
        fingerprint: Checksum of the data; None if unknown.
    """

    pairs: MouthPairs
    batch: int
    seed: int = 0
    fingerprint: str | None = None

    def plan(self, step: int) -> Sequence[PairDraw]:
        """Draws for the global batch of a step, which is mirrored as a whole or not at all."""
        rng, count = np.random.default_rng((self.seed, step)), self.batch
        heights = np.ptp(self.pairs.lips[..., 1], axis=(1, 2))
        drawn = rng.integers(0, len(self.pairs), CANDIDATES * count)
        drawn = drawn[np.argsort(np.abs(heights[drawn] - heights[drawn[0]]), kind="stable")]
        index = drawn[:count]
        mirrored = bool(rng.random() < 0.5)
        gain = rng.uniform(0.75, 1.25, (count, 3, 1, 1)).astype(np.float32)
        bias = rng.uniform(-0.15, 0.15, (count, 3, 1, 1)).astype(np.float32)
        return [PairDraw(int(i), mirrored, g, b) for i, g, b in zip(index, gain, bias, strict=True)]


class PainterBatch(NamedTuple):
    """Batch for training the painter.

    Attributes:
        inputs: Inputs [N, 10, h, w], see `painter_input`.
        target: Windows of the true frames [N, 3, h, w] in [-1, 1].
    """

    inputs: Tensor
    target: Tensor

    def to(self, device: torch.device) -> PainterBatch:
        """Copy of the batch on a device."""
        return PainterBatch(self.inputs.to(device), self.target.to(device))


def painter_batch(pairs: MouthPairs, draws: Sequence[PairDraw]) -> PainterBatch:
    """Assemble drawn pairs, with the same mirroring and colour jitter of input and target."""
    index = np.array([draw.pair for draw in draws])
    windows = mouth_windows(pairs.lips[index], pairs.own_lips[index], int(pairs.side), pairs.scales[index])
    warped, portrait, true = (windows.cut(pairs.crops(name, index)) for name in ("warped", "portrait", "target"))
    inputs = painter_input(stack_input(warped, portrait, *pairs.masks(index, windows)))
    target = torch.from_numpy(true).permute(0, 3, 1, 2).float() / 127.5 - 1
    mirrored = torch.tensor([draw.mirrored for draw in draws]).view(-1, 1, 1, 1)
    inputs, target = (torch.where(mirrored, x.flip(-1), x) for x in (inputs, target))
    gain, bias = (torch.from_numpy(np.stack([getattr(draw, name) for draw in draws])) for name in ("gain", "bias"))
    pictures = (inputs[:, :6] * gain.repeat(1, 2, 1, 1) + bias.repeat(1, 2, 1, 1)).clamp(-1, 1)
    return PainterBatch(torch.cat([pictures, inputs[:, 6:]], 1), (target * gain + bias).clamp(-1, 1))


def painter_loss(
    painter: torch.nn.Module, inputs: Tensor, target: Tensor, perceptual: PerceptualDistance | None
) -> tuple[Tensor, Tensor]:
    """Sum of mouth-weighted L1, L1 of image gradients, of sharpness, and perceptual distance of the blended window.

    Sharpness is the amount of fine detail around each place, wherever exactly it lies: teeth that are a pixel off must not be blurred.

    Args:
        painter: Network from inputs to new pixels and a blend mask.
        inputs: Inputs [N, 10, h, w].
        target: Windows of the true frames [N, 3, h, w] in [-1, 1].
        perceptual: Perceptual distance; None omits the term.

    Returns:
        Loss [N] and blended windows [N, 3, h, w].
    """
    paint, mask = painter(inputs)
    blended = inputs[:, :3] + mask * (paint - inputs[:, :3])
    region = inputs[:, 9:10]
    weight = region * (1 + 2 * inputs[:, 6:7])
    pixel = ((blended - target).abs() * weight).sum((1, 2, 3)) / (3 * weight.sum((1, 2, 3))).clamp_min(1)
    edges = torch.zeros_like(pixel)
    for axis in (2, 3):
        difference = (blended.diff(dim=axis) - target.diff(dim=axis)).abs()
        edges = edges + (difference * region.narrow(axis, 1, region.shape[axis] - 1)).sum((1, 2, 3))
    edges = edges / (3 * region.sum((1, 2, 3))).clamp_min(1)
    lack = (_fine_detail(blended) - _fine_detail(target)).abs()
    around = F.avg_pool2d(region, DETAIL_WINDOW)
    sharpness = (lack * around).sum((1, 2, 3)) / around.sum((1, 2, 3)).clamp_min(1)
    loss = pixel + edges + 2 * sharpness
    if perceptual is None:
        return loss, blended
    # Both sides are made equal outside the region, so that the distance measures only the mouth.
    # Footage is hardly finer than half of the window's pixels.
    whole = target * region + blended.detach() * (1 - region)
    return loss + perceptual(F.avg_pool2d(blended, 2), F.avg_pool2d(whole, 2)), blended


def _fine_detail(picture: Tensor) -> Tensor:
    """Amount of detail finer than about two pixels around each place of pictures [N, 3, h, w]: [N, 1, h / 8, w / 8]."""
    grey = picture.mean(1, keepdim=True)
    fine = grey - F.avg_pool2d(grey, 3, 1, 1, count_include_pad=False)
    return F.avg_pool2d((fine.square() + 1e-6).sqrt(), DETAIL_WINDOW)


class MouthPainting:
    """Objective of the mouth painter."""

    parts: ClassVar[tuple[str, ...]] = ()
    counts_operations: ClassVar[bool] = False
    method: ClassVar[Mapping[str, Any]] = {}

    def begin(self, engine: Engine, average: Mapping[str, Tensor]) -> None:
        """Load the perceptual distance on the device."""
        self._perceptual = PerceptualDistance().to(engine.device)

    def prepare(self, source: PairSource, step: int, rows: Sequence[int]) -> PainterBatch:
        """Draw and augment some rows of the global batch of a step."""
        draws = source.plan(step)
        return painter_batch(source.pairs, [draws[i] for i in rows])

    def losses(self, model: nn.Module, batch: PainterBatch, step: int) -> Losses:
        """Paint the mouths and compare them with the true frames."""
        return Losses(painter_loss(model, batch.inputs, batch.target, self._perceptual)[0])

    def workload(self, batch: PainterBatch) -> Workload:
        """Empty workload, as there is no formula."""
        return Workload()


def train_painter(
    painter: MouthPainter, pairs: MouthPairs, config: PainterConfig, run: RunFolder, fingerprint: str | None = None
) -> MouthPainter:
    """Train a painter in place; an interrupted run continues where it stopped.

    Args:
        painter: Untrained painter.
        pairs: Pairs to train on.
        config: Configuration of the run.
        run: Folder of the run.
        fingerprint: Checksum of the data; a run is not resumed on other data.

    Returns:
        The painter.

    Raises:
        SettingsError: The run folder belongs to another run.
        ResourceError: Training diverged.
    """
    source = PairSource(pairs, config.batch, config.seed, fingerprint)
    Trainer(painter, source, MouthPainting(), config, run).train()
    return painter.eval()
