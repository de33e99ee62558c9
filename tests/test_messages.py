"""Every option that a message of the package names exists, in a command that can print it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from fantasytalking.cli.__main__ import COMMANDS
from tests.command_help import OPTION, options

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
