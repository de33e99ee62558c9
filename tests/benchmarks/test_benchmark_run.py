from __future__ import annotations

import json
import math

import numpy as np
import pytest
from benchmark_run import mean_and_error, option_parser, plain, rises, table


def test_the_standard_error_is_that_of_the_mean() -> None:
    mean, error = mean_and_error([1.0, 2.0, 3.0])
    assert mean == 2
    assert error == pytest.approx(1 / math.sqrt(3))


def test_too_few_values_have_no_error_and_none_at_all_no_mean() -> None:
    assert mean_and_error([4.0]) == (4.0, None)
    assert mean_and_error([]) == (None, None)


def test_equal_neighbours_do_not_rise() -> None:
    assert rises([0, 1, 2])
    assert not rises([0, 1, 1])


def test_a_record_holds_only_what_json_knows() -> None:
    record = {"a": np.float32(0.123456789), "b": np.arange(2), "c": (None, True), 4: np.int64(5)}
    assert json.loads(json.dumps(plain(record))) == {"a": 0.12346, "b": [0, 1], "c": [None, True], "4": 5}


def test_a_table_has_a_line_a_row() -> None:
    assert table(("x", "y"), [(1.0, None)]) == "| x | y |\n| --- | --- |\n| 1.000 | - |"


def test_every_benchmark_has_the_shared_options() -> None:
    options = option_parser("What it does.\n\nMore.").parse_args(["--limit", "2", "--threads", "1"])
    assert (options.model, options.limit, options.threads, options.seed, options.json) == ("embedded", 2, 1, 0, None)
