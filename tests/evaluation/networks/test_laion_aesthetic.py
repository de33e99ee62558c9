"""LAION's predictors on a tiny CLIP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.evaluation.metrics.registry import METRICS
from fantasytalking.evaluation.networks.laion_aesthetic import Head, load
from fantasytalking.evaluation.networks.metric_weights import WEIGHTS
from tests.evaluation.networks.random_weights import pictures

WIDTH = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=WIDTH,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("clip")
    CLIPVisionModelWithProjection(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / "linear.pth"
    torch.save(nn.Linear(WIDTH, 1).state_dict(), path)  # names as published: weight, bias
    return path


@pytest.mark.parametrize("size", [(32, 32), (70, 50), (40, 90)])
def test_pictures_are_prepared_as_transformers_prepares_them_for_clip(
    folder: Path, linear: Path, size: tuple[int, int]
) -> None:
    images = pictures(2, *size)
    network = load(folder, linear)
    found = network.embeddings(images)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with torch.no_grad():
        expected = network.clip(**processor(list(images), return_tensors="pt")).image_embeds
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found, nn.functional.normalize(expected, dim=-1).numpy(), atol=2e-3)


def test_the_linear_score_is_the_published_formula(folder: Path, linear: Path) -> None:
    network, images = load(folder, linear), pictures(3, 32, 32)
    state = torch.load(linear, weights_only=True)
    expected = network.embeddings(images) @ state["weight"].numpy()[0] + state["bias"].numpy()
    np.testing.assert_allclose(network.scores(images, batch=2), expected, atol=1e-5)


def test_the_improved_predictor_is_a_named_variant_with_its_own_file(
    folder: Path, linear: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    state = Head("improved", WIDTH).state_dict()
    assert sorted({name.rsplit(".", 1)[0] for name in state}) == [f"layers.{i}" for i in (0, 2, 4, 6, 7)]
    assert Head("improved").layers[0].weight.shape == (1024, 768)  # type: ignore[index]
    torch.save(state, tmp_path / "improved.pth")
    first = load(folder, tmp_path / "improved.pth", variant="improved").scores(pictures(2, 32, 32))
    again = load(folder, tmp_path / "improved.pth", variant="improved").scores(pictures(2, 32, 32))
    np.testing.assert_array_equal(first, again)  # no dropout
    with pytest.raises(CheckpointError, match="does not fit Head"):
        load(folder, linear, variant="improved")
    with pytest.raises(SettingsError, match="linear, improved"):
        load(folder, linear, variant="third")  # type: ignore[arg-type]


def test_vbenchs_resizing_is_another(folder: Path, linear: Path) -> None:
    images = pictures(1, 90, 90)
    smooth, rough = load(folder, linear).embeddings(images), load(folder, linear, antialias=False).embeddings(images)
    assert np.abs(smooth - rough).max() > 1e-3
    same = pictures(1, 32, 32)
    np.testing.assert_array_equal(
        load(folder, linear).embeddings(same), load(folder, linear, antialias=False).embeddings(same)
    )


def test_its_weights_are_listed() -> None:
    assert set(METRICS["aesthetic"].weights) < set(WEIGHTS)
