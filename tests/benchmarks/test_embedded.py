from __future__ import annotations

import pytest
from embedded import STAGES, Measured, peak_bytes, summarise


def run(sampling: float, peak: int) -> dict[str, object]:
    seconds = {stage: 1.0 for stage in STAGES} | {"sampling": sampling}
    video = {"duration": 2.0, "width": 64, "height": 48}
    return {
        "seconds": seconds,
        "memory": {"sampling": peak},
        "peak": peak,
        "wall": sum(seconds.values()),
        "video": video,
    }


def test_figures_are_medians_and_loading_is_not_generating() -> None:
    result = summarise([run(1.0, 10**6), run(3.0, 3 * 10**6), run(50.0, 2 * 10**6)])
    assert result["stages"]["sampling"]["seconds"] == 3.0
    assert result["stages"]["sampling"]["memory_mb"] == 2.0
    assert result["stages"]["decoding"]["memory_mb"] is None
    assert result["seconds_per_second"] == pytest.approx((3.0 + 4.0) / 2)
    assert result["seconds_per_second_with_loading"] == pytest.approx((3.0 + 6.0) / 2)
    assert result["peak_memory_mb"] == 2.0
    assert result["within_limit"]


def test_a_stage_knows_its_time_and_memory() -> None:
    progress = Measured(interval=0.001)
    with progress.stage("sampling"):
        filled = bytearray(1000)
    assert len(filled) == 1000
    assert progress.seconds["sampling"] > 0
    assert peak_bytes() >= progress.memory.get("sampling", 0)
