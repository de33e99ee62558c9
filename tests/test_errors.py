"""The exception tree is what its docstring draws."""

from __future__ import annotations

import re

import pytest

from fantasytalking import errors


def _drawn() -> dict[str, str]:
    """Child to parent, as drawn."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").split("```")[1].splitlines():
        found = re.match(r"([│├└─ ]*)(\w+)", line)
        if found:
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            if depth:
                parents[found[2]] = above[depth - 1]
    return parents


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {name: getattr(errors, name).__mro__[1].__name__ for name in errors.__all__ if name != "FantasyTalkingError"}
    assert real == _drawn()


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_can_be_caught_as_one_and_ends_the_command_line_with_2(name: str) -> None:
    error = getattr(errors, name)("a sentence")
    assert isinstance(error, errors.FantasyTalkingError)
    assert error.exit_code == 2 and str(error) == "a sentence"


def test_bad_input_is_a_value_error_and_a_missing_package_an_import_error() -> None:
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.MissingDependencyError, ImportError)
