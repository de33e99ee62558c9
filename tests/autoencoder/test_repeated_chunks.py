"""The black frames behind the portrait are not encoded again and again, and the latents are the same, bit for bit."""

from __future__ import annotations

import pytest
import torch
from accelerate import cpu_offload
from diffusers import AutoencoderKLWan
from torch import nn

from fantasytalking.autoencoder import Reference, WanAutoencoder

FRAMES, SIDE = 81, 32
CHUNKS = 21


def released_layout() -> AutoencoderKLWan:
    """The layers of Wan2.1's VAE, three channels wide: what counts is how far each looks back."""
    torch.manual_seed(0)
    return AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2).eval()


def with_black_end(portrait: torch.Tensor, frames: int = FRAMES) -> torch.Tensor:
    video = torch.zeros(1, 3, frames, *portrait.shape[-2:])
    video[:, :, 0] = portrait
    return video


@pytest.mark.parametrize(("tiling", "frames"), [(False, FRAMES), (True, 25)])
@torch.no_grad()
def test_the_condition_equals_that_of_encoding_every_frame(tiling: bool, frames: int) -> None:
    vae = released_layout()
    if tiling:
        vae.enable_tiling(SIDE, SIDE, SIDE // 2, SIDE // 2)
    portrait = torch.rand(1, 3, SIDE, 2 * SIDE if tiling else SIDE) * 2 - 1
    made = WanAutoencoder(vae)
    for _ in range(2):
        condition = made.condition(Reference(portrait), frames)
        assert torch.equal(condition[:, 4:], made.encode(with_black_end(portrait, frames)))


@torch.no_grad()
def test_layers_run_only_as_far_as_the_portrait_reaches_into_them() -> None:
    vae = released_layout()
    calls: dict[str, int] = {}

    def count(name: str) -> None:
        calls[name] = calls.get(name, 0) + 1

    for name, layer in (*vae.encoder.down_blocks.named_children(), ("mid", vae.encoder.mid_block)):
        inner = next(m for m in layer.modules() if isinstance(m, nn.Conv3d | nn.Conv2d))
        inner.register_forward_hook(lambda *_, name=name: count(name))
    WanAutoencoder(vae).condition(Reference(torch.rand(1, 3, SIDE, SIDE)), FRAMES)
    runs = list(calls.values())
    assert len(runs) == 12 and runs == sorted(runs)
    assert max(runs[:2]) <= 5 and max(runs[:6]) <= 7 and runs[-1] == CHUNKS


@torch.no_grad()
def test_the_portrait_reaches_every_latent_frame_so_none_of_them_is_a_constant() -> None:
    made = WanAutoencoder(released_layout())
    one, other = (made.condition(Reference(torch.full((1, 3, SIDE, SIDE), grey)), FRAMES)[:, 4:] for grey in (-1, 1))
    assert (one - other).abs().amax((0, 1, 3, 4)).min() > 1e-4


@torch.no_grad()
def test_weights_that_wait_elsewhere_make_the_same_condition() -> None:
    portrait = torch.rand(1, 3, SIDE, SIDE)
    expected = WanAutoencoder(released_layout()).condition(Reference(portrait), FRAMES)
    for by_groups in (True, False):
        vae = released_layout()
        if by_groups:
            vae.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
        else:
            cpu_offload(vae, torch.device("cpu"))
        assert torch.equal(WanAutoencoder(vae).condition(Reference(portrait), FRAMES), expected)


@torch.no_grad()
def test_an_error_leaves_the_encoder_as_it_was() -> None:
    vae = released_layout()
    with pytest.raises(RuntimeError):
        WanAutoencoder(vae).condition(Reference(torch.rand(1, 4, SIDE, SIDE)), 5)
    assert not any("forward" in layer.__dict__ for layer in vae.encoder.down_blocks)
