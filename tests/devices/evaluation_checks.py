"""What the networks of the evaluation must do on a device: the CPU's numbers. Shared by tests/devices and tests/gpu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
    ViTConfig,
    ViTModel,
)

from fantasytalking.evaluation.networks.deep3d import Deep3D, Regressor
from fantasytalking.evaluation.networks.dino import Dino
from fantasytalking.evaluation.networks.inception import Inception, InceptionFeatures
from fantasytalking.evaluation.networks.laion_aesthetic import Aesthetic, Head
from fantasytalking.evaluation.networks.raft import Raft
from fantasytalking.evaluation.networks.sam import Sam
from fantasytalking.evaluation.networks.syncnet import SyncNet, SyncNetwork
from tests.evaluation.networks.random_weights import pictures, randomise
from tests.evaluation.networks.test_raft import Difference

__all__ = ["NETWORKS", "measure_as_on_the_cpu"]

SMALL: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}


def aesthetic(device: torch.device) -> NDArray[Any]:
    config = CLIPVisionConfig(hidden_size=16, intermediate_size=32, image_size=32, projection_dim=12, **SMALL)
    network = Aesthetic(CLIPVisionModelWithProjection(config).to(device), Head("linear", 12).to(device))
    return network.scores(pictures(2, 40, 50), batch=1)


def dino(device: torch.device) -> NDArray[Any]:
    config = ViTConfig(hidden_size=24, intermediate_size=48, image_size=32, **SMALL)
    return Dino(ViTModel(config, add_pooling_layer=False).eval().to(device)).features(pictures(2, 40, 32))


def expressions(device: torch.device) -> NDArray[Any]:
    meshes = np.random.default_rng(0).uniform(30, 70, (1, 468, 3))
    network = randomise(Regressor())
    assert isinstance(network, Regressor)
    return Deep3D(network.to(device)).expressions(pictures(1, 120, 100), meshes)


def inception(device: torch.device) -> NDArray[Any]:
    network = randomise(Inception()).to(device)
    assert isinstance(network, Inception)
    kinds: Any = ("pytorch-fid", "torch-fidelity")
    return np.stack([InceptionFeatures(network, kind).features(pictures(1, 40, 60), side=75) for kind in kinds])


def masks(device: torch.device) -> NDArray[Any]:
    vision = SamVisionConfig(
        hidden_size=16, output_channels=16, image_size=64, global_attn_indexes=[1], mlp_dim=32, window_size=4,
        num_pos_feats=8, **SMALL,
    )  # fmt: skip
    prompt = SamPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=8, mask_input_channels=4)
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    decoder = SamMaskDecoderConfig(hidden_size=16, mlp_dim=32, **heads)
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    return Sam(SamModel(config).eval().to(device)).masks(pictures(1, 60, 80), [(30.0, 10.0, 50.0, 34.0)])


def flows(device: torch.device) -> NDArray[Any]:
    return np.stack(list(Raft(Difference(), device).flows(pictures(3, 61, 203))))


def sync(device: torch.device) -> NDArray[Any]:
    network = randomise(SyncNetwork()).to(device)
    assert isinstance(network, SyncNetwork)
    sound = np.random.default_rng(0).standard_normal(640 * 6) * 0.1
    return np.stack([SyncNet(network).mouth(pictures(6, 224, 224)), SyncNet(network).speech(sound)])


NETWORKS: dict[str, Callable[[torch.device], NDArray[Any]]] = {
    function.__name__: function for function in (aesthetic, dino, expressions, inception, masks, flows, sync)
}


def measure_as_on_the_cpu(device: torch.device, name: str) -> None:
    """One of `NETWORKS`, with the same random weights on both."""
    found, wanted = (_seeded(NETWORKS[name], place) for place in (device, torch.device("cpu")))
    assert found.shape == wanted.shape
    if wanted.dtype == bool:
        assert (found == wanted).mean() > 0.99
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(np.abs(wanted).max()))


def _seeded(measure: Callable[[torch.device], NDArray[Any]], device: torch.device) -> NDArray[Any]:
    torch.manual_seed(0)
    return measure(device)
