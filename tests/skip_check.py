"""Fails a run in which a test skipped that the list of allowed skips does not name.

A skipped test proves nothing, so continuous integration accepts only those of `allowed_skips.toml`, each with its
reason. The check is on where the variable CI is "true", and with the option --check-skips.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ALLOWED = Path(__file__).with_name("allowed_skips.toml")


@dataclass(frozen=True)
class AllowedSkip:
    """One entry of the list.

    Attributes:
        test: Id of a test, in which * stands for any text.
        message: Piece of the skip's own message.
        reason: Why the test may skip.
    """

    test: str
    message: str
    reason: str

    def covers(self, test: str, message: str) -> bool:
        """Whether it allows this test to skip with this message."""
        pattern = ".*".join(re.escape(piece) for piece in self.test.split("*"))
        return re.fullmatch(pattern, test) is not None and self.message in message


def read_allowed_skips(path: Path = ALLOWED) -> list[AllowedSkip]:
    """The entries of a list; a TypeError names a key that is unknown or missing."""
    return [AllowedSkip(**entry) for entry in tomllib.loads(path.read_text())["skip"]]


@dataclass(eq=False)
class SkipCheck:
    """Pytest plugin that collects the skips that nobody allowed.

    Attributes:
        allowed: The list.
        unexpected: Lines "test: message", in the order of the run.
    """

    allowed: list[AllowedSkip]
    unexpected: list[str] = field(default_factory=list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at one phase of a test."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._judge(report.nodeid, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Look at a file that skipped as a whole."""
        if report.skipped:
            self._judge(f"{report.nodeid}::", report.longrepr)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a run that would pass into one that fails."""
        if self.unexpected and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name them, and what to do."""
        if self.unexpected:
            terminalreporter.section("unexpected skips", red=True)
            terminalreporter.line("Mend the cause, or add the test to tests/allowed_skips.toml with a reason:")
            for line in self.unexpected:
                terminalreporter.line(f"  {line}")

    def _judge(self, test: str, longrepr: Any) -> None:
        message = str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)
        if not any(entry.covers(test, message) for entry in self.allowed):
            self.unexpected.append(f"{test}: {message}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that switches the check on outside continuous integration."""
    parser.addoption("--check-skips", action="store_true", help="fail where a skip is not in tests/allowed_skips.toml")


def pytest_configure(config: pytest.Config) -> None:
    """Switch the check on, in the process that reports and not in its workers."""
    wanted = config.getoption("--check-skips") or os.environ.get("CI", "").lower() in ("true", "1")
    if wanted and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipCheck(read_allowed_skips()), "skip-check")
