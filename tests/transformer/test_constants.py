"""What follows from the conditions alone is computed once per generation, and is never stale."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig
from torch import nn

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.transformer.constants import Constants, constant_bytes
from tests.acceleration.cached_runs import HALF, SCALES, STEPS, apart, latents
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, transformer, wan_pipeline
from tests.tiny import tiny_conditions, tiny_latents, tiny_transformer

CONSTANT = (
    "condition_embedder.image_embedder",
    "audio_projector",
    "blocks.0.attn2.to_k",
    "blocks.0.attn2.to_v",
    "blocks.0.attn2.add_k_proj",
    "blocks.0.attn2.processor.audio_k_proj",
    "blocks.1.attn2.processor.audio_v_proj",
)


@contextlib.contextmanager
def calls(model: nn.Module, parts: tuple[str, ...] = CONSTANT) -> Iterator[Counter[str]]:
    """How often parts of a model run."""
    seen: Counter[str] = Counter()
    hooks = [
        model.get_submodule(part).register_forward_hook(lambda *_, part=part: seen.update([part])) for part in parts
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("batching", ["on", "off"])
@pytest.mark.parametrize("scales", [SCALES, HALF], ids=["one set of passes", "passes change in mid-run"])
def test_constants_are_computed_once_for_each_call_and_change_nothing(batching: str, scales: dict[str, Any]) -> None:
    pipeline = wan_pipeline()
    with calls(pipeline.transformer) as seen:
        kept = latents(pipeline, batch_passes=batching, reuse_conditions="on", **scales)
    anew = latents(pipeline, batch_passes=batching, reuse_conditions="off", **scales)
    assert torch.equal(kept, anew)
    text = seen.pop("blocks.0.attn2.to_k")
    # one by one: the negative pass, and with HALF the others twice, each time anew
    assert text == {("on", 3): 1, ("off", 3): 3, ("on", 2): 3, ("off", 2): 4}[batching, 3 if scales is SCALES else 2]
    assert seen["audio_projector"] == 1 and max(seen.values()) <= text


def test_identity_and_motion_are_as_before() -> None:
    pipeline = embedded_pipeline()
    with calls(pipeline.transformer, ("identity_qformer", "blocks.0.attn2.processor.identity_k_proj")) as seen:
        kept = latents(pipeline, reuse_conditions="on", batch_passes="on")
    assert set(seen.values()) == {1}
    assert torch.equal(kept, latents(pipeline, reuse_conditions="off", batch_passes="on"))


@pytest.mark.parametrize("clip_mode", [False, True])
@pytest.mark.parametrize("positions", [None, 15])
def test_a_second_call_equals_one_without_constants(clip_mode: bool, positions: int | None) -> None:
    model = tiny_transformer(audio_positions=positions)
    conditions = Conditions.cat([tiny_conditions(seed=seed, clip_mode=clip_mode, tokens=30 + seed) for seed in (1, 5)])
    constants = Constants()
    with torch.no_grad():
        for seed, time in ((0, 800.0), (1, 300.0)):
            given = (tiny_latents(2, seed), torch.full((2,), time), conditions)
            assert torch.equal(model(*given, constants=constants).sample, model(*given).sample)


def test_training_never_uses_constants() -> None:
    model, conditions, constants = tiny_transformer().train(), tiny_conditions(), Constants()
    given = (tiny_latents(), torch.tensor([500.0]), conditions)
    with torch.no_grad():
        model(*given, constants=constants)
        for parameter in model.parameters():
            parameter.mul_(1.1)
    for checkpointed in (False, True):
        model.enable_gradient_checkpointing() if checkpointed else model.disable_gradient_checkpointing()
        model.zero_grad()
        moved = model(*given, constants=constants).sample
        moved.pow(2).mean().backward()
        assert torch.equal(moved, model(*given).sample)
        gradient = model.blocks[0].attn2.to_k.weight.grad
        assert gradient is not None and gradient.abs().max() > 0


def test_a_lora_that_is_loaded_weighed_or_removed_between_calls_is_heard() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    pipeline = wan_pipeline()
    before = latents(pipeline)
    model = pipeline.transformer
    targets = ["attn2.to_k", "attn2.to_v", "audio_k_proj", "audio_v_proj", "add_k_proj"]
    model.add_adapter(peft.LoraConfig(r=2, target_modules=targets), adapter_name="style")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    for change in (lambda: None, lambda: model.set_adapters("style", 0.3), lambda: model.disable_adapters()):
        change()
        anew = latents(pipeline, reuse_conditions="off")
        assert torch.equal(latents(pipeline, reuse_conditions="on"), anew)
    assert torch.equal(anew, before)


def test_a_lora_that_a_callback_weighs_in_mid_run_is_heard() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    pipeline = wan_pipeline()
    model = pipeline.transformer
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["attn2.to_k", "attn2.to_v"]), adapter_name="style")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))

    def made(reuse: str) -> torch.Tensor:
        model.set_adapters("style", 1.0)
        seen: list[torch.Tensor] = []

        def weigh(pipeline: Any, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]) -> None:
            model.set_adapters("style", 1.0 - step / STEPS)
            seen.append(tensors["latents"])

        given = {"callback_on_step_end": weigh, "reuse_conditions": reuse, "output_type": "latent", **SCALES}
        pipeline(portrait(), speech(0.4), **given)
        return seen[-1]

    assert torch.equal(made("on"), made("off"))


def casting(model: Any) -> None:
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def groups(kind: str) -> Any:
    cpu = torch.device("cpu")
    blocks = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    return lambda model: model.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type=kind, **blocks)


@pytest.mark.parametrize(
    "change",
    [
        casting,
        groups("block_level"),
        groups("leaf_level"),
        lambda model: model.fuse_qkv_projections(),
        lambda model: model.enable_cache(FirstBlockCacheConfig(threshold=0.05)),
        lambda model: model.set_attention_backend("_native_math"),
    ],
    ids=["layerwise casting", "offload by blocks", "offload by leaves", "fused projections", "a cache", "back-end"],
)
@pytest.mark.parametrize("batching", ["on", "off"])
def test_constants_are_exact_with_what_diffusers_does_to_a_model(change: Any, batching: str) -> None:
    pipeline = wan_pipeline(transformer=transformer(num_layers=3))
    change(pipeline.transformer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "batch_passes has no effect")
        kept, anew = (latents(pipeline, batch_passes=batching, reuse_conditions=reuse) for reuse in ("on", "off"))
    assert apart(kept, anew) < 1e-5


@pytest.mark.parametrize("windows", [0, 2**18])
def test_memory_is_accounted_for_to_the_byte_and_is_a_choice(windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fantasytalking.transformer.attention.WINDOWS_KEPT", windows)
    model, conditions, constants = tiny_transformer(), tiny_conditions(2), Constants()
    with torch.no_grad():
        model(tiny_latents(2), torch.full((2,), 500.0), conditions, constants=constants)
    held = 0
    for context in constants.contexts:
        assert context.kept is not None and context.kept.keys_values is not None
        known = context.kept.keys_values
        assert all(key.ndim == 5 for key, _ in known.audio) == (windows > 0)
        pairs = (known.text, known.image, *known.audio, known.positions, known.identity)
        held += sum(states.numel() * states.element_size() for pair in pairs if pair is not None for states in pair)
    assert held == constant_bytes(model.config, conditions, 4)

    released = {"num_layers": 40, "num_attention_heads": 40, "attention_head_dim": 128, "identity_tokens": 16}
    config = type("Config", (), released)
    told = Conditions(text=torch.zeros(1, 512, 4, device="meta"), image=torch.zeros(1, 257, 4, device="meta"))
    assert round(constant_bytes(config, told, 2) / 1e6) == 630


@pytest.mark.parametrize(("free", "kept"), [(1e12, 1), (1e3, STEPS)])
def test_by_default_constants_are_kept_where_they_are_small_beside_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, free: float, kept: int
) -> None:
    pipeline = wan_pipeline()
    monkeypatch.setattr("fantasytalking.pipeline.guidance_passes.free_memory", lambda device: free)
    with calls(pipeline.transformer, ("audio_projector",)) as seen:
        latents(pipeline, batch_passes="off")
    assert seen["audio_projector"] == kept
