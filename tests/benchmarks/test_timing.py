from __future__ import annotations

import pytest
from timing import CPU, FIRST_STEP, STAGES, WHOLE, compared, figures


@pytest.mark.parametrize("first", [{"reading": 0.5, "loading": 5.0}, {"loading": 4.5, "reading": 5.0}])
def test_a_run_counts_from_reading_to_the_written_file_without_loading(first: dict[str, float]) -> None:
    """Before, reading was left out where it comes before loading."""
    ended = {**first, "encoding": 5.5, "sampling": 6.0, "decoding": 8.0, "writing": 9.0}
    told = {"duration": 2.0, "seconds": {stage: 0.5 for stage in STAGES}}
    rows = figures(told, ended, cpu=11.0)
    assert rows[FIRST_STEP] == 5.5 and rows[WHOLE] == (0.5 + 4.0) / 2 and rows[CPU] == 11.0
    assert rows["decoding"] == 0.25


def test_ratios_are_of_neighbouring_runs() -> None:
    assert compared([1.0, 10.0, 100.0], [0.5, 2.0, 90.0]) == (10.0, 2.0, 0.5)
    assert compared(None, [1.0, 3.0]) == (None, pytest.approx(2.0), None)
