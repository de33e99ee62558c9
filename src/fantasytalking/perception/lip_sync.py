"""Lip sync: a small audio-visual network, and the curve of distances over offsets that offset and confidence are read from.

As SyncNet (Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016), one encoder turns a few frames of the mouth into
a vector and another the speech around the same moment; the two are near each other where the mouth makes that sound. This is not
SyncNet: other inputs, other training data, another scale. What is measured with it is called sync-proxy, never Sync-C or Sync-D.

Letters: B batch, F video frames at 25 fps, t speech features at 50 Hz, d width of the embeddings, K largest offset.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.errors import CheckpointError, InputError
from fantasytalking.perception.mesh_points import NUM_POINTS
from fantasytalking.perception.mouth_view import CROP_HEIGHT, CROP_WIDTH, SHAPE_DIM, MouthView, see_mouth
from fantasytalking.perception.networks.network_runner import FOLDER

WEIGHTS = FOLDER / "lip_sync.safetensors"
MAX_OFFSET = 15
"""Frames; as in SyncNet's own script (vshift)."""
MIN_OVERLAP = 5
SPEECH_DIM = 384
TOKENS_PER_FRAME = 2
PIXEL_HEIGHT, PIXEL_WIDTH = 48, 72  # what is left of a crop after a margin that training shifts it by
MOUTH_REACH, SPEECH_REACH = 5, 3
"""Frames to either side of its own that an embedding depends on."""
_BATCH_FRAMES = 512


@dataclass(frozen=True)
class SyncCurve:
    """Mean distance between mouth and speech at each offset.

    Attributes:
        offsets: [2K+1] int64, -K..K, frames at 25 fps; positive: the face lags behind the sound.
        distances: [2K+1] float64, mean Euclidean distance of the two embeddings at that offset. For unit vectors it is 0 to 2, and about
            1.4 where the two are unrelated. SyncNet's own vectors are not normalised; its distances are about
            6 to 15 and cannot be compared with these.
    """

    offsets: NDArray[np.int64]
    distances: NDArray[np.float64]

    @property
    def offset(self) -> int:
        """Frames by which the face lags behind the sound, at the least distance; of several, the one nearest to 0."""
        best = np.flatnonzero(self.distances <= self.distances.min() + 1e-9)
        return int(self.offsets[best[np.abs(self.offsets[best]).argmin()]])

    @property
    def distance(self) -> float:
        """Least distance; of SyncNet's embeddings this is Sync-D. Lower is better."""
        return float(self.distances.min())

    @property
    def confidence(self) -> float:
        """Median minus least distance; of SyncNet's embeddings this is Sync-C. Higher is better, 0 where nothing stands out."""
        return float(np.median(self.distances) - self.distances.min())


