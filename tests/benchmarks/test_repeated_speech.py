from __future__ import annotations

import numpy as np
import pytest
from repeated_speech import figures, rows_of, takes_of


def test_a_change_over_the_takes_is_given_with_its_interval() -> None:
    time = np.sin(np.linspace(0, 20, 100))
    seeds = []
    for scale in (1.0, 1.1, 0.9):
        takes = takes_of(np.concatenate([scale * time, 1.2 * scale * time]), 2)
        seeds.append(figures(takes, time))
    assert seeds[0]["articulation"] == pytest.approx([time.std(), 1.2 * time.std()])
    assert seeds[0]["r to the true mouth"] == pytest.approx([1, 1]) == seeds[0]["r to the other takes"]
    rows = {row[:2]: row[2:] for row in rows_of(seeds)}
    mean, change = rows["articulation", 2]
    assert float(mean.split()[0]) == pytest.approx(1.2 * time.std(), abs=1e-4)
    assert change.startswith("+20.0 +- ") and rows["articulation", 1][1] == "-"
