"""Help texts in `--help` of every command: whole sentences, wrapped where a line is full and nowhere else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_type_hints

import pytest
import tyro

from fantasytalking.cli.option_help import help_in_one_line
from tests.command_help import PAGES, help_page, help_text

WRITTEN = [words for words in PAGES if words != ("train",)]
"""Pages of options; the overview of recipes is a table."""
WIDTH = 78
"""Columns of a page without its frame."""


def broken_lines(page: str) -> Iterator[tuple[str, str]]:
    """Neighbouring lines of one help text, the first of which has room for the first word of the second."""
    lines = [re.sub(r"^[│|]|[│|]$", " ", line).rstrip() for line in page.splitlines()]
    for above, below in itertools.pairwise(lines):
        column, word = len(below) - len(below.lstrip()), below.split()[:1]
        if not word or column < 10 or word[0].startswith("--"):
            continue
        if re.match(r"  [-[]", above) and not re.search(r"\S {2,}\S", above):
            continue  # names of an option, which fill a line of their own
        if len(above) > column and len(f"{above} {word[0]}") <= WIDTH:
            yield above.strip(), below.strip()


@pytest.mark.parametrize("words", WRITTEN, ids=" ".join)
def test_no_line_of_a_help_text_breaks_off_before_it_is_full(words: tuple[str, ...]) -> None:
    assert not list(broken_lines(help_page(*words)))


@pytest.mark.parametrize("words", WRITTEN, ids=" ".join)
def test_every_help_text_ends_with_its_sentence(words: tuple[str, ...]) -> None:
    """What follows is the default, at most after a unit."""
    texts = re.findall(r"(\S+)(?: \([^()]*\))? ?\((?:default:|required)", help_text(*words))
    assert [text for text in texts if not re.search(r"[.!?][)'\"]?$", text)] == []


@pytest.mark.parametrize("words", [words for words in WRITTEN if words[0] != "train"], ids=" ".join)
def test_an_option_without_a_default_shows_none(words: tuple[str, ...]) -> None:
    """The fields of recipes, each of which has a value, are apart."""
    shown = help_text(*words)
    assert "(default: None)" not in shown and "{None}" not in shown


@dataclass(frozen=True)
class Inner:
    """A group."""

    size: Literal["small", "large"] = "small"
    """How large it is: small
    or large."""


@dataclass(frozen=True)
class Outer:
    """Options."""

    name: Annotated[str, tyro.conf.arg(help="Its own.")] = "x"
    """Not this."""
    rate: Annotated[int, tyro.conf.arg(name="samples")] = 1
    """Samples
    a second."""
    bare: int = 0
    inner: Inner = field(default_factory=Inner)
    """What is
    inside."""


def helps(kind: type) -> dict[str, str]:
    hints = get_type_hints(kind, include_extras=True)
    found = {
        name: [marker.help for marker in getattr(hint, "__metadata__", ()) if marker.help]
        for name, hint in hints.items()
    }
    return {name: texts[-1] for name, texts in found.items() if texts}


def test_docstrings_are_one_line_while_help_is_shown_and_annotations_are_as_they_were_after_it() -> None:
    with help_in_one_line(Outer):
        assert helps(Outer) == {"name": "Its own.", "rate": "Samples a second.", "inner": "What is inside."}
        assert helps(Inner) == {"size": "How large it is: small or large."}
    assert helps(Outer) == {"name": "Its own."} and helps(Inner) == {}
