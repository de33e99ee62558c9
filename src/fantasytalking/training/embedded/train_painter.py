"""Training the mouth painter on pairs of frames of one clip: move one frame to the other's mesh, paint the mouth, compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.autoencoder.painter import MouthPainter, crop_transform, draw_masks, painter_input, take_crop
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.data.face_tracks import TRACK_FPS
from fantasytalking.data.motion_dataset import PreparedTrack
from fantasytalking.errors import InputError
from fantasytalking.media.video import read_frames
from fantasytalking.perception.landmarks import mouth_opening
from fantasytalking.training.embedded.perceptual_distance import PerceptualDistance
from fantasytalking.training.trainer.config import StageSchedule
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.loop import learning_rate


@dataclass(frozen=True)
class MouthPairs:
    """Cached pairs, uint8: crops [N, 128, 128, 3], masks [N, 3, 128, 128], portrait's inner mouth [N, 128, 128]."""

    warped: NDArray[np.uint8]
    portrait: NDArray[np.uint8]
    target: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    inner: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.warped)

    def save(self, path: Path) -> None:
        """As an uncompressed npz; the file gets its name only when all is on disk."""
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as file:
            np.savez(
                file, warped=self.warped, portrait=self.portrait, target=self.target, masks=self.masks, inner=self.inner
            )
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> MouthPairs:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return cls(*(stored[k] for k in ("warped", "portrait", "target", "masks", "inner")))


Row = tuple[NDArray[np.uint8], ...]


Frames = Callable[[PreparedTrack, int], NDArray[np.uint8]]
"""Track and largest number of frames -> the first frames of its video at `TRACK_FPS`, [F, H, W, 3] RGB."""


def frames_in(folder: Path) -> Frames:
    """Frames of videos that lie in a folder under the tracks' names."""
    return lambda track, count: read_frames(folder / track.name, fps=TRACK_FPS, max_frames=count)[0]


