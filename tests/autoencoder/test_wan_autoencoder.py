"""Wan's VAE behind our interface, against diffusers' own image-to-video pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline

from fantasytalking.autoencoder import Beginning, Reference, WanAutoencoder, to_uint8
from tests.pipeline.tiny_pipeline import wan_vae


def images(batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("num_frames", [5, 9])
@torch.no_grad()
def test_the_condition_is_the_one_of_diffusers_image_to_video_pipeline(num_frames: int) -> None:
    vae = wan_vae()
    theirs = WanImageToVideoPipeline(
        tokenizer=None, text_encoder=None, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler()
    )
    _, expected = theirs.prepare_latents(
        images(), 1, 16, 32, 48, num_frames, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(0)
    )
    ours = WanAutoencoder(vae).condition(Reference(images()), num_frames)
    assert ours.shape == expected.shape == (1, 20, (num_frames - 1) // 4 + 1, 4, 6)
    assert torch.equal(ours[:, :4], expected[:, :4])
    assert torch.allclose(ours, expected, atol=1e-5)


@torch.no_grad()
def test_a_video_has_the_latent_shape_that_is_promised_and_comes_back_at_its_size() -> None:
    made = WanAutoencoder(wan_vae())
    video = torch.rand(2, 3, 5, 32, 48) * 2 - 1
    latents = made.encode(video)
    assert latents.shape == (2, *made.latent_shape(5, 32, 48)) == (2, 16, 2, 4, 6)
    back = made.decode(latents)
    assert back.shape == video.shape
    assert back.abs().max() <= 1
    frames = list(made.decode_frames(latents[:1]))
    assert [f.shape for f in frames] == [(32, 48, 3)] * 5


@torch.no_grad()
def test_latents_are_normalised_by_the_statistics_of_the_config() -> None:
    vae = wan_vae()
    raw = vae.encode(images()[:, :, None]).latent_dist.mode()
    mean, std = (torch.tensor(vae.config[f"latents_{name}"]).view(1, -1, 1, 1, 1) for name in ("mean", "std"))
    assert torch.allclose(WanAutoencoder(vae).encode(images()[:, :, None]) * std + mean, raw, atol=1e-5)


@torch.no_grad()
def test_a_continued_video_is_conditioned_on_all_given_frames() -> None:
    made = WanAutoencoder(wan_vae())
    previous = torch.rand(1, 3, 5, 32, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
    condition = made.condition(Reference(images()), 13, Beginning(previous, made.encode(previous)))
    assert condition[:, :4, :2].min() == 1 and condition[:, :4, 2:].abs().max() == 0
    # the VAE is causal: what comes after does not change the latents of the given frames
    assert torch.allclose(condition[:, 4:, :2], made.encode(previous), atol=1e-5)


def test_nothing_is_added_to_what_wan_sampled() -> None:
    latents = torch.randn(1, 16, 3, 4, 6, generator=torch.Generator().manual_seed(3))
    assert torch.equal(WanAutoencoder(wan_vae()).enliven(latents, 5, 1.0, 0), latents)


@torch.no_grad()
def test_frames_decoded_in_turn_are_those_decoded_at_once_also_while_something_is_encoded() -> None:
    made = WanAutoencoder(wan_vae())
    latents = torch.randn(1, 16, 5, 4, 6, generator=torch.Generator().manual_seed(3))
    expected = to_uint8(made.decode(latents)[0].movedim(1, 0))
    frames = []
    for frame in made.decode_frames(latents):
        frames.append(frame)
        made.encode(images()[:, :, None])
    assert np.abs(np.stack(frames).astype(int) - expected).max() <= 1


@torch.no_grad()
def test_a_long_video_is_decoded_with_tiles_too() -> None:
    made = WanAutoencoder(wan_vae())
    latents = torch.randn(1, 16, 24, 4, 6, generator=torch.Generator().manual_seed(4))
    usual = np.stack(list(made.decode_frames(latents)))
    made.vae.enable_tiling(
        tile_sample_min_height=16, tile_sample_min_width=16, tile_sample_stride_height=8, tile_sample_stride_width=8
    )
    tiled = np.stack(list(made.decode_frames(latents)))
    assert tiled.shape == usual.shape == (93, 32, 48, 3)
    made.vae.disable_tiling()
    stretches = np.stack(list(made._decode_stretches(latents)))
    assert np.abs(stretches[:65].astype(int) - usual[:65]).max() <= 1
    # no seam: random weights decode the next stretch otherwise, and the two are cross-faded
    changes = np.abs(np.diff(stretches.astype(int), axis=0)).mean((1, 2, 3))
    assert changes[64:82].max() < 1.3 * np.median(changes)
