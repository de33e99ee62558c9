"""The two talking clips of the tests, read, and the protocol by which they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.evaluation.footage import Footage, load_footage
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.media.image import load_image
from fantasytalking.pipeline.model_names import embedded_folder

EXAMPLE = embedded_folder() / "example"
SMALL = Protocol(name="test", longest_side=256, max_seconds=3.0, frechet_resamples=10, resamples=50)


@pytest.fixture(scope="session")
def calm(talking: Path) -> Footage:
    """The first of them, read."""
    return load_footage(talking / "calm.mp4", SMALL)


@pytest.fixture(scope="session")
def lively(talking: Path) -> Footage:
    """The second of them, read."""
    return load_footage(talking / "lively.mp4", SMALL)


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """The example portrait, uint8 [512, 512, 3]."""
    return load_image(EXAMPLE / "portrait.png")
