"""Options that are made from a record: each field once, with its help, and errors of the record."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import pytest
import tyro

from fantasytalking.cli.__main__ import main
from fantasytalking.cli.record_options import make_record, record_options
from fantasytalking.data.preparation.preparation_settings import PreparationSettings, RunSettings
from fantasytalking.errors import SettingsError
from fantasytalking.system.records import describe, field, record


@record
class Knobs:
    """Some knobs."""

    share: Annotated[float, field("A share.", minimum=0, maximum=1)] = 0.5
    side: Annotated[int | None, field("A side.", unit="pixels")] = None
    way: Annotated[Literal["here", "there"], field("A way.")] = "here"


def test_options_become_the_record_that_was_given() -> None:
    options = tyro.cli(record_options(Knobs), args=["--side", "4", "--way", "there"])
    assert make_record(Knobs, options) == Knobs(0.5, 4, "there")
    assert make_record(Knobs, tyro.cli(record_options(Knobs), args=[])) == Knobs()


def test_a_value_out_of_its_range_is_an_error_of_the_record() -> None:
    options = tyro.cli(record_options(Knobs), args=["--share", "3"])
    with pytest.raises(
        SettingsError, match=r"share must be a number from 0 to 1, but 3.0 was given; leave it out for 0.5"
    ):
        make_record(Knobs, options)


def test_the_help_of_prepare_lists_every_knob_with_what_it_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["prepare", "--help"])
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for known in (*describe(PreparationSettings), *describe(RunSettings)):
        assert re.search(rf"--{known.name.replace('_', '-')}[ ,]", shown), known.name
        # long words may be broken at the end of a line
        assert known.help.split(",")[0][:40] in shown, known.name
    assert "Accepts a number from 0.5 to 600 (seconds)." in shown
