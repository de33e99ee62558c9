"""SAM's module with a tiny SAM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from fantasytalking.errors import CheckpointError, InputError
from fantasytalking.evaluation.networks.sam import Sam, load, person_box
from tests.evaluation.networks.random_weights import pictures

FACE = (30.0, 10.0, 50.0, 34.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    vision = SamVisionConfig(
        hidden_size=16, output_channels=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=8,
        global_attn_indexes=[1], mlp_dim=32, window_size=4, num_pos_feats=8,
    )  # fmt: skip
    prompt = SamPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=8, mask_input_channels=4)
    decoder = SamMaskDecoderConfig(
        hidden_size=16, mlp_dim=32, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
    )
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    path = tmp_path_factory.mktemp("sam")
    SamModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def network(folder: Path) -> Sam:
    return load(folder)


def test_the_box_of_a_person_reaches_from_above_the_hair_to_the_lower_edge() -> None:
    assert person_box((40, 30, 60, 50), 200, 120) == (10, 16, 90, 119)
    assert person_box((0, 2, 60, 50), 100, 120) == (0, 0, 99, 119)


@pytest.mark.parametrize("size", [(48, 80), (80, 48), (64, 64)])
def test_a_mask_is_what_transformers_own_preparation_gives(network: Sam, size: tuple[int, int]) -> None:
    frame = pictures(1, 12, 12).repeat(7, 1).repeat(7, 2)[:, : size[0], : size[1]]
    mask = network.masks(frame, [FACE])
    assert mask.shape == (1, *size) and mask.dtype == bool
    processor = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    made = processor(frame[0], return_tensors="pt")
    planes, small = network._planes(frame[0])
    assert tuple(made["reshaped_input_sizes"][0].tolist()) == small
    torch.testing.assert_close(planes, made["pixel_values"], atol=2e-2, rtol=0)
    scale = torch.tensor([small[1] / size[1], small[0] / size[0]])
    box = (torch.tensor(person_box(FACE, size[1], size[0])).view(2, 2) * scale).view(1, 1, 4)
    point = (torch.tensor([40.0, 22.0]) * scale).view(1, 1, 1, 2)
    with torch.no_grad():
        logits = network.network(
            pixel_values=made["pixel_values"], input_boxes=box, input_points=point, input_labels=torch.ones(1, 1, 1, dtype=torch.int64),
            multimask_output=False,
        ).pred_masks  # fmt: skip
    expected = processor.post_process_masks(logits, made["original_sizes"], made["reshaped_input_sizes"])[0][
        0, 0
    ].numpy()
    assert (mask[0] == expected).mean() > 0.98


def test_a_stride_repeats_masks_in_time(network: Sam) -> None:
    frames = pictures(5, 40, 40)
    faces = [(10.0, 5.0, 25.0, 20.0)] * 5
    every, third = network.masks(frames, faces), network.masks(frames, faces, stride=3)
    np.testing.assert_array_equal(third[[0, 3]], every[[0, 3]])
    np.testing.assert_array_equal(third[[1, 2, 4]], third[[0, 0, 3]])


def test_what_does_not_fit_is_refused(network: Sam, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="face box for each of 2 frames"):
        network.masks(pictures(2, 40, 40), [FACE])
    with pytest.raises(CheckpointError, match="fetch it again"):
        load(tmp_path)
