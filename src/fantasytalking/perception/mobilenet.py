"""MobileNetV2, trained on ImageNet: picture features without a download, for labelled proxies and perceptual distances.

Sandler et al., arXiv 1801.04381, table 2, up to the last inverted residual block; batch norms are folded into the convolutions. The
weights (half precision behind block 6, 3.7 MB) lie in ``networks/``, their source and licence in the NOTICE there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.errors import CheckpointError, ImageError

__all__ = ["BLOCKS", "WEIGHTS", "MobileNetV2", "load"]

WEIGHTS = Path(__file__).parent / "networks" / "mobilenet_v2.safetensors"
SIDE = 224
# expansion, channels, repeats, stride of the first: one row of table 2 each
_ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# expansion and stride of the inverted residual blocks, the first is number 1
BLOCKS = tuple((t, s if i == 0 else 1) for t, _, n, s in _ROWS for i in range(n))


class MobileNetV2(nn.Module):
    """The convolutions of MobileNetV2 with fixed weights, which take no gradient.

    Args:
        state: Folded convolutions, ``features.0.0.weight`` and ``.bias``, ``features.2.conv.0.weight``, ...; the numbers are those of
            the well-known definition. It may end at an earlier block, and be of any width.

    Raises:
        CheckpointError: A block lacks a convolution.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterDict(
            {name.replace(".", "_"): nn.Parameter(value.float(), requires_grad=False) for name, value in state.items()}
        )
        last = max((int(name.split(".")[1]) for name in state if name.startswith("features.")), default=-1)
        self.num_blocks = min(last, len(BLOCKS))
        needed = {f"{name}.{kind}" for name in convolutions(self.num_blocks) for kind in ("weight", "bias")}
        if missing := sorted(needed - set(state)):
            raise CheckpointError(f"MobileNetV2's weights lack {missing[0]}; use the bundled {WEIGHTS.name}.")
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.eval()

    def forward(self, pictures: Tensor, blocks: Iterable[int] | None = None) -> list[Tensor]:
        """Compute feature maps after chosen blocks.

        Args:
            pictures: [N, 3, H, W] in [0, 1], RGB.
            blocks: Numbers of inverted residual blocks, 1 to 17; None: the last.

        Returns:
            One [N, C, h, w] a chosen block, in the order of the network; after block 17 C is 320 and h is H / 32.
        """
        wanted = {self.num_blocks} if blocks is None else set(blocks)
        x = self._conv("features.0.0", (pictures - self.mean) / self.std, stride=2)
        maps = []
        for number, (expansion, stride) in enumerate(BLOCKS[: max(wanted)], 1):
            name, inside, index = f"features.{number}.conv", x, 0
            if expansion > 1:
                inside, index = self._conv(f"{name}.0", inside), 3
            inside = self._conv(f"{name}.{index}", inside, stride, depthwise=True)
            inside = self._conv(f"{name}.{index + 3}", inside, activate=False)
            x = x + inside if stride == 1 and inside.shape == x.shape else inside
            if number in wanted:
                maps.append(x)
        return maps

    def _conv(self, name: str, x: Tensor, stride: int = 1, depthwise: bool = False, activate: bool = True) -> Tensor:
        name = name.replace(".", "_")
        weight, bias = self.weights[name + "_weight"], self.weights[name + "_bias"]
        x = F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=x.shape[1] if depthwise else 1)
        return F.relu6(x, inplace=True) if activate else x

    def features(self, images: NDArray[np.uint8], batch: int = 16) -> NDArray[np.float32]:
        """Feature vectors of pictures: the mean over the plane of the last block's output.

        Args:
            images: uint8 [N, H, W, 3], RGB, of any size; resized to 224 x 224 with an antialiased bicubic filter.
            batch: Pictures at a time, at least 1.

        Returns:
            float32 [N, 320].

        Raises:
            ImageError: ``images`` is not such an array.
        """
        vectors = [maps.mean((2, 3)) for maps in self._maps(images, batch)]
        return np.asarray(torch.cat(vectors).cpu().numpy(), np.float32)

    @torch.inference_mode()
    def _maps(self, images: NDArray[np.uint8], batch: int) -> Iterator[Tensor]:
        if not (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4 and images.size):
            given = f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}"
            raise ImageError(f"MobileNetV2 takes pictures as uint8 [N, H, W, 3] with N of at least 1, not {given}.")
        for start in range(0, len(images), max(batch, 1)):
            pictures = torch.from_numpy(images[start : start + max(batch, 1)].copy())
            pictures = pictures.to(self.mean.device).permute(0, 3, 1, 2).float() / 255
            if pictures.shape[-2:] != (SIDE, SIDE):
                pictures = F.interpolate(pictures, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
            yield self(pictures)[-1]


def convolutions(blocks: int = len(BLOCKS)) -> list[str]:
    """Name of all convolutions up to a block, ``features.0.0`` first."""
    names = ["features.0.0"]
    for number, (expansion, _) in enumerate(BLOCKS[:blocks], 1):
        names += [f"features.{number}.conv.{index}" for index in ((0, 3) if expansion == 1 else (0, 3, 6))]
    return names


def load(path: Path = WEIGHTS, device: str | torch.device = "cpu") -> MobileNetV2:
    """Load the network with the bundled weights, or with those of another file of the same layout.

    Args:
        path: A safetensors file.
        device: Where it runs.

    Raises:
        CheckpointError: The file cannot be read or lacks a convolution.
    """
    try:
        state = load_file(path)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as MobileNetV2's safetensors ({error}).") from error
    return MobileNetV2(state).to(device)
