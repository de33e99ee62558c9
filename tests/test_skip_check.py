"""A skip that nobody allowed fails the run in continuous integration, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.skip_check import AllowedSkip, SkipCheck, read_allowed_skips

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import pytest

@pytest.mark.skipif(True, reason="no cards on this machine")
def test_of_cards(): pass

@pytest.mark.xfail
def test_known_to_fail(): assert False

def test_of_everything_else(): pass
"""
WHOLE_FILE = "import pytest; pytest.skip('nothing to see', allow_module_level=True)"


def allowing(*entries: AllowedSkip) -> SkipCheck:
    return SkipCheck(list(entries))


def test_an_unexpected_skip_fails_the_run_and_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_cards=TESTS)
    result = pytester.inline_run(plugins=[check := allowing()])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert check.unexpected == ["test_cards.py::test_of_cards: Skipped: no cards on this machine"]


def test_a_folder_with_a_conftest_of_its_own_is_checked_too(pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("cards")
    (folder / "conftest.py").write_text("")
    (folder / "test_cards.py").write_text(TESTS)
    assert pytester.inline_run(plugins=[check := allowing()]).ret == pytest.ExitCode.TESTS_FAILED
    assert len(check.unexpected) == 1


def test_an_allowed_skip_is_no_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_cards=TESTS)
    entry = AllowedSkip("test_cards.py::test_of_*", "no cards", "cards are rare")
    assert pytester.inline_run(plugins=[allowing(entry)]).ret == pytest.ExitCode.OK


def test_an_allowed_test_may_not_skip_for_another_cause(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_cards=TESTS)
    entry = AllowedSkip("test_cards.py::test_of_*", "no driver", "drivers are rare")
    assert pytester.inline_run(plugins=[allowing(entry)]).ret == pytest.ExitCode.TESTS_FAILED


def test_a_file_that_skips_as_a_whole_is_seen(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_whole=WHOLE_FILE)
    pytester.makepyfile(test_other="def test_passes(): pass")
    result = pytester.inline_run(plugins=[check := allowing()])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert check.unexpected == ["test_whole.py::: Skipped: nothing to see"]


@pytest.mark.parametrize(
    ("variable", "options", "status"),
    [("true", [], 1), ("", [], 0), ("", ["--check-skips", "-n", "2"], 1)],
    ids=["in continuous integration", "elsewhere", "on demand with two workers"],
)
def test_the_check_is_on_in_continuous_integration_and_on_demand(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, variable: str, options: list[str], status: int
) -> None:
    monkeypatch.setenv("CI", variable)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(test_cards=TESTS)
    result = pytester.runpytest_subprocess("-p", "tests.skip_check", *options)
    assert result.ret == status
    assert ("unexpected skips" in str(result.stdout)) == bool(status)


def test_every_entry_of_the_list_names_a_file_that_exists_or_a_folder_and_says_why() -> None:
    entries = read_allowed_skips()
    assert entries
    for entry in entries:
        file = entry.test.partition("::")[0].removesuffix("/*")
        assert (ROOT / file).exists() or file == "tests/gpu", f"{file} does not exist"
        assert entry.message and entry.reason.endswith(".")
