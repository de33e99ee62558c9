from __future__ import annotations

import numpy as np
import pytest
from dubbing import psnr, summarise


def test_the_figures_are_those_of_what_is_compared() -> None:
    source = np.full((3, 4, 4, 3), 100, np.uint8)
    made = source.copy()
    made[:, :2] += 10
    upper = np.zeros((4, 4), bool)
    upper[:2] = True
    assert psnr(made, source, upper) == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    assert psnr(made, source, ~upper) > 100
    one = dict.fromkeys(("new", "old", "still_old", "spread", "still_spread", "psnr_again"), 0.4)
    found = summarise({"a": {**one, "still_new": 0.5, "psnr": 42.0}, "b": {**one, "still_new": 0.3, "psnr": 44.0}})
    assert found["new_over_still"] == pytest.approx(1.0)
    assert found["least_psnr"] == 42.0
    assert found["psnr"]["mean"] == 43.0
