"""The GPU that tests/gpu runs on, and what happens where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The first GPU, with float32 in full: TensorFloat-32 keeps 10 binary digits, too few to compare with the CPU."""
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU; tests/devices runs the same checks on a simulated device")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    yield torch.device("cuda", 0)
    torch.cuda.empty_cache()
