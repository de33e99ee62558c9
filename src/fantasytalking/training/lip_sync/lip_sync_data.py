"""Training data of the lip-sync network: mouths and speech of clips, cached, drawn by identity and augmented.

A window has W frames of the mouth, and the speech of these frames and of `MAX_OFFSET` more on either side, so that every offset can be
compared. Mouth and speech are always stretched and cut together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fantasytalking.conditioning.interpolation import rows_at
from fantasytalking.data.face_tracks import TRACK_FPS, FaceTrack
from fantasytalking.data.identity_sampler import IdentitySampler
from fantasytalking.errors import InputError
from fantasytalking.media.video import iterate_frames
from fantasytalking.perception.lip_sync import (
    MAX_OFFSET,
    MOUTH_REACH,
    PIXEL_HEIGHT,
    PIXEL_WIDTH,
    SPEECH_REACH,
    TOKENS_PER_FRAME,
)
from fantasytalking.perception.mesh_points import INNER_LIP_PAIRS, LIPS_INNER, LIPS_OUTER
from fantasytalking.perception.mouth_view import CROP_HEIGHT, CROP_WIDTH, SHAPE_POINTS, MouthView, see_mouth
from fantasytalking.pipeline.progress import show_note
from fantasytalking.system.checked_arrays import read_arrays, save_arrays
from fantasytalking.training.lip_sync.lip_sync_recipes import Variation

_JAW_PAIRS = (
    *((148, 377), (176, 400), (149, 378), (150, 379), (136, 365), (172, 397)),
    *((205, 425), (212, 432)),
)


@dataclass(frozen=True)
class MouthClip:
    """Mouth and speech of one clip, in sync.

    Attributes:
        name: File name in the catalogue.
        identity: Name of the person in the catalogue.
        kind: "real" or "generated".
        shape: Mouth shapes [F, SHAPE_DIM].
        crops: Mouth crops uint8 [F, CROP_HEIGHT, CROP_WIDTH].
        speech: Speech features [2 F, SPEECH_DIM].
    """

    name: str
    identity: str
    kind: str
    shape: Tensor
    crops: Tensor
    speech: Tensor

    def __len__(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class SyncBatch:
    """Windows of B clips.

    Attributes:
        shape: Mouth shapes [B, W + 2 MOUTH_REACH, SHAPE_DIM].
        pixels: Mouth pixels [B, W + 2 MOUTH_REACH, PIXEL_HEIGHT, PIXEL_WIDTH].
        use: Weights of shape and pixels [B, 2].
        speech: Speech features [B, 2 (W + 2 MAX_OFFSET + 2 SPEECH_REACH), SPEECH_DIM].
        inside: Whether each speech frame lies inside the clip, bool [B, W + 2 MAX_OFFSET].
    """

    shape: Tensor
    pixels: Tensor
    use: Tensor
    speech: Tensor
    inside: Tensor

    def to(self, device: torch.device) -> SyncBatch:
        """Copy of the batch on a device."""
        return SyncBatch(*(getattr(self, part.name).to(device) for part in fields(self)))


def cached_view(video: Path, track: FaceTrack, template: NDArray[np.float32], target: Path) -> MouthView:
    """Read shape and crops of a clip from `target`, after measuring and writing them if there is no such file or it is damaged.

    Raises:
        OutputError: The file cannot be written.
        VideoError: The video cannot be read.
    """
    try:
        if target.exists():
            stored, _ = read_arrays(target)
            return MouthView(stored["shape"], stored["crops"])
    except (InputError, KeyError) as error:
        show_note(f"The mouth {target} cannot be used ({str(error).rstrip('.')}); it is measured again.")
    frames = iterate_frames(video, TRACK_FPS, len(track.points), track.first / TRACK_FPS)
    view = see_mouth(frames, track.points, track.scores, template)
    save_arrays(target, {"shape": view.shape, "crops": view.crops})
    return view


def make_clip(track: FaceTrack, view: MouthView, offset: int = 0) -> MouthClip:
    """Synchronise the mouth and the speech of a clip.

    Args:
        track: Track with the speech and the catalogue row.
        view: Mouth of the same clip.
        offset: Frames by which the face lags behind the speech.
    """
    shape, crops = torch.from_numpy(view.shape), torch.from_numpy(view.crops)
    speech = torch.from_numpy(track.speech.astype(np.float32))
    if offset > 0:
        shape, crops = shape[offset:], crops[offset:]
    else:
        speech = speech[-offset * TOKENS_PER_FRAME :]
    frames = min(len(shape), len(speech) // TOKENS_PER_FRAME)
    info = track.info
    return MouthClip(
        info.file, info.identity, info.kind, shape[:frames], crops[:frames], speech[: frames * TOKENS_PER_FRAME]
    )


def moved(clip: MouthClip, offset: int) -> MouthClip:
    """Shift the face of a clip `offset` frames earlier relative to the speech, which corrects a lag of that size."""
    keep = len(clip) - abs(offset)
    first = max(0, offset)
    token = TOKENS_PER_FRAME * max(0, -offset)
    return replace(
        clip,
        shape=clip.shape[first : first + keep],
        crops=clip.crops[first : first + keep],
        speech=clip.speech[token : token + TOKENS_PER_FRAME * keep],
    )


def least_frames(window: int) -> int:
    """Frames that a clip needs for windows of `window` frames: a fifth more, rounded up."""
    return -(-6 * window // 5)


def most_window(frames: int) -> int:
    """Frames of the longest window that a clip of `frames` frames is long enough for; at least 1."""
    return max(1, 5 * frames // 6)


class SyncWindows:
    """Source of batches of windows; an identity is weighted by the square root of the length of its footage.

    Args:
        clips: Clips of the training split; those shorter than a window are left out.
        window: Frames W of the mouth in a window.
        generated_weight: How often identities of generated footage are drawn, relative to real ones.
        variation: Augmentation of the windows.
        batch: Windows per step.
        fingerprint: Checksum of the data; None if unknown.
    """

    def __init__(
        self,
        clips: Sequence[MouthClip],
        window: int,
        generated_weight: float,
        variation: Variation,
        batch: int = 32,
        fingerprint: str | None = None,
    ) -> None:
        self.window, self.variation, self.batch, self.fingerprint = window, variation, batch, fingerprint
        usable = [c for c in clips if len(c) >= least_frames(window) and (c.kind == "real" or generated_weight > 0)]
        self.people = IdentitySampler(usable, generated_weight)
        self.mirror = mirror_index()

    def plan(self, step: int) -> Sequence[int]:
        """Indices of the windows of a step's global batch; `draw` draws all of them together."""
        return range(self.batch)

    def draw(self, size: int, rng: np.random.Generator) -> SyncBatch:
        """Draw a batch of `size` windows."""
        rows = [self._window(self.people.draw(rng), rng) for _ in range(size)]
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        return SyncBatch(*columns)

    def _window(self, clip: MouthClip, rng: np.random.Generator) -> tuple[Tensor, ...]:
        v = self.variation
        rate = float(np.exp(rng.uniform(-v.tempo, v.tempo))) if rng.random() < v.stretch else 1.0
        start = int(rng.integers(0, max(1, int(len(clip) - self.window * rate))))
        mouth = start + rate * np.arange(-MOUTH_REACH, self.window + MOUTH_REACH, dtype=np.float64)
        reach = MAX_OFFSET + SPEECH_REACH
        heard = start + rate * np.arange(-reach, self.window + reach, dtype=np.float64)
        tokens = (TOKENS_PER_FRAME * heard[:, None] + rate * np.arange(TOKENS_PER_FRAME)).ravel()
        inside = (heard > -0.5) & (heard < len(clip) - 0.5)
        shape = rows_at(clip.shape, torch.from_numpy(mouth))
        speech = rows_at(clip.speech, torch.from_numpy(tokens))
        speech = speech + v.speech_noise * speech.std(0) * torch.from_numpy(
            rng.standard_normal(speech.shape, np.float32)
        )
        if v.shape_only >= 1:
            pixels = torch.zeros(len(mouth), PIXEL_HEIGHT, PIXEL_WIDTH)  # unused, as only the shape is seen
        else:
            pixels = _pixels(clip.crops, np.clip(np.round(mouth), 0, len(clip) - 1).astype(int), v, rng)
        if rng.random() < v.mirror:
            shape, pixels = shape[:, self.mirror] * mirror_signs(), pixels.flip(-1)
        noise = torch.from_numpy(rng.standard_normal(shape.shape, np.float32))
        shape = shape * float(rng.uniform(0.8, 1.2)) + v.shape_noise * noise
        chance = rng.random()
        use = torch.tensor([float(chance < 1 - v.pixels_only), float(chance >= v.shape_only)])
        return shape, pixels, use, speech, torch.from_numpy(inside[SPEECH_REACH : len(inside) - SPEECH_REACH])


