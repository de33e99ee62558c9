"""Throughput of a run, its share of the device's peak performance, and its memory use."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

import psutil
import torch


@dataclass
class Speedometer:
    """Throughput since the last `restart`.

    Args:
        device: Device whose memory is reported.
        processes: Number of processes that train together.
        peak: Peak operations per second of one device; None leaves the utilisation unknown.
    """

    device: torch.device
    processes: int = 1
    peak: float | None = None
    _steps: int = 0
    _samples: int = 0
    _tokens: float = 0.0
    _operations: float = 0.0
    _began: float = field(default_factory=time.monotonic)

    def restart(self) -> None:
        """Reset all counts."""
        self._steps = self._samples = 0
        self._tokens = self._operations = 0.0
        self._began = time.monotonic()

    def add(self, samples: int, tokens: float, operations: float | None) -> None:
        """Count one step.

        Args:
            samples: Size of the global batch.
            tokens: Number of tokens of one sample.
            operations: Floating point operations of one sample's training step; None if unknown.
        """
        self._steps, self._samples = self._steps + 1, self._samples + samples
        self._tokens += samples * tokens
        self._operations += samples * (operations or 0.0)

    def figures(self, steps_left: int) -> dict[str, float | None]:
        """Rates per second over all processes, minutes left, memory of this process, and model FLOPs utilisation (0..1)."""
        seconds = max(1e-9, time.monotonic() - self._began)
        rate = self._steps / seconds
        mfu = None
        if self._operations and self.peak:
            mfu = round(self._operations / seconds / (self.peak * self.processes), 4)
        return {
            "steps_per_second": round(rate, 4),
            "samples_per_second": round(self._samples / seconds, 3),
            "tokens_per_second": round(self._tokens / seconds, 1) if self._tokens else None,
            "minutes_left": round(steps_left / rate / 60, 1) if rate else None,
            "mfu": mfu,
            "peak_flops": self.peak,
            "memory_gib": round(peak_memory_gib(self.device), 3),
        }


def measure_peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Measure the floating point operations per second of square matrix products: the fastest of those run in about `seconds`.

    A product has 2 n^3 operations. On a CPU the result is for the threads of this process.
    """
    side = 8192 if device.type == "cuda" else 768
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator).to(device, dtype) for _ in range(2))

    def timed() -> float:
        start = time.perf_counter()
        _ = a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    timed()
    best, began = timed(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        best = min(best, timed())
    return 2.0 * side**3 / best


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory so far in GiB: of tensors on a CUDA device, otherwise of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return float(psutil.Process().memory_info().peak_wset) / 2**30
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**30 if sys.platform == "darwin" else 2**20)
