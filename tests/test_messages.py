"""What a message of the package names exists: options, in a command that can print it, their values, commands, recipes, fields, extras."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from fantasytalking.cli.__main__ import COMMANDS
from tests.command_help import OPTION, PAGES, RECIPES, help_text, options

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "fantasytalking"
PRINTED_BY = {
    "training": ("train", "export"),
    "evaluation": ("evaluate", "compare", "weights", "benchmark", "manifest", "train", "info"),
    "data": ("prepare", "train"),
    "checkpoints": ("convert", "export", "train", "generate", "prepare"),
}
"""Part of the package -> commands that print its messages; every command prints those of the others."""
OTHER_COMMANDS = {
    "'fantasytalking prepare VIDEOS --output SET'": "prepare",
    "with --model": "prepare, which made the set that a message of training is about",
    "'fantasytalking convert' made with --audio-encoder": "convert",
    "'fantasytalking convert' made with --layout pipeline": "convert",
    "ray start --head": "ray",
    "--nproc-per-node": "torchrun",
    "--train.*": "train: any field",
    "--help": "the parser",
    "--version": "the program",
}
"""Options of a message that another program or command has -> which."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Strings of a file that may be printed, with their lines: all but docstrings; a value in an f-string reads as 0."""
    tree = ast.parse(path.read_text())
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (said | inner):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "0" for p in node.values)


@pytest.mark.parametrize(
    "part", sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_")
)
def test_every_option_that_a_message_names_exists(part: str) -> None:
    known = {option for command in PRINTED_BY.get(part, COMMANDS) for option in options(command)}
    wrong = []
    for path in sorted((PACKAGE / part).rglob("*.py")):
        for line, text in texts(path):
            if " " not in text:  # a word of a table or of another program's command line
                continue
            for other in OTHER_COMMANDS:
                text = text.replace(other, "")
            wrong += [f"{path.name}:{line} {one}" for one in OPTION.findall(text) if one not in known]
    assert wrong == []


@cache
def choices() -> dict[str, set[str]]:
    """Option -> words that it accepts in some command, of the options that accept a few words only."""
    found: dict[str, set[str]] = {}
    for words in PAGES:
        for option, accepted in re.findall(r"(--[\w.-]+) \{([^}]*)\}", help_text(*words)):
            found.setdefault(option, set()).update(accepted.replace(" ", "").split(","))
    return {option: accepted for option, accepted in found.items() if accepted != {"None"}}


@cache
def messages() -> list[tuple[str, int, str]]:
    """File, line and text of everything that may be a message."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return [(path.name, line, text) for path in paths for line, text in texts(path) if " " in text]


def extras() -> set[str]:
    project = tomllib.loads((PACKAGE.parent.parent / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


def wrong_values(text: str) -> list[str]:
    """Words after an option of few words that it does not accept."""
    pairs = re.findall(r"(--[a-z][\w.-]*\w) ([a-z][\w-]*)(?=[,;.)]| or )", text)
    return [word for option, word in pairs if word not in choices().get(option, {word})]


NAMED: dict[str, Callable[[str], list[str]]] = {
    "value": wrong_values,
    "command": lambda text: [one for one in re.findall(r"['`]fantasytalking ([a-z-]+)", text) if one not in COMMANDS],
    "recipe": lambda text: [one for one in re.findall(r"recipe ([a-z]+-[a-z0-9-]+)", text) if one not in RECIPES],
    "field": lambda text: [
        one
        for one in re.findall(r"(?<![\w.-])train(?:\.[a-z]\w*)+(?![\w.]*\.\d)", text)
        if not any(f"{option}.".startswith(f"--{one.replace('_', '-')}.") for option in options("train"))
    ],
    "extra": lambda text: [one for one in re.findall(r"fantasytalking\[([a-z]+)\]", text) if one not in extras()],
}


@pytest.mark.parametrize("kind", NAMED)
def test_what_a_message_names_exists(kind: str) -> None:
    assert [(name, line, wrong) for name, line, text in messages() if (wrong := NAMED[kind](text))] == []
    # what is wrong is seen
    mistakes = {
        "value": "export it with --layout whole.",
        "command": "'fantasytalking prepared' makes one",
        "recipe": "use the recipe distil-13b",
        "field": "lower train.windows",
        "extra": "install fantasytalking[trian]",
    }
    assert NAMED[kind](mistakes[kind])