def sync_curve(mouth: NDArray[np.floating], speech: NDArray[np.floating], max_offset: int = MAX_OFFSET) -> SyncCurve:
    """Mean distance of two embedding sequences at each offset, over the frames where they overlap.

    At offset k frame t + k of the mouth is compared with frame t of the speech, ``D(k) = mean_t |mouth[t + k] - speech[t]|``. Nothing is
    padded, so a larger offset is measured on fewer frames. An offset needs an overlap of `MIN_OVERLAP` frames and of a third of the
    sequence: a clip of F frames is measured up to K = min(max_offset, F - max(MIN_OVERLAP, ceil(F / 3))). A short clip therefore has
    a shorter curve, a noisier least distance and, with fewer offsets to take the median of, another confidence than a long one: compare
    clips of one length. Where the lengths differ by less than a second, the longer sequence is cut at its end.

    Args:
        mouth: [F, d] at 25 fps.
        speech: [F, d] at 25 fps, in the same space.
        max_offset: largest offset in frames, at least 1.

    Raises:
        InputError: the sequences do not fit together, or are shorter than `MIN_OVERLAP` + 1 frames.
    """
    mouth, speech = np.asarray(mouth, np.float64), np.asarray(speech, np.float64)
    if mouth.ndim != 2 or speech.ndim != 2 or mouth.shape[1] != speech.shape[1] or abs(len(mouth) - len(speech)) >= 25:
        raise InputError(
            "A sync curve needs two sequences [F, d] of the same clip whose lengths differ by less than 25 frames, "
            f"not {mouth.shape} and {speech.shape}."
        )
    frames = min(len(mouth), len(speech))
    if frames <= MIN_OVERLAP or max_offset < 1:
        raise InputError(
            f"A sync curve needs at least {MIN_OVERLAP + 1} frames (0.24 s) and an offset of at least 1, "
            f"but got {frames} frames and an offset of {max_offset}."
        )
    largest = min(max_offset, frames - max(MIN_OVERLAP, -(-frames // 3)))
    offsets = range(-largest, largest + 1)
    pairs = [(mouth[max(0, k) : frames + min(0, k)], speech[max(0, -k) : frames - max(0, k)]) for k in offsets]
    distances = [float(np.linalg.norm(m - s, axis=1).mean()) for m, s in pairs]
    return SyncCurve(np.array(offsets, np.int64), np.array(distances))


class _OverTime(nn.Module):
    """A residual convolution over time [B, c, F] without padding: `reach` frames are lost at either end."""

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv1d(width, width, 2 * reach + 1)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.conv(_per_frame(self.norm, x)))
        result: Tensor = x[..., self.reach : x.shape[-1] - self.reach] + self.mix(h)
        return result


def _per_frame(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Normalise every frame of [B, c, F] on its own, so that an embedding depends on its own few frames only."""
    b, c, f = x.shape
    result: Tensor = norm(x.transpose(1, 2).reshape(b * f, c)).view(b, f, c).transpose(1, 2)
    return result


class LipSyncNetwork(nn.Module):
    """Mouth and speech encoders into one space of unit vectors.

    Args:
        dim: Width d of the embeddings.
        width: Channels of the layers over time.
        channels: Channels of the convolutions over the crop; the first takes patches of 6 x 6 pixels, four apart.
        dropout: Share of values dropped in training, from the input of the layers over time and from speech features.
    """

    template: Tensor
    speech_mean: Tensor
    speech_std: Tensor

    def __init__(
        self, dim: int = 128, width: int = 160, channels: tuple[int, ...] = (48, 64, 96), dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.register_buffer("template", torch.zeros(NUM_POINTS, 3))
        self.register_buffer("speech_mean", torch.zeros(SPEECH_DIM))
        self.register_buffer("speech_std", torch.ones(SPEECH_DIM))
        self.shape_in = nn.Sequential(nn.Linear(SHAPE_DIM, width), nn.GELU(), nn.Linear(width, width))
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(zip((3, *channels[:-1]), channels, strict=True)):
            layers += [nn.Conv2d(a, b, 6, 4, 1) if i == 0 else nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(8, b), nn.GELU()]
        cells = -(-PIXEL_HEIGHT // 16) * -(-PIXEL_WIDTH // 16)
        self.pixels_in = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * cells, width))
        self.drop = nn.Dropout(dropout)
        self.mouth_time = nn.Sequential(_OverTime(width, 2), _OverTime(width, 1), _OverTime(width, 1))
        self.mouth_out = nn.Conv1d(width, dim, 1)
        self.speech_in = nn.Sequential(
            nn.Linear(TOKENS_PER_FRAME * SPEECH_DIM, width), nn.GELU(), nn.Linear(width, width)
        )
        self.speech_time = nn.Sequential(_OverTime(width, 2), _OverTime(width, 1))
        self.speech_out = nn.Conv1d(width, dim, 1)

    def mouth(self, shape: Tensor, pixels: Tensor, use: Tensor | None = None) -> Tensor:
        """Embed mouths.

        Args:
            shape: [B, F + 2 MOUTH_REACH, SHAPE_DIM].
            pixels: [B, F + 2 MOUTH_REACH, PIXEL_HEIGHT, PIXEL_WIDTH], zero mean and unit variance over the clip.
            use: [B, 2] how much of shape and of pixels to use; training drops one or the other. None uses both.

        Returns:
            [B, F, d] of unit length.
        """
        x = self.shape_in(shape[:, 1:-1])
        if use is not None:
            x = x * use[:, :1, None]
        if use is None or use[:, 1].any():
            stacked = torch.stack([pixels[:, :-2], pixels[:, 1:-1], pixels[:, 2:]], 2)  # each frame with its neighbours
            stacked = stacked.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            seen = self.pixels_in(stacked).view(x.shape)
            x = x + (seen if use is None else seen * use[:, 1:, None])
        h = self.mouth_out(self.mouth_time(self.drop(x).transpose(1, 2)))
        return F.normalize(h.transpose(1, 2), dim=-1)

    def speech(self, features: Tensor) -> Tensor:
        """Embed speech features [B, 2 (F + 2 SPEECH_REACH), SPEECH_DIM] at 50 Hz: [B, F, d] of unit length."""
        b, t = features.shape[:2]
        x = (features - self.speech_mean) / self.speech_std
        x = self.speech_in(self.drop(x).reshape(b, t // TOKENS_PER_FRAME, -1))
        h = self.speech_out(self.speech_time(self.drop(x).transpose(1, 2)))
        return F.normalize(h.transpose(1, 2), dim=-1)


def normalise_pixels(crops: Tensor) -> Tensor:
    """Normalise crops [F, CROP_HEIGHT, CROP_WIDTH] uint8 for the network: margin cut, zero mean and unit variance over the clip."""
    top, left = (CROP_HEIGHT - PIXEL_HEIGHT) // 2, (CROP_WIDTH - PIXEL_WIDTH) // 2
    x = crops[:, top : top + PIXEL_HEIGHT, left : left + PIXEL_WIDTH].float()
    return (x - x.mean()) / (x.std() + 4.0)


class LipSync:
    """The lip-sync network, ready for use.

    Args:
        network: A trained network; it is put into evaluation mode.
    """

    def __init__(self, network: LipSyncNetwork) -> None:
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def bundled(cls) -> LipSync:
        """The network with the bundled weights, which are loaded once."""
        return cls(_bundled())

    @classmethod
    def from_file(cls, path: Path) -> LipSync:
        """The network with weights that `fantasytalking train lip-sync` wrote.

        Raises:
            CheckpointError: the file is missing, damaged or of another network.
        """
        return cls(_load(path))

    @property
    def template(self) -> NDArray[np.float32]:
        """Mesh [468, 3] of an average upright face, eyes one unit apart, that clips are aligned to."""
        return np.asarray(self.network.template.cpu().numpy(), np.float32)

    def embed_mouth(
        self, frames: NDArray[np.uint8], points: NDArray[np.float32], scores: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Embed the mouth of every frame of a clip.

        Args:
            frames: uint8 [F, H, W, 3] RGB at 25 fps.
            points: float32 [F, 468, 3] mesh in pixels, as `track_mesh` gives it.
            scores: [F] face presence 0..1; frames without a face take the mesh of their neighbours. None trusts every frame.

        Returns:
            float32 [F, d], rows of unit length. At the ends of the clip the first and the last frame repeat.

        Raises:
            InputError: there is no frame, or the shapes do not fit together.
        """
        return self.embed_view(see_mouth(frames, points, scores, self.template))

    @torch.no_grad()
    def embed_view(self, view: MouthView, use: tuple[float, float] | None = None) -> NDArray[np.float32]:
        """Embed the mouth of every frame of a clip, as `see_mouth` gives it.

        Args:
            view: Shape and crops of F frames.
            use: Weights of shape and of crops; (1, 0) looks at the shape alone. None uses both.

        Returns:
            float32 [F, d], rows of unit length.
        """
        weights = None if use is None else torch.tensor([use])
        shape = _repeat_ends(torch.from_numpy(view.shape), MOUTH_REACH)
        pixels = _repeat_ends(normalise_pixels(torch.from_numpy(view.crops)), MOUTH_REACH)
        parts = []
        for start in range(0, len(view.shape), _BATCH_FRAMES):
            part = slice(start, min(start + _BATCH_FRAMES, len(view.shape)) + 2 * MOUTH_REACH)
            parts.append(self.network.mouth(shape[None, part], pixels[None, part], weights)[0])
        return np.asarray(torch.cat(parts).numpy(), np.float32)

    @torch.no_grad()
    def embed_speech(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Embed speech, one vector for each video frame.

        Args:
            features: [t, 384] at 50 Hz, the features of the bundled Whisper encoder of loudness-normalised speech.

        Returns:
            float32 [t // 2, d], rows of unit length; row i belongs to the frame at i / 25 s. At the ends features repeat.

        Raises:
            InputError: for another shape or fewer than two features.
        """
        x = torch.from_numpy(np.asarray(features, np.float32))
        if x.ndim != 2 or x.shape[1] != SPEECH_DIM or len(x) < TOKENS_PER_FRAME:
            raise InputError(f"Speech features need shape [t, {SPEECH_DIM}] with t >= 2, not {tuple(x.shape)}.")
        frames = len(x) // TOKENS_PER_FRAME
        paired = x[: frames * TOKENS_PER_FRAME].reshape(frames, -1)
        padded = _repeat_ends(paired, SPEECH_REACH).reshape(1, -1, SPEECH_DIM)
        return np.asarray(self.network.speech(padded)[0].numpy(), np.float32)


def _repeat_ends(x: Tensor, count: int) -> Tensor:
    """[F, ...] with its first and last row repeated `count` times."""
    index = torch.arange(-count, len(x) + count).clamp(0, len(x) - 1)
    return x[index]


def _load(path: Path) -> LipSyncNetwork:
    network = LipSyncNetwork()
    try:
        stored = {name: value.float() for name, value in load_file(path).items()}
        network.load_state_dict(stored)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"The lip-sync weights {path} cannot be loaded ({error}); use a file that `fantasytalking train lip-sync` wrote."
        ) from error
    return network


@functools.cache
def _bundled() -> LipSyncNetwork:
    return _load(WEIGHTS)
