"""Pages: one frame, one policy, and nothing from outside that is markup."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from fantasytalking.reporting.html import finite, number, plural, render, render_page
from fantasytalking.system.printable_text import printable

HOSTILE = "<script>alert('\"')</script>&\n\x1b[31m.mp4"


def template(folder: Path, content: str) -> Path:
    path = folder / "page.html"
    path.write_text(content)
    return path


def test_values_are_escaped_and_shown_on_one_line(tmp_path: Path) -> None:
    shown = render(template(tmp_path, '<p title="{{ name }}">{{ name }}</p>'), name=HOSTILE)
    assert shown.count("&lt;script&gt;alert(&#39;&#34;&#39;)&lt;/script&gt;&amp;\\n\\x1b[31m.mp4") == 2
    assert "\n" not in shown and "\x1b" not in shown


def test_what_is_markup_already_is_taken_as_it_is(tmp_path: Path) -> None:
    inner = render(template(tmp_path, "<b>{{ name }}</b>"), name="<i>")
    assert render(template(tmp_path, "<p>{{ inner }}</p>"), inner=inner) == Markup("<p><b>&lt;i&gt;</b></p>")


def test_a_name_that_the_template_uses_and_nobody_gave_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render(template(tmp_path, "{{ title }}"))


def test_hostile_cells_captions_and_columns_of_tables_stay_text(tmp_path: Path) -> None:
    content = (
        '{% import "tables.html" as tables %}{{ tables.table(name, [name], [[name, 1]]) }}{{ tables.missing(name) }}'
    )
    shown = render(template(tmp_path, content), name=HOSTILE)
    assert "<script>" not in shown and shown.count("&lt;script&gt;") == 5
    assert '<th scope="row">' in shown and "<td>1</td>" in shown


def test_the_policy_of_a_page_allows_its_own_style_and_script_alone(tmp_path: Path) -> None:
    path = template(tmp_path, '{% extends "frame.html" %}{% block title %}{{ name }}{% endblock %}')
    sections = [("a", "First")]
    shown = render_page(
        path, sections, style=".x { color: red; }", script="run();", sources="img-src data:", name=HOSTILE
    )
    style = shown.split("<style>")[1].split("</style>")[0]
    assert style.endswith(".x { color: red; }")
    for kind, code in (("style", style), ("script", "run();")):
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind}-src &#39;sha256-{digest}&#39;" in shown
    assert "default-src &#39;none&#39;; img-src data:;" in shown and "unsafe" not in shown
    assert shown.count("<script>") == 1 and '<a href="#a">First</a>' in shown
    assert "<script>" not in render_page(path, sections, name="plain")


def test_numbers_have_fixed_decimals_and_a_true_minus_sign() -> None:
    assert [number(v, 2) for v in (1.005, -0.5, -0.001, None, float("nan"))] == ["1.00", "−0.50", "0.00", "–", "–"]
    assert finite(True) is None and finite("1") is None and finite(2) == 2.0
    assert (
        plural(1, "clip") == "1 clip"
        and plural(0, "clip") == "0 clips"
        and plural(2, "proxy", "proxies") == "2 proxies"
    )
    assert printable("caf\udce9") == "caf\\udce9"
