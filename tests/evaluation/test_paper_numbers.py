"""The paper's rows are as printed, typed, and marked as the paper's."""

from __future__ import annotations

import pytest

from fantasytalking.evaluation.paper_numbers import ODDITY, PAPER, PAPER_COLUMNS, SETS, PaperRow


def row(table: int, method: str, set: str = "wild", settings: str = "") -> PaperRow:
    found = [r for r in PAPER if (r.table, r.method, r.set, r.settings) == (table, method, set, settings)]
    assert len(found) == 1
    return found[0]


def test_every_table_has_all_its_rows() -> None:
    assert {table: sum(r.table == table for r in PAPER) for table in (1, 2, 4)} == {1: 10, 2: 3, 4: 4}
    assert {r.source for r in PAPER} == {"arXiv 2504.04842"}
    assert {r.set for r in PAPER} == set(SETS)


def test_rows_name_only_the_papers_columns_and_numbers_are_numbers() -> None:
    names = {column.name for column in PAPER_COLUMNS}
    for r in PAPER:
        assert set(r.printed) <= names
        assert all(isinstance(value, float) and value > 0 for value in r.values.values())


def test_tame_has_no_background_and_the_small_tables_have_five_columns() -> None:
    assert all(("BD" in r.printed) == (r.set == "wild") for r in PAPER if r.table == 1)
    assert all(set(r.printed) == {"FVD", "Sync-C", "Sync-D", "IDC", "SD"} for r in PAPER if r.table != 1)


@pytest.mark.parametrize(
    ("table", "set", "settings", "column", "value"),
    [
        (1, "tame", "", "FID", 27.695),
        (1, "wild", "", "BD", 7.9624),
        (2, "wild", "motion intense (1.0, 1.0)", "SD", 18.14),
        (4, "wild", "without identity", "IDC", 0.945),
        (4, "wild", "frame level only", "Sync-C", 3.54),
    ],
)
def test_numbers_are_as_printed(table: int, set: str, settings: str, column: str, value: float) -> None:
    assert row(table, "FantasyTalking", set, settings).values[column] == value


def test_printed_decimals_are_kept() -> None:
    assert row(2, "FantasyTalking", settings="motion intense (1.0, 1.0)").printed["IDC"] == "0.980"


def test_the_full_method_of_tables_2_and_4_agrees_with_table_1_except_for_idc() -> None:
    wild, tame = row(1, "FantasyTalking"), row(1, "FantasyTalking", "tame")
    for other in (
        row(2, "FantasyTalking", settings="motion natural (0.5, 0.5)"),
        row(4, "FantasyTalking", settings="full"),
    ):
        for column in ("FVD", "Sync-C", "Sync-D", "SD"):
            assert other.values[column] == pytest.approx(wild.values[column], abs=0.006)
        assert other.values["IDC"] == pytest.approx(tame.values["IDC"], abs=0.0006)
        assert abs(other.values["IDC"] - wild.values["IDC"]) > 0.01
    assert "0.9754" in ODDITY and "0.9892" in ODDITY


def test_amounts_of_motion_have_pixels_and_no_better_direction() -> None:
    assert {c.name: (c.better, c.unit) for c in PAPER_COLUMNS if c.unit} == {
        "SD": ("neither", "px"),
        "BD": ("neither", "px"),
    }