def clip_pairs(
    read: Frames, track: PreparedTrack, codec: MeshCodec, count: int, rng: np.random.Generator
) -> Iterator[Row]:
    """Pairs from one clip; half of the targets are among the frames with the most open mouth, where there is most to paint.

    The target's mesh goes through the codec first, so that the painter meets at training what it meets in use.
    """
    frames = read(track, min(400, track.first + len(track.points)))[track.first :]
    points = track.points[: len(frames)]
    opening = mouth_opening(points.numpy())
    wide = np.argsort(opening)[-max(1, len(frames) // 4) :]
    references = rng.integers(0, len(frames), max(1, count // 4))
    for reference in references:
        mesh = points[reference]
        warper = PortraitWarper(frames[reference], mesh.numpy())
        own = crop_transform(mesh.numpy())
        portrait, inner = take_crop(frames[reference], own), draw_masks(mesh.numpy(), own)[0]
        for i in range(4):
            target = int(rng.choice(wide) if i % 2 else rng.integers(len(frames)))
            moved = codec.points_of(codec.parameters_of(points[target : target + 1], mesh), mesh)[0].numpy()
            transform = crop_transform(moved)
            warped = take_crop(warper(moved), transform)
            yield warped, portrait, take_crop(frames[target], transform), draw_masks(moved, transform), inner


def collect_pairs(
    read: Frames, tracks: Sequence[PreparedTrack], codec: MeshCodec, per_identity: int, seed: int = 0
) -> MouthPairs:
    """The same number of pairs from every identity, from at most 12 of its clips.

    Args:
        read: the tracks' videos.
        tracks: of the training split.
        codec: fitted.
        per_identity: pairs.
        seed: of what is drawn.

    Raises:
        InputError: there is no track.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, list[PreparedTrack]] = {}
    for track in tracks:
        groups.setdefault(track.identity, []).append(track)
    rows: list[Row] = []
    for group in groups.values():
        chosen = [group[i] for i in rng.permutation(len(group))[:12]]
        for track in chosen:
            rows.extend(clip_pairs(read, track, codec, max(4, per_identity // len(chosen)), rng))
    if not rows:
        raise InputError("There is no face track to take mouths from; prepare videos with a face first.")
    return MouthPairs(*(np.stack(column) for column in zip(*rows, strict=True)))


def painter_batch(
    pairs: MouthPairs, index: NDArray[np.int64], rng: np.random.Generator | None
) -> tuple[Tensor, Tensor]:
    """Inputs [N, 10, 128, 128] and targets [N, 3, 128, 128]; with `rng`, mirrored and colour-jittered alike."""
    inputs = painter_input(pairs.warped[index], pairs.portrait[index], pairs.masks[index], pairs.inner[index])
    target = torch.from_numpy(pairs.target[index]).permute(0, 3, 1, 2).float() / 127.5 - 1
    if rng is None:
        return inputs, target
    if rng.random() < 0.5:
        inputs, target = inputs.flip(-1), target.flip(-1)
    gain = torch.from_numpy(rng.uniform(0.75, 1.25, (len(index), 3, 1, 1)).astype(np.float32))
    bias = torch.from_numpy(rng.uniform(-0.15, 0.15, (len(index), 3, 1, 1)).astype(np.float32))
    pictures = (inputs[:, :6] * gain.repeat(1, 2, 1, 1) + bias.repeat(1, 2, 1, 1)).clamp(-1, 1)
    return torch.cat([pictures, inputs[:, 6:]], 1), (target * gain + bias).clamp(-1, 1)


def painter_loss(
    painter: torch.nn.Module, inputs: Tensor, target: Tensor, perceptual: PerceptualDistance | None
) -> tuple[Tensor, Tensor]:
    """Mouth-weighted L1, L1 of image gradients and perceptual distance of the blended crop.

    Args:
        painter: from inputs to new pixels and mask.
        inputs: [N, 10, 128, 128].
        target: [N, 3, 128, 128] in [-1, 1].
        perceptual: None leaves that term out.

    Returns:
        Loss [N] and the blend [N, 3, 128, 128].
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
    if perceptual is None:
        return pixel + edges, blended
    # outside the region both sides are made equal, so that the distance is about the mouth
    distance = perceptual(blended, target * region + blended.detach() * (1 - region))
    return pixel + edges + 1.0 * distance, blended


def train_painter(
    painter: MouthPainter, pairs: MouthPairs, steps: int, batch: int = 16, seed: int = 0, checkpoint: Path | None = None
) -> None:
    """AdamW, 5e-4 to zero; resumes from `checkpoint` when it exists and writes it every few minutes."""
    schedule = StageSchedule("painter", steps, 5e-4, warmup=100, final_fraction=0.02)
    engine = Engine.create(painter, schedule.learning_rate, 1e-3, clip_norm=1.0)
    perceptual = PerceptualDistance().to(engine.device)
    step = 0
    if checkpoint is not None and checkpoint.exists():
        stored = torch.load(checkpoint, weights_only=True)
        engine.bare_model.load_state_dict(stored["model"])
        engine.optimizer.load_state_dict(stored["optimizer"])
        step = stored["step"]
    started, saved, total, first = time.monotonic(), time.monotonic(), 0.0, step
    while step < steps:
        rng = np.random.default_rng((seed, step))
        inputs, target = painter_batch(pairs, rng.integers(0, len(pairs), batch), rng)
        engine.set_learning_rate(learning_rate(schedule, step))
        loss = painter_loss(engine.model, inputs.to(engine.device), target.to(engine.device), perceptual)[0].mean()
        engine.step(loss)
        total += float(loss.detach())
        step += 1
        if step % 50 == 0 and engine.is_main:
            rate = (step - first) / (time.monotonic() - started)
            print(
                {"step": step, "loss": round(total / 50, 4), "minutes_left": round((steps - step) / rate / 60, 1)},
                flush=True,
            )
            total = 0.0
        if checkpoint is not None and engine.is_main and (time.monotonic() - saved > 180 or step == steps):
            state = {"model": engine.bare_model.state_dict(), "optimizer": engine.optimizer.state_dict(), "step": step}
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            saved = time.monotonic()
