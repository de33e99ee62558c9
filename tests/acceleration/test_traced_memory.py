"""Expected memory against a trace: the released model without values, hooks of diffusers that say what they bring and send back."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fantasytalking.acceleration.expected_peaks import expected_peaks
from fantasytalking.acceleration.memory_plan import GIB, Clip, MemoryPlan
from fantasytalking.checkpoints.quantised_layers import Float8Linear, fits_float8
from fantasytalking.conditioning.audio_windows import window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.acceleration.released_shapes import released_modules, released_sizes

META = torch.device("meta")
SMALL = Clip(5, 64, 64, 1)


class Residency:
    """Bytes of weights on the device: groups that are there, by what diffusers brings and sends back."""

    def __init__(self) -> None:
        self.present: dict[int, int] = {}
        self.peak = 0

    def bring(self, group: ModuleGroup) -> None:
        tensors = {id(t): t for module in group.modules for t in (*module.parameters(), *module.buffers())}
        tensors |= {id(t): t for t in (*group.parameters, *group.buffers)}
        self.present[id(group)] = sum(t.numel() * t.element_size() for t in tensors.values())
        self.peak = max(self.peak, sum(self.present.values()))


@pytest.fixture
def residency(monkeypatch: pytest.MonkeyPatch) -> Residency:
    """Takes down what diffusers' groups bring; they do their work as ever."""
    seen = Residency()
    bring, send_back = ModuleGroup.onload_, ModuleGroup.offload_

    def onload(group: ModuleGroup) -> None:
        seen.bring(group)
        bring(group)

    def offload(group: ModuleGroup) -> None:
        seen.present.pop(id(group), None)
        send_back(group)

    # diffusers asks every device for a module of its name, from which it takes streams
    monkeypatch.setattr(torch, "meta", torch.cpu, raising=False)
    monkeypatch.setattr(ModuleGroup, "onload_", onload)
    monkeypatch.setattr(ModuleGroup, "offload_", offload)
    return seen


class Live(TorchDispatchMode):
    """Bytes of tensors that are alive, and the most there have been."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and not func.is_view:
                storage = tensor.untyped_storage()
                if storage._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.sizes.pop, storage._cdata, None)
                    self.peak = max(self.peak, sum(self.sizes.values()))
        return result


def call(model: FantasyTalkingTransformer3DModel, clip: Clip, dtype: torch.dtype) -> None:
    frames, batch = (clip.frames - 1) // 4 + 1, clip.passes
    windows = window_ranges(round(clip.frames / 23 * 50), clip.frames).expand(batch, -1, -1)
    with META, torch.no_grad():
        speech = AudioCondition(torch.empty(batch, round(clip.frames / 23 * 50), 768, dtype=dtype))
        told = Conditions(
            torch.empty(batch, 512, 4096, dtype=dtype), torch.empty(batch, 257, 1280, dtype=dtype), speech
        )
        assert windows.shape[1] == frames
        model(torch.empty(batch, 36, frames, clip.height // 8, clip.width // 8, dtype=dtype), torch.empty(batch), told)


@pytest.fixture
def fused_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention as a device computes it: without the matrix of all pairs, which the meta device would make."""
    fused = lambda query, key, value, *_, **__: torch.empty_like(query)  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused)


@pytest.mark.parametrize("quantise", [False, True])
def test_streamed_blocks_never_hold_more_weights_than_expected(residency: Residency, quantise: bool) -> None:
    modules = released_modules()
    transformer: Any = modules["transformer"].to(torch.bfloat16)
    if quantise:
        for name, layer in [*transformer.named_modules()]:
            if fits_float8(f"{name}.weight", getattr(getattr(layer, "weight", None), "shape", ())):
                stored = Float8Linear(layer, layer.weight.to(torch.float8_e4m3fn), torch.empty(1, device=META))
                transformer.set_submodule(name, stored)
    plan = MemoryPlan(offload="groups", quantize="fp8" if quantise else "none", batch_passes="off")
    # as `apply_plan` does; what has no values cannot wait on the CPU
    transformer.enable_group_offload(META, META, offload_type="block_level", num_blocks_per_group=1)
    call(transformer, SMALL, torch.bfloat16)
    expected = expected_peaks(released_sizes(), plan, SMALL).device["sampling"]
    # One block at a time without a stream; the plan counts with three.
    vae = sum(p.numel() * 4 for p in modules["vae"].parameters())
    block = sum(p.numel() * p.element_size() for p in transformer.blocks[0].parameters())
    assert residency.peak > block
    assert residency.peak + 2 * block + vae <= 1.01 * expected < 22 * GIB


def test_activations_of_a_block_are_those_that_are_expected(fused_attention: None) -> None:
    clip = Clip(81, 512, 512, 1)
    with META:
        model = FantasyTalkingTransformer3DModel(num_layers=1, image_dim=1280, added_kv_proj_dim=5120).to(
            torch.bfloat16
        )
    with Live() as live:
        call(model, clip, torch.bfloat16)
    sizes, plan = released_sizes(), MemoryPlan(batch_passes="off")
    at_rest = expected_peaks(sizes, plan, Clip(1, 16, 16, 1)).device["sampling"]
    expected = expected_peaks(sizes, plan, clip).device["sampling"] - at_rest
    assert live.peak == pytest.approx(expected, rel=0.15)
    assert live.peak < 1.01 * expected
