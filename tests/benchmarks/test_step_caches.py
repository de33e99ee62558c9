"""The benchmark of step caches compares what it says it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from step_caches import compared, run

from tests.pipeline.tiny_pipeline import embedded_pipeline


def made(latents: list[float], pixel: int, rows: int) -> dict[str, Any]:
    frames = np.full((1, 2, 2, 3), pixel, np.uint8)
    return {"latents": torch.tensor(latents), "frames": frames, "rows": rows, "seconds": 2.0}


def test_differences_are_shares_of_the_plain_run() -> None:
    figures = compared(made([3.0, 4.0], 250, 5), made([3.0, 5.0], 255, 10))
    assert figures["work"] == 0.5 and figures["pixels"] == 5 and figures["seconds"] == 2
    assert figures["rms"] == pytest.approx((1 / 34) ** 0.5) and figures["largest"] == pytest.approx(0.2)


def test_the_work_is_that_of_all_blocks_and_passes() -> None:
    pipeline = embedded_pipeline()
    plain = run(pipeline, 0.4, 0, steps=6)
    assert plain["rows"] == 6 * 2 * 2  # steps, passes, blocks
    spared = run(pipeline, 0.4, 0, steps=6, cache="taylorseer", cache_interval=2)
    assert compared(spared, plain)["work"] == pytest.approx(4 / 6)
