from __future__ import annotations

import pytest
from motion_intensity import VALUES, series


def test_means_rise_although_one_portrait_does_not() -> None:
    curves = {"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [1.0, 0.5, 2.0, 3.0, 4.0]}
    measured = {(v, 0.5): {name: [curve[i], 7.0] for name, curve in curves.items()} for i, v in enumerate(VALUES)}
    found = series(measured, "w_face")
    assert found["expression motion"]["mean"] == pytest.approx([1, 1.25, 2.5, 3.5, 4.5])
    assert found["head motion"]["mean"] == [7.0] * 5
    assert found["monotone"]
    assert found["portraits_monotone"] == 1
    assert found["ratio_of_ends"] == pytest.approx(4.5)


def test_w_body_is_judged_by_head_motion() -> None:
    measured = {(0.5, v): {"a": [9.0 - i, float(i + 1)]} for i, v in enumerate(VALUES)}
    found = series(measured, "w_body")
    assert found["monotone"]
    assert found["expression motion"]["mean"][0] == 9.0
