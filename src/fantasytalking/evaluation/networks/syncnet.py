"""SyncNet (Chung and Zisserman 2016) with the arithmetic of joonson/syncnet_python, from which Sync-C and Sync-D come.

Mouth: five frames of a 224-pixel face crop at 25 frames per second, BGR, 0..255. Speech: 20 MFCC frames, 0.2 s. `syncnet_crops.py`
makes the crops. Letters: F frames, W = F - 5 windows, K largest offset.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.errors import InputError
from fantasytalking.evaluation.networks.metric_weights import require
from fantasytalking.evaluation.networks.mfcc import mfcc
from fantasytalking.evaluation.networks.network_inputs import check_images, fill, read_state
from fantasytalking.evaluation.networks.syncnet_crops import mesh_boxes, mouth_crops
from fantasytalking.perception.lip_sync import SyncCurve

__all__ = ["KEY", "SIDE", "SyncNet", "SyncNetwork", "load", "padded_curve"]

KEY = "syncnet"
SIDE = 224
MAX_OFFSET = 15
_WINDOW, _FRAMES_PER_IMAGE, _SAMPLES_PER_IMAGE = 5, 4, 640


def _conv2d(inside: int, out: int, kernel: int | tuple[int, int], padding: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inside, out, kernel, padding=padding), nn.BatchNorm2d(out), nn.ReLU()]


def _conv3d(inside: int, out: int, kernel: tuple[int, int, int], stride: int = 1, padding: int = 0) -> list[nn.Module]:
    conv = nn.Conv3d(inside, out, kernel, stride=(1, stride, stride), padding=(0, padding, padding))
    return [conv, nn.BatchNorm3d(out), nn.ReLU()]


class SyncNetwork(nn.Module):
    """The two streams; layers are numbered as in the published file.

    Args:
        width: Channels of the embeddings, 1024 as published.
    """

    def __init__(self, width: int = 1024) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_conv2d(1, 64, 3), nn.MaxPool2d(1, 1), *_conv2d(64, 192, 3), nn.MaxPool2d(3, (1, 2)), *_conv2d(192, 384, 3),
            *_conv2d(384, 256, 3), *_conv2d(256, 256, 3), nn.MaxPool2d(3, 2), *_conv2d(256, 512, (5, 4), padding=0),
        )  # fmt: skip
        self.netfcaud = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, width))
        self.netfclip = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, width))
        self.netcnnlip = nn.Sequential(
            *_conv3d(3, 96, (5, 7, 7), stride=2), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv3d(96, 256, (1, 5, 5), stride=2, padding=1), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_conv3d(256, 256, (1, 3, 3), padding=1), *_conv3d(256, 256, (1, 3, 3), padding=1),
            *_conv3d(256, 256, (1, 3, 3), padding=1), nn.MaxPool3d((1, 3, 3), (1, 2, 2)), *_conv3d(256, 512, (1, 6, 6)),
        )  # fmt: skip

    def mouth(self, windows: Tensor) -> Tensor:
        """Embeddings [N, width] of frames [N, 3, 5, 224, 224], BGR, 0..255."""
        result: Tensor = self.netfclip(self.netcnnlip(windows).flatten(1))
        return result

    def speech(self, windows: Tensor) -> Tensor:
        """Embeddings [N, width] of MFCC windows [N, 1, 13, 20]."""
        result: Tensor = self.netfcaud(self.netcnnaud(windows).flatten(1))
        return result


class SyncNet:
    """Embeddings of mouth and speech, and the curve over offsets.

    Args:
        network: The two streams, with their weights.
    """

    def __init__(self, network: SyncNetwork) -> None:
        self.network = network

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.inference_mode()
    def mouth(self, frames: NDArray[np.uint8], batch: int = 8) -> NDArray[np.float32]:
        """Embed windows of five frames.

        Args:
            frames: uint8 [F, 224, 224, 3], RGB, face crops at 25 frames a second.
            batch: Windows per pass.

        Returns:
            float32 [F - 4, 1024].

        Raises:
            ImageError: `frames` has another type or shape.
            InputError: The crops have another size, or there are fewer than five.
        """
        check_images(frames, "face crops", "F, 224, 224, 3")
        if frames.shape[1:3] != (SIDE, SIDE) or len(frames) < _WINDOW:
            raise InputError(f"SyncNet takes at least {_WINDOW} crops of {SIDE} x {SIDE}, not {frames.shape}.")
        # The training images were read by OpenCV: the network takes BGR.
        video = torch.from_numpy(frames[..., ::-1].copy()).permute(3, 0, 1, 2)
        return self._embed(video.unfold(1, _WINDOW, 1).permute(1, 0, 4, 2, 3), self.network.mouth, batch)

    @torch.inference_mode()
    def speech(self, samples: NDArray[np.floating], batch: int = 64) -> NDArray[np.float32]:
        """Embed windows of 0.2 s, one for each frame of the video.

        Args:
            samples: [n], 16 kHz mono, -1..1.
            batch: Windows per pass.

        Returns:
            float32 [n / 640 - 4, 1024]; window i belongs to the frames i to i + 4.

        Raises:
            InputError: The sound is shorter than 0.2 s.
        """
        count = len(samples) // _SAMPLES_PER_IMAGE - _WINDOW + 1
        if count < 1:
            raise InputError(f"SyncNet takes at least 0.2 s of sound, not {len(samples) / 16000:.2f} s.")
        features = torch.from_numpy(mfcc(samples).astype(np.float32)).T
        length = _WINDOW * _FRAMES_PER_IMAGE
        needed = (count - 1) * _FRAMES_PER_IMAGE + length
        # The last window may be one MFCC frame short; the original never uses that window.
        features = F.pad(features, (0, max(0, needed - features.shape[1])), mode="replicate")
        windows = features.unfold(1, length, _FRAMES_PER_IMAGE)[:, :count].permute(1, 0, 2).unsqueeze(1)
        return self._embed(windows, self.network.speech, batch)

    def _embed(self, windows: Tensor, stream: object, batch: int) -> NDArray[np.float32]:
        assert callable(stream)
        parts = [stream(some.to(self._device).float()).cpu() for some in windows.split(batch)]
        return np.asarray(torch.cat(parts).numpy(), np.float32)

    def crops_curve(
        self, crops: NDArray[np.uint8], samples: NDArray[np.floating], max_offset: int = MAX_OFFSET
    ) -> SyncCurve:
        """Evaluate a track that is cropped already, as the original does.

        Args:
            crops: uint8 [F, 224, 224, 3], RGB, 25 frames a second.
            samples: [n], 16 kHz, starting with the first crop.
            max_offset: Largest offset in frames, K.

        Returns:
            Distances over the offsets -K..K, positive where the face lags behind the sound.

        Raises:
            ImageError: `crops` has another type or shape.
            InputError: Fewer than six frames.
        """
        frames = min(len(crops), len(samples) // _SAMPLES_PER_IMAGE)
        if frames <= _WINDOW:
            raise InputError(f"SyncNet's curve needs at least {_WINDOW + 1} frames with sound, not {frames}.")
        # The original skips the last window.
        mouth = self.mouth(crops[: frames - 1])
        return padded_curve(mouth, self.speech(samples)[: len(mouth)], max_offset)

    def curve(
        self,
        frames: NDArray[np.uint8],
        meshes: NDArray[np.floating],
        samples: NDArray[np.floating],
        run: slice | None = None,
        max_offset: int = MAX_OFFSET,
    ) -> SyncCurve:
        """Evaluate a clip whose face is tracked.

        Args:
            frames: uint8 [F, H, W, 3], RGB, 25 frames a second.
            meshes: Face mesh of each frame, in pixels [F, 468, 2 or 3].
            samples: [n], 16 kHz, starting with the first frame.
            run: Frames that show the face; None takes all.
            max_offset: Largest offset in frames, K.

        Raises:
            ImageError: `frames` has another type or shape.
            InputError: Fewer than six frames.
        """
        check_images(frames, "frames", "F, H, W, 3")
        start, stop, _ = (run or slice(None)).indices(len(frames))
        crops = mouth_crops(frames[start:stop], mesh_boxes(meshes[start:stop]))
        return self.crops_curve(crops, samples[start * _SAMPLES_PER_IMAGE : stop * _SAMPLES_PER_IMAGE], max_offset)


def padded_curve(mouth: NDArray[np.floating], speech: NDArray[np.floating], max_offset: int = MAX_OFFSET) -> SyncCurve:
    """Mean distance over offsets as the original computes it: with the speech padded by K zero vectors at both ends.

    With i = 0..2K the distances D_i = mean_t ||mouth_t - speech_{t + i - K} + 1e-6||, speech outside the clip being zero; the offset is
    K - argmin_i D_i. The padding draws the outer distances of short clips towards ||mouth_t||.

    Args:
        mouth: Embeddings of the mouth, [W, d].
        speech: Embeddings of the speech, [W, d].
        max_offset: Largest offset in frames, K.

    Raises:
        InputError: The shapes differ.
    """
    if mouth.shape != speech.shape or mouth.ndim != 2 or max_offset < 1:
        raise InputError(f"A curve needs two sequences [W, d] of one shape, not {mouth.shape} and {speech.shape}.")
    padded = np.pad(np.asarray(speech, np.float64), ((max_offset, max_offset), (0, 0)))
    steps = range(2 * max_offset + 1)
    means = [np.linalg.norm(mouth - padded[i : i + len(mouth)] + 1e-6, axis=1).mean() for i in steps]
    offsets = max_offset - np.arange(2 * max_offset + 1)
    order = np.argsort(offsets)
    return SyncCurve(offsets[order].astype(np.int64), np.array(means)[order])


def load(path: Path | None = None, device: str | torch.device = "cpu") -> SyncNet:
    """SyncNet with its published weights.

    Args:
        path: Path of the file; None takes the verified one in the cache.
        device: Device to run on.

    Raises:
        CheckpointError: The file is missing, unsafe, or differs from the listed one.
    """
    path = path or require(KEY)
    network = SyncNetwork()
    fill(network, read_state(path), path)
    return SyncNet(network.to(device))
