"""Operations by formula are those that PyTorch counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fantasytalking.checkpoints.adapter_layouts import part_of
from fantasytalking.conditioning.audio_windows import window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition
from fantasytalking.training.adapter.adapter_recipes import BACKBONE_LINEARS
from fantasytalking.training.embedded.embedded_recipes import EMBEDDED_MODEL
from fantasytalking.training.lora import LoraSettings, add_lora
from fantasytalking.training.trainer.flops import Flops, Trains, latent_tokens, sample_flops, tokens_of, training_flops
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

TINY: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 20,
    "freq_dim": 32,
    "ffn_dim": 130,
    "num_layers": 2,
    "image_dim": 20,
    "added_kv_proj_dim": 48,
    "audio_feature_dim": 24,
    "audio_dim": 40,
    "identity_feature_dim": 32,
    "identity_dim": 36,
    "identity_tokens": 5,
    "identity_layers": 1,
    "motion": True,
}
# the released size, with identity and motion at the sizes that we chose
RELEASED = TINY | {
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "image_dim": 1280,
    "added_kv_proj_dim": 5120,
    "audio_feature_dim": 768,
    "audio_dim": 2048,
    "identity_feature_dim": 512,
    "identity_dim": 2048,
    "identity_tokens": 16,
    "identity_layers": 2,
}
SIZE = (5, 8, 12)
SPEECH, TEXT, IMAGE = 36, 30, 9


@pytest.fixture(autouse=True)
def plain_attention() -> Iterator[None]:
    """PyTorch's counter knows the products of attention only where they are written out."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def counted(config: dict[str, Any], trains: Trains, checkpointing: bool, level: str) -> tuple[int, int]:
    """Operations of forward alone, and of forward and backward."""
    torch.manual_seed(0)
    model = FantasyTalkingTransformer3DModel(**config)
    if trains == "lora":
        add_lora(model, LoraSettings(4, 4.0, BACKBONE_LINEARS))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains == "all" or part_of(name) is not None or ".lora_" in name)
    if checkpointing:
        model.enable_gradient_checkpointing()
    ranges = None if level == "clip" else window_ranges(SPEECH, 4 * SIZE[0] - 3)[None]
    told = Conditions(
        torch.randn(1, TEXT, config["text_dim"]),
        torch.randn(1, IMAGE, config["image_dim"]) if config.get("image_dim") else None,
        AudioCondition(torch.randn(1, SPEECH, config["audio_feature_dim"]), ranges),
        IdentityCondition(torch.randn(1, config["identity_feature_dim"])),
        torch.rand(1, 2),
    )
    latents = torch.randn(1, config["in_channels"], *SIZE)
    with FlopCounterMode(display=False) as counter:
        loss = model(latents, torch.tensor([500.0]), told).sample.square().mean()
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops()


def by_formula(config: dict[str, Any], trains: Trains, checkpointing: bool, level: Any) -> Flops:
    image = IMAGE if config.get("image_dim") else 0
    tokens = latent_tokens(SIZE, SPEECH, TEXT, image, (1, 2, 2))
    return training_flops(config, tokens, level, trains, checkpointing, lora_rank=4)


@pytest.mark.parametrize(
    ("trains", "checkpointing", "level"),
    [
        ("all", False, "frame"),
        ("all", True, "clip"),
        ("adapter", False, "clip"),
        ("adapter", True, "frame"),
        ("lora", True, "frame"),
    ],
)
def test_the_formula_counts_what_pytorch_counts(trains: Trains, checkpointing: bool, level: str) -> None:
    forward, total = counted(TINY, trains, checkpointing, level)
    formula = by_formula(TINY, trains, checkpointing, level)
    assert formula.forward == pytest.approx(forward, rel=0.005)
    assert formula.hardware == pytest.approx(total, rel=0.005)


def test_the_formula_holds_for_the_embedded_model() -> None:
    forward, total = counted(EMBEDDED_MODEL, "all", False, "frame")
    formula = by_formula(EMBEDDED_MODEL, "all", False, "frame")
    assert formula.forward == pytest.approx(forward, rel=0.005)
    assert formula.hardware == pytest.approx(total, rel=0.005)
    one = sample_flops(EMBEDDED_MODEL, SIZE, TEXT, SPEECH, 0)
    assert one.forward == formula.forward and one.training(1.0) == formula.model
    assert one.training(0.1) < one.training(1.0)


def test_the_released_size_at_81_frames_of_512_pixels() -> None:
    tokens = tokens_of(81, 512, 512, speech=175)
    # 21 x 32 x 32 tokens; 175 / 81 tokens a frame give windows of 4 + 4 + 1 tokens, widened by 4 on both sides
    assert (tokens.video, tokens.frames, tokens.window) == (21504, 21, 17)
    flops = training_flops(RELEASED, tokens, "frame", "adapter")
    # by hand, the blocks alone: 40 (2 N d^2 6 + 4 N^2 d + 4 N d e + 4 (T + I) d^2 + ...)
    n, d, e = 21504, 5120, 13824
    main = 40 * (2 * n * d * d * 6 + 4 * n * n * d + 4 * n * d * e + 4 * 769 * d * d + 4 * n * 769 * d)
    assert flops.forward == pytest.approx(main, rel=0.02)
    # products of attention have two inputs with gradients: N^2 counts twice
    assert (flops.inputs + flops.weights) / flops.forward == pytest.approx(
        1 + 40 * 4 * n * n * d / flops.forward, rel=0.01
    )
    assert training_flops(RELEASED, tokens, "frame", "all").model == pytest.approx(3 * flops.forward, rel=0.02)
