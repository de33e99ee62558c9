"""MobileNetV2 (ImageNet), the bundled network of the labelled proxies; never a stand-in under a standard metric's name."""

from __future__ import annotations

from fantasytalking.perception.mobilenet import WEIGHTS, MobileNetV2, load

__all__ = ["WEIGHTS", "MobileNetV2", "load"]
