"""DINO's module with a tiny ViT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTModel

from fantasytalking.errors import CheckpointError
from fantasytalking.evaluation.networks.dino import load
from tests.evaluation.networks.random_weights import pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8
    )
    path = tmp_path_factory.mktemp("dino")
    ViTModel(config, add_pooling_layer=False).save_pretrained(path)
    return path


def test_the_vector_is_the_class_token_of_the_normalised_picture(folder: Path) -> None:
    images = pictures(3, 32, 32)
    found = load(folder).features(images, batch=2)
    model = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    values = (torch.from_numpy(images).float() / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    with torch.no_grad():
        expected = model(pixel_values=values.permute(0, 3, 1, 2)).last_hidden_state[:, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_other_sizes_are_resized_and_small_changes_stay_small(folder: Path) -> None:
    network, image = load(folder), pictures(1, 8, 8).repeat(8, 1).repeat(8, 2)
    whole, half = network.features(image)[0], network.features(image[:, ::2, ::2])[0]
    other = network.features(pictures(1, 64, 64, seed=5))[0]
    assert np.linalg.norm(whole - half) < 0.3 * np.linalg.norm(whole - other)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="fetch it again"):
        load(tmp_path)
