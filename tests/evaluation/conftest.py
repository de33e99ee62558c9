"""Two short talking clips, made by the embedded model, for every test that needs a face that speaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking import FantasyTalkingPipeline
from fantasytalking.evaluation.footage import Footage, load_footage
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.media.image import load_image
from fantasytalking.pipeline.folder import resolve_model

EXAMPLE = Path(str(resolve_model("demo"))) / "example"
SMALL = Protocol(name="test", longest_side=256, max_seconds=3.0, frechet_resamples=10, resamples=50)


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `calm.mp4` and `lively.mp4`: 2.6 s of the example portrait, 256 pixels, 25 frames a second, with sound."""
    folder = tmp_path_factory.mktemp("talking")
    pipeline = FantasyTalkingPipeline.from_pretrained("demo")
    for name, seed, level in (("calm", 1, 0.4), ("lively", 2, 0.9)):
        settings = {"longest_side": 256, "max_seconds": 2.6, "steps": 4, "seed": seed, "w_face": level, "w_body": level}
        # Closer than the example portrait: a face of 75 pixels.
        pipeline(load_image(EXAMPLE / "portrait.png")[:360, 50:410], EXAMPLE / "speech.wav", **settings).save(folder / f"{name}.mp4")
    return folder


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
