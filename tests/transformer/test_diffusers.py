"""What diffusers can do to a Wan transformer, it can do to ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.transformer.attention import MASKING_BACKENDS
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.tiny import tiny_conditions, tiny_latents, tiny_transformer

TIMESTEP = torch.tensor([637.0, 200.0])


@pytest.fixture(autouse=True)
def _restore_backend() -> Iterator[None]:
    """`set_attention_backend` also changes the back-end of every other model in the process."""
    before, _ = _AttentionBackendRegistry.get_active_backend()
    yield
    _AttentionBackendRegistry.set_active_backend(before)


def run(model: FantasyTalkingTransformer3DModel, conditions: Conditions) -> torch.Tensor:
    with torch.no_grad():
        return model(tiny_latents(2), TIMESTEP, conditions).sample


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("clip_mode", [False, True])
@pytest.mark.parametrize("backend", ["native", "_native_math", "_native_efficient", "flex"])
def test_every_attention_backend_masks_the_padding(backend: str, clip_mode: bool) -> None:
    model = tiny_transformer(num_layers=1, attention_head_dim=16, added_kv_proj_dim=32)
    parts = [tiny_conditions(seed=seed, tokens=30 + seed, clip_mode=clip_mode) for seed in (1, 7)]
    conditions = Conditions.cat(parts)
    expected = run(model, conditions)
    try:
        model.set_attention_backend(backend)
        output = run(model, conditions)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        pytest.skip(f"{backend} does not run on this machine: {str(error).splitlines()[0]}")
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", [AttentionBackendName.FLASH, AttentionBackendName.SAGE, None])
def test_masked_attention_leaves_a_backend_that_cannot_mask(backend: AttentionBackendName | None) -> None:
    processor = tiny_transformer(num_layers=1).blocks[0].attn2.processor
    query, key, value = torch.randn(3, 2, 5, 2, 8).unbind(0)
    mask = torch.tensor([[True, True, False, False, False], [True] * 5])[:, None, None]
    expected = processor._attend(query, key, value, mask)
    assert backend not in MASKING_BACKENDS
    processor._attention_backend = backend
    assert torch.equal(processor._attend(query, key, value, mask), expected)
    alone = processor._attend(query[:1], key[:1, :2], value[:1, :2], mask[:1, ..., :2])
    torch.testing.assert_close(expected[:1], alone)


def test_a_lora_changes_the_output_and_can_be_switched_off() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model, conditions = tiny_transformer(), tiny_conditions(2)
    before = run(model, conditions)
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v", "audio_k_proj", "audio_v_proj"]))
    layers = [name for name, _ in model.named_parameters() if "lora_B" in name]
    assert any("processor.audio_k_proj" in name for name in layers) and any("attn1.to_q" in name for name in layers)
    assert torch.equal(run(model, conditions), before)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert not torch.allclose(run(model, conditions), before, atol=1e-3)
    model.disable_adapters()
    assert torch.equal(run(model, conditions), before)


def test_a_step_cache_reuses_the_blocks_when_little_changes() -> None:
    model, conditions = tiny_transformer(num_layers=3), tiny_conditions(2)
    expected = run(model, conditions)
    model.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    calls = []
    model.blocks[2].ffn.register_forward_hook(lambda *_: calls.append(1))
    with model.cache_context("audio"):
        torch.testing.assert_close(run(model, conditions), expected)
        torch.testing.assert_close(run(model, conditions), expected)
    assert len(calls) == 1
    model.disable_cache()
    assert torch.equal(run(model, conditions), expected)


def test_attention_can_be_broadcast_over_steps() -> None:
    model, conditions = tiny_transformer(), tiny_conditions(2)
    expected = run(model, conditions)
    config = PyramidAttentionBroadcastConfig(
        cross_attention_block_skip_range=2,
        cross_attention_timestep_skip_range=(0, 1000),
        cross_attention_block_identifiers=("blocks.*attn2",),
        current_timestep_callback=lambda: 500,
    )
    model.enable_cache(config)
    torch.testing.assert_close(run(model, conditions), expected)
    model.disable_cache()


def test_blocks_compile_without_a_graph_break() -> None:
    model, conditions = tiny_transformer(audio_positions=15), tiny_conditions(2)
    expected = run(model, conditions)
    model.compile_repeated_blocks(backend="eager", fullgraph=True)
    torch.testing.assert_close(run(model, conditions), expected, atol=1e-5, rtol=1e-5)


def test_projections_can_be_fused_and_parted_again() -> None:
    model, conditions = tiny_transformer(), tiny_conditions(2)
    expected = run(model, conditions)
    model.fuse_qkv_projections()
    torch.testing.assert_close(run(model, conditions), expected, atol=1e-5, rtol=1e-5)
    model.unfuse_qkv_projections()
    torch.testing.assert_close(run(model, conditions), expected, atol=1e-5, rtol=1e-5)


def test_layers_can_be_stored_in_fewer_bits_than_they_compute_in() -> None:
    model, conditions = tiny_transformer(), tiny_conditions(2)
    expected = run(model, conditions)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert model.blocks[0].ffn.net[2].weight.dtype == torch.float8_e4m3fn
    assert model.audio_projector is not None and model.audio_projector.proj.weight.dtype == torch.float32
    torch.testing.assert_close(run(model, conditions), expected, atol=0.3, rtol=0.3)


def test_blocks_can_be_offloaded_in_groups() -> None:
    model, conditions = tiny_transformer(), tiny_conditions(2)
    expected = run(model, conditions)
    cpu = torch.device("cpu")
    model.enable_group_offload(
        onload_device=cpu, offload_device=cpu, offload_type="block_level", num_blocks_per_group=1
    )
    assert torch.equal(run(model, conditions), expected)
