"""Training on a device that is not the CPU: a tensor that is left behind is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.devices.training_checks import CHECKS


@pytest.mark.parametrize("recipe", CHECKS)
def test_a_recipe_trains_validates_and_resumes_on_the_device(recipe: str, device: torch.device, tmp_path: Path) -> None:
    CHECKS[recipe](device, tmp_path, "no")
