"""What `--help` of every command prints, as text, for tests of options and of the messages that name them."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache

from fantasytalking.cli.__main__ import COMMANDS, main
from fantasytalking.cli.train import FAMILIES

RECIPES = tuple(name for family in FAMILIES for name in family.names)
PAGES = (*((command,) for command in COMMANDS), *(("train", recipe) for recipe in RECIPES))
"""Words before `--help` of every page of help."""
OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*\w")


@cache
def help_page(*words: str) -> str:
    """A page of help."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return shown.getvalue()


def help_text(*words: str) -> str:
    """A page of help without its frames, in one line."""
    return re.sub(r"[\s│╭╮╰╯─|]+", " ", help_page(*words))


def options(command: str) -> set[str]:
    """Options of a command, of all its recipes for train: those with which an entry of the help begins."""
    pages = [help_page(*words) for words in PAGES if words[0] == command]
    entries = [entry for page in pages for entry in re.findall(r"^(?:[│|] |  )(?:-\w, )?--.*$", page, re.MULTILINE)]
    return {option for entry in entries for option in OPTION.findall(entry)}
