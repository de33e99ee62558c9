"""Names of files and methods in Markdown are shown as they are, and end no cell."""

from __future__ import annotations

import pytest

from fantasytalking.reporting.markdown import markdown, markdown_cell


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", "a\\|b"),
        ("`code`", "\\`code\\`"),
        ("two\nlines", "two\\\\nlines"),
        ("<img src=x>", "\\<img src=x\\>"),
        ("**bold** ~~gone~~", "\\*\\*bold\\*\\* \\~\\~gone\\~\\~"),
        ("[here](http://x)", "\\[here\\](http://x)"),
        ("_start_ my_clip_1", "\\_start\\_ my_clip_1"),
        ("&lt; and A & B", "\\&lt; and A & B"),
        ("back\\slash", "back\\\\slash"),
        ("ours, 0.5 > 0.4", "ours, 0.5 \\> 0.4"),
    ],
)
def test_markup_of_a_name_is_text(name: str, shown: str) -> None:
    assert markdown_cell(name) == shown
    assert markdown(name) == shown.replace("\\|", "|")
