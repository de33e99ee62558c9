"""Each damage does what its name says, and the table counts what was read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from watermark import DAMAGES, Cut, alarms_told, false_alarms, measure, summary, unmarked_windows

from fantasytalking.media.video import write_video
from tests.pipeline.tiny_pipeline import portrait

FRAMES = [np.roll(portrait(320), step, axis=1) for step in range(6)]


@pytest.mark.parametrize("what", DAMAGES)
def test_each_damage_gives_frames_of_the_size_that_its_name_says(what: str) -> None:
    frames = DAMAGES[what](FRAMES)
    side = 240 if what.startswith("75") else 160 if what.startswith("50") else 288 if "cut off" in what else 320
    if what == "screen recorded":
        assert (len(frames), frames[0].shape) == (7, (362, 330, 3))
        return
    assert (len(frames), frames[0].shape) == (6, (side, side, 3))
    if what.startswith("brightness"):
        assert np.mean(frames) > 1.1 * np.mean(FRAMES)


def test_the_table_counts_what_was_read() -> None:
    records = measure(iter([("one", FRAMES)]), 1, ["CRF 18", "CRF 33"], 1.1)
    told = summary(records, ["CRF 18", "CRF 33"])
    assert "| 100.0% | 100.0% | 0.0% |" in next(line for line in told.splitlines() if line.startswith("| CRF 18 "))
    assert "1 clips, PSNR 4" in told
    assert "false alarms in 1 unmarked readings: 0 at 0.001" in told


def test_windows_without_a_mark_are_spread_over_a_clip_and_read(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "one.mp4", [FRAMES[step % 6][:96, :96] for step in range(40)], 25)
    windows = list(unmarked_windows(tmp_path, 2))
    assert [(name, len(frames)) for name, frames in windows] == [("one", 16), ("one", 16)]
    told = false_alarms(iter(windows), tmp_path / "chances.txt")
    assert told.startswith("2 windows of 1 clips without a mark: 0 at 0.001 (0.00%, 0.00% to 84.19%)")


def test_shares_of_false_alarms_have_exact_intervals() -> None:
    # 3 of 1,000: Clopper and Pearson's interval, as tables give it
    assert "3 at 0.001 (0.30%, 0.06% to 0.87%)" in alarms_told([5e-4] * 3 + [0.5] * 997)


def test_the_middle_of_a_picture_has_its_size_or_less() -> None:
    assert Cut().middle(np.zeros((448, 400, 3), np.uint8)).shape == (320, 320, 3)
    assert Cut().middle(np.zeros((288, 360, 3), np.uint8)).shape == (288, 320, 3)