def _pixels(crops: Tensor, index: NDArray[np.int64], v: Variation, rng: np.random.Generator) -> Tensor:
    """Augmented pixels [n, PIXEL_HEIGHT, PIXEL_WIDTH] of some frames of a clip, normalised over the clip."""
    some = crops[:: max(1, len(crops) // 32)].float()
    x = (crops[index].float() - some.mean()) / (some.std() + 4.0)
    zoom = np.exp(rng.uniform(-v.move, v.move))
    turn = rng.uniform(-v.move, v.move)
    shift = rng.uniform(-v.move, v.move, (1, 2)) + v.tremble * rng.standard_normal((len(index), 2))
    # In units of half the crop, whose margin leaves room for the shift.
    height, width = PIXEL_HEIGHT / CROP_HEIGHT * zoom, PIXEL_WIDTH / CROP_WIDTH * zoom
    aspect = PIXEL_WIDTH / PIXEL_HEIGHT
    cosine, sine = np.cos(turn), np.sin(turn)
    theta = np.zeros((len(index), 2, 3), np.float32)
    theta[:, 0] = width * cosine, -width * sine / aspect, 0
    theta[:, 1] = height * sine * aspect, height * cosine, 0
    theta[:, :, 2] = shift
    grid = F.affine_grid(torch.from_numpy(theta), [len(index), 1, PIXEL_HEIGHT, PIXEL_WIDTH], align_corners=False)
    x = F.grid_sample(x[:, None], grid, padding_mode="border", align_corners=False)
    if rng.random() < v.degrade:
        small = rng.uniform(0.35, 0.8)
        x = F.interpolate(F.interpolate(x, scale_factor=small, mode="area"), x.shape[-2:], mode="bilinear")
    x = x * float(rng.uniform(1 - v.light, 1 + v.light)) + float(rng.uniform(-v.light, v.light)) / 2
    if rng.random() < v.degrade:
        x = x + float(rng.uniform(0, 0.2)) * torch.from_numpy(rng.standard_normal(x.shape, np.float32))
    return x[:, 0]


def mirror_index() -> Tensor:
    """Index of the mirror image of each shape value.

    It is not found from a mirrored template, as the points of closed lips coincide.
    """
    partner = {a: b for pair in _JAW_PAIRS for a, b in (pair, pair[::-1])}
    for outline in (LIPS_OUTER, LIPS_INNER):
        # An outline runs from one corner along the upper lip to the other, and back along the lower lip.
        partner |= {point: outline[(len(outline) // 2 - i) % len(outline)] for i, point in enumerate(outline)}
    order = {point: i for i, point in enumerate(SHAPE_POINTS)}
    coordinates = [3 * order[partner.get(point, point)] + axis for point in SHAPE_POINTS for axis in range(3)]
    gaps = len(INNER_LIP_PAIRS)
    return torch.tensor(
        [*coordinates, *(len(coordinates) + gaps - 1 - i for i in range(gaps)), len(coordinates) + gaps]
    )


def mirror_signs() -> Tensor:
    """Signs of the shape values under mirroring: -1 for those along the horizontal axis, 1 for the others."""
    signs = torch.tensor([-1.0, 1.0, 1.0]).repeat(len(SHAPE_POINTS))
    return torch.cat([signs, torch.ones(len(INNER_LIP_PAIRS) + 1)])
