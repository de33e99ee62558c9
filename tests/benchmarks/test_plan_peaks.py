"""The benchmark of memory plans, on a model of a few kilobytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import plan_peaks
import pytest

from tests.pipeline.tiny_pipeline import wan_pipeline

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="private memory is read from /proc")


@pytest.mark.slow
def test_expected_and_measured_peak_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wan_pipeline().save_pretrained(tmp_path / "model")
    words = ["--folder", tmp_path / "model", "--runs", "high", "--json", tmp_path / "peaks.json", "--dtype", "float32"]
    monkeypatch.setattr(sys, "argv", ["plan_peaks.py", *map(str, words)])
    code = plan_peaks.main()
    record = json.loads((tmp_path / "peaks.json").read_text())
    (peak,) = record["peaks"]
    assert (record["benchmark"], peak["run"], peak["dtype"]) == ("plan_peaks", "high", "float32")
    assert 0.2 < peak["measured_gib"] < 8 and peak["expected_gib"] > 0.2
    # rounded to two decimals each, of which the share is worked out before
    assert peak["off"] == pytest.approx(peak["measured_gib"] / peak["expected_gib"] - 1, abs=0.03)
    # of a model of nothing, what is expected are the libraries
    assert code == 0 and record["within_bound"], peak
    assert (
        f"| high | float32 | {peak['expected_gib']:.2f} GiB | {peak['measured_gib']:.2f} GiB |"
        in capsys.readouterr().out
    )
