"""What a CPU holds while it decodes, by PyTorch's allocator, is what a plan expects of main memory besides the libraries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import nn
from torch.profiler import ProfilerActivity, profile

from fantasytalking.acceleration.expected_peaks import LIBRARIES, expected_peaks
from fantasytalking.acceleration.memory_plan import Clip, MemoryPlan
from fantasytalking.acceleration.part_sizes import sizes_of_modules
from tests.pipeline.tiny_pipeline import wan_pipeline


def allocated_at_most(work: Callable[[], object]) -> int:
    """Most bytes of tensors that a call has made and not freed."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace, torch.no_grad():
        work()
    held = most = 0
    for event in trace.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize(("rows", "columns", "is_unfolded"), [(512, 16, False), (16, 512, True)])
def test_decoding_on_a_cpu_takes_what_is_expected(rows: int, columns: int, is_unfolded: bool) -> None:
    vae = AutoencoderKLWan(base_dim=8).eval()
    parts = wan_pipeline(vae=vae).components
    sizes = sizes_of_modules({name: part for name, part in parts.items() if isinstance(part, nn.Module)}, torch.float32)
    clip = Clip(9, rows, columns, 1)
    latents = torch.zeros(1, vae.config.z_dim, 3, rows // 8, columns // 8)
    taken = allocated_at_most(lambda: vae.decode(latents))
    expected = expected_peaks(sizes, MemoryPlan(dtype="float32"), clip, "cpu").host - LIBRARIES
    assert 0.8 * expected < taken <= expected
    unfolded = 27 * 8 * 4 * rows * columns * 4
    assert (taken > unfolded) == is_unfolded
