"""Expectations are judged by interval and direction, whichever way round the report compares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fantasytalking.evaluation.benchmark.benchmark_manifest import Order, Same
from fantasytalking.evaluation.benchmark.expectations import judge, save_trends, trend_table
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.results import Column, Comparison, Method, Report, Summary


def report(*comparisons: Comparison, mean: float | None = None) -> Report:
    rows = (Method("b", "method", "", {}, {"sd": Summary(mean)}),)
    column = Column("sd", "flow-speed", "SD", True, "neither", "px", 3, "mean", "of a test")
    return Report("now", "", Protocol().to_dict(), {}, {}, (column,), rows, comparisons, (), (), "", 0.0)


def compared(
    difference: float, low: float | None, high: float | None, first: str = "a", second: str = "b"
) -> Comparison:
    return Comparison("sd", first, second, difference, low, high, None, 5)


@pytest.mark.parametrize(
    ("difference", "low", "high", "verdict"),
    [
        (1.0, 0.2, 1.8, "holds"),
        (1.0, -0.2, 2.2, "right direction, not significant"),
        (1.0, None, None, "right direction, not significant"),
        (0.0, 0.0, 0.0, "no difference"),
        (-0.5, -1.5, 0.5, "no difference"),
        (-1.0, -1.8, -0.2, "contradicted"),
    ],
)
def test_an_order(difference: float, low: float | None, high: float | None, verdict: str) -> None:
    order = Order("a is more", "sd", "a", "b")
    assert judge([order], report(compared(difference, low, high)))[0].verdict == verdict
    # the same numbers, compared the other way round
    turned = compared(-difference, None if high is None else -high, None if low is None else -low, "b", "a")
    found = judge([order], report(turned))[0]
    assert (found.verdict, found.difference, found.low, found.high) == (verdict, difference, low, high)


@pytest.mark.parametrize(
    ("difference", "low", "high", "verdict"),
    [
        (0.1, -0.2, 0.4, "holds"),
        (0.1, -0.6, 0.8, "right direction, not significant"),
        (0.1, None, None, "right direction, not significant"),
        (0.7, 0.3, 1.1, "undecided"),
        (-0.9, -1.2, -0.6, "contradicted"),
    ],
)
def test_a_sameness(difference: float, low: float | None, high: float | None, verdict: str) -> None:
    assert judge([Same("alike", "sd", ("a", "b"), 0.5)], report(compared(difference, low, high)))[0].verdict == verdict


def test_a_share_is_of_the_second_methods_mean() -> None:
    same = Same("alike", "sd", ("a", "b"), "10 %")
    assert judge([same], report(compared(0.3, 0.1, 0.4), mean=5.0))[0].verdict == "holds"
    assert judge([same], report(compared(0.3, 0.1, 0.4), mean=0.5))[0].verdict == "contradicted"
    found = judge([same], report(compared(0.3, 0.1, 0.4)))[0]
    assert (found.verdict, found.expected) == ("not measured", "|a - b| <= 10 %")


def test_what_the_report_does_not_compare_is_not_measured() -> None:
    found = judge(
        [Order("a is more", "idc", "a", "b"), Order("c is more", "sd", "c", "a")], report(compared(1, 0.5, 2))
    )
    assert [t.verdict for t in found] == ["not measured", "not measured"]
    assert found[0].difference is None


def test_trends_are_written_as_json_and_as_a_table(tmp_path: Path) -> None:
    trends = judge(
        [Order("a is more", "sd", "a", "b"), Same("alike", "sd", ("a", "b"), 2)], report(compared(1, 0.5, 1.5))
    )
    save_trends(trends, tmp_path)
    table = (tmp_path / "trends.md").read_text()
    assert table == trend_table(trends) + "\n"
    assert "| a is more | flow-speed, px | a \\> b | +1 (+0.5 to +1.5) | 5 | holds |" in table
    assert all(line.replace("\\|", "").count("|") == 7 for line in table.splitlines())
    assert [row["verdict"] for row in json.loads((tmp_path / "trends.json").read_text())] == ["holds", "holds"]


def test_a_claim_is_text_in_the_table_whatever_it_holds(tmp_path: Path) -> None:
    claim = "a | b `x` <img src=y>\n| c"
    save_trends(judge([Order(claim, "sd", "a", "b")], report(compared(1, 0.5, 1.5))), tmp_path)
    lines = (tmp_path / "trends.md").read_text().splitlines()
    assert len(lines) == 3 and lines[2].replace("\\|", "").count("|") == 7
    assert lines[2].startswith("| a \\| b \\`x\\` \\<img src=y\\>\\\\n\\| c |")
    assert json.loads((tmp_path / "trends.json").read_text())[0]["claim"] == claim
    save_trends([], tmp_path)
    assert not list(tmp_path.iterdir()), "the verdicts of an earlier run are not those of this one"
