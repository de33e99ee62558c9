"""The device that tests/devices runs on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.devices.pretended import pretended_device


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The pretended second device, there as long as the test runs."""
    with pretended_device() as entered:
        yield entered
