"""The checks of tests/devices for real: training, generation, evaluation and parity on a GPU, in float32 and in bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.devices import evaluation_checks, generation_checks, parity_checks, training_checks

pytestmark = pytest.mark.gpu
IN_FLOAT32_ONLY = {"painter", "lip-sync"}


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [
        (recipe, precision)
        for recipe in training_checks.CHECKS
        for precision in ("no", "bf16")
        if precision == "no" or recipe not in IN_FLOAT32_ONLY
    ],
)
def test_a_recipe_trains_validates_and_resumes_on_the_gpu(
    recipe: str, precision: str, device: torch.device, tmp_path: Path
) -> None:
    training_checks.CHECKS[recipe](device, tmp_path, precision)


@pytest.mark.parametrize("name", generation_checks.CASES)
def test_generation_on_the_gpu_gives_the_frames_of_the_cpu(name: str, device: torch.device) -> None:
    generation_checks.generate_as_on_the_cpu(device, name)


@pytest.mark.parametrize("name", generation_checks.CHECKS)
def test_on_the_gpu_as_on_the_cpu(name: str, device: torch.device) -> None:
    generation_checks.CHECKS[name](device)


@pytest.mark.parametrize("name", generation_checks.GPU_CHECKS)
def test_what_only_a_gpu_can_do(name: str, device: torch.device) -> None:
    generation_checks.GPU_CHECKS[name](device)


@pytest.mark.parametrize("network", evaluation_checks.NETWORKS)
def test_a_network_of_the_evaluation_on_the_gpu_gives_the_numbers_of_the_cpu(
    network: str, device: torch.device
) -> None:
    evaluation_checks.measure_as_on_the_cpu(device, network)


@pytest.mark.parametrize("dtype", parity_checks.TOLERANCES, ids=str)
def test_the_released_codes_numbers_are_met_on_the_gpu(dtype: torch.dtype, device: torch.device) -> None:
    found = parity_checks.distances(device, dtype)
    assert {name: distance for name, distance in found.items() if distance > parity_checks.TOLERANCES[dtype]} == {}
