"""What the documentation says can be run, opened and found.

Every ```bash and ```python block carries, as the line before it, who keeps it true:

    <!-- tested by: .ci/run -->                         its commands stand in .ci/run
    <!-- tested by: tests/test_cli.py::test_name -->    that test does what the block shows

`tests/test_docs.py::test_every_documented_option_exists` may be named for commands that need what no test machine has,
such as the 14B weights: it holds their subcommands and options against the real command line.
"""

import ast
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("docs", "src", "examples", "tests", ".github")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).glob("**/*.md"))])
PAGE_NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
MARKER = re.compile(r"<!-- tested by: (\S+) -->")
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^ *```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: its language, its text, and who is named as testing it."""

    page: str
    line: int
    language: str
    body: str
    tested_by: str | None

    def commands(self) -> list[list[str]]:
        """Its shell commands as words, comments and continued lines resolved."""
        lines = self.body.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def blocks(*languages: str) -> list[Block]:
    """All fenced blocks of those languages on all pages."""
    found = []
    for page, name in zip(PAGES, PAGE_NAMES, strict=True):
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match["language"] in languages:
                before = text[: match.start()].rstrip().rpartition("\n")[2]
                marker = MARKER.fullmatch(before.strip())
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(name, line, match["language"], match["body"], marker[1] if marker else None))
    return found


def slug(heading: str) -> str:
    """The anchor that a Markdown heading gets."""
    words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower())
    return words.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text())
    return {slug(heading) for heading in re.findall(r"^#+ +(.+)$", text, re.MULTILINE)}


def project_commands() -> list[tuple[str, list[str]]]:
    """(where, words after `fantasytalking`) of every documented call of the command line."""
    found = []
    for block in blocks("bash"):
        for words in block.commands():
            while "=" in words[0]:
                words = words[1:]
            if Path(words[0]).name == "fantasytalking":
                found.append((f"{block.page}:{block.line}", words[1:]))
    return found


def test_every_block_names_what_keeps_it_true() -> None:
    unmarked = [f"{block.page}:{block.line}" for block in blocks("bash", "python") if block.tested_by is None]
    assert not unmarked, f"put a <!-- tested by: ... --> line before the blocks at {unmarked}"


def test_shell_blocks_are_written_as_bash() -> None:
    assert not [f"{block.page}:{block.line}" for block in blocks("sh", "shell", "console", "zsh")]


def test_the_named_tests_exist() -> None:
    for block in blocks("bash", "python"):
        path, _, name = (block.tested_by or "").partition("::")
        if path in ("", ".ci/run"):
            continue
        where = f"{block.page}:{block.line}"
        assert (ROOT / path).is_file(), f"{where}: {path} does not exist"
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (
            f"{where}: no {name} in {path}"
        )


def test_what_ci_is_said_to_run_stands_in_its_script() -> None:
    script = [
        shlex.split(line.split("|")[0]) for line in (ROOT / ".ci" / "run").read_text().splitlines() if "make" in line
    ]
    for block in blocks("bash"):
        if block.tested_by == ".ci/run":
            for words in block.commands():
                assert words in script, f"{block.page}:{block.line}: .ci/run has no line {shlex.join(words)!r}"


def test_every_documented_option_exists(capsys: pytest.CaptureFixture[str]) -> None:
    from fantasytalking.cli.__main__ import main

    helps: dict[str, str] = {}
    for where, words in project_commands():
        if not words or words[0].startswith("-"):
            continue
        # every recipe has options of its own
        command = " ".join(words[:2] if words[0] == "train" and not words[1].startswith("-") else words[:1])
        if command not in helps:
            with pytest.raises(SystemExit) as stopped:
                main([*command.split(), "--help"])
            assert stopped.value.code == 0, f"{where}: there is no subcommand {command!r}"
            helps[command] = capsys.readouterr().out
        for option in (word.partition("=")[0] for word in words[1:] if word.startswith("--")):
            assert re.search(rf"{re.escape(option)}\b", helps[command]), f"{where}: {command} has no {option}"


def test_documented_installs_name_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installs = [words for block in blocks("bash") for words in block.commands() if words[:2] == ["pip", "install"]]
    assert installs
    for words in installs:
        assert words[2:4] == ["-c", "constraints.txt"], f"{shlex.join(words)} leaves the constraints file out"
        match = re.fullmatch(r"\.(?:\[([\w,]+)])?", words[-1])
        assert match, f"{words[-1]} is not this project"
        assert set((match[1] or "").split(",")) - {""} <= set(project["optional-dependencies"])


def test_python_blocks_import_names_that_exist() -> None:
    import importlib

    for block in blocks("python"):
        for node in ast.walk(ast.parse(block.body)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fantasytalking"):
                module = importlib.import_module(node.module or "")
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f"{block.page}:{block.line}: {node.module} has no {missing}"


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_internal_links_resolve(name: str) -> None:
    page = ROOT / name
    text = FENCE.sub("", page.read_text())
    links = re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text) + re.findall(r"<img[^>]*src=\"([^\"]+)\"", text)
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name} links to {link}, which does not exist"
        assert target.is_relative_to(ROOT), f"{name} links out of the project: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name} links to {link}, which has no such heading"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [
        page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md" and f"({page.name})" not in index
    ]
    assert not missing, f"docs/README.md does not list {missing}"
