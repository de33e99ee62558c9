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
def help_text(*words: str) -> str:
    """A page of help without its frames, in one line."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return re.sub(r"[\s│╭╮╰╯─|]+", " ", shown.getvalue())


def options(command: str) -> set[str]:
    """Options of a command, of all its recipes for train."""
    return {option for words in PAGES if words[0] == command for option in OPTION.findall(help_text(*words))}
