"""Pieces of plots."""

from __future__ import annotations

import pytest

from fantasytalking.reporting.svg import Scale, element, figure, tick_label, ticks, x_axis, y_axis


def test_content_and_attributes_of_elements_are_escaped() -> None:
    inner = element("title", '<b>"')
    assert inner == "<title>&lt;b&gt;&#34;</title>"
    assert (
        element("line", css="a", x1=1.25, y1=2, data_left='"<')
        == '<line class="a" x1="1.2" y1="2" data-left="&#34;&lt;"/>'
    )
    assert element("g", inner, "x<") == "<g><title>&lt;b&gt;&#34;</title>x&lt;</g>"


def test_a_scale_maps_linearly_and_survives_an_empty_range() -> None:
    scale = Scale(2.0, 4.0, 100, 0)
    assert [scale(v) for v in (2, 3, 4)] == [100, 50, 0]
    assert Scale(1.0, 1.0, 0, 10)(1.0) == 0


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(0, 10, ["0", "2", "4", "6", "8", "10"]), (-0.5, 0.5, ["−0.4", "−0.2", "0.0", "0.2", "0.4"])],
)
def test_ticks_are_round_and_have_the_decimals_of_their_step(low: float, high: float, labels: list[str]) -> None:
    values = ticks(low, high)
    assert [tick_label(value, values) for value in values] == labels


def test_axes_have_a_label_for_each_place_and_grid_lines_where_wanted() -> None:
    scale = Scale(0, 1, 10, 20)
    across = "".join(x_axis([(0, "a"), (1, "b")], scale, 50, 5))
    assert across.count("<text") == across.count("<line") == 2 and 'x="20.0"' in across and 'y="64"' in across
    assert "<line" not in "".join(x_axis([(0, "a")], scale, 50))
    assert "".join(y_axis([(0.5, "c")], scale, 3, 9)).count('y1="15.0"') == 1


def test_a_figure_tells_in_words_what_it_shows() -> None:
    shown = figure("T <1>", "rises", [element("line")], (40, 20), subtitle="n = 2")
    assert 'viewBox="0 0 40 20" role="img" aria-label="T &lt;1&gt;. rises"' in shown
    assert '<figcaption>T &lt;1&gt; <span class="sub">n = 2</span></figcaption>' in shown
