"""Numbers of the paper as data: arXiv 2504.04842, tables 1 (comparison), 2 (motion intensity) and 4 (ablation).

They are shown below a report for orientation, never in its table, as clips, sizes and networks differ. On "HDTF" alone the same
model gets FID 14.9 to 53.1 in different papers, so only differences within one protocol can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["NOT_COMPARABLE", "ODDITY", "PAPER", "PAPER_COLUMNS", "SETS", "SOURCE", "PaperColumn", "PaperRow"]

SOURCE = "arXiv 2504.04842"
NOT_COMPARABLE = "from the paper, other data and protocol: not comparable in absolute terms"
ODDITY = (
    "The IDC of the full method in tables 2 and 4 (0.989, the wild set) is not that of table 1 for the wild set (0.9754); it equals "
    "the one for the tame set (0.9892). The numbers are given as printed."
)
SETS: Mapping[str, str] = {
    "tame": "50 clips of HDTF",
    "wild": "80 individuals, the authors' own collection, not released",
}


@dataclass(frozen=True)
class PaperColumn:
    """A metric of the paper.

    Attributes:
        name: Name as printed; `results.Column.stands_for` of a report's column refers to it.
        better: Which direction is better; `neither` for amounts of motion.
        unit: Unit, or "". The paper prints none: pixels follow from the optical flow that SD and BD average.
    """

    name: str
    better: Literal["higher", "lower", "neither"]
    unit: str = ""


@dataclass(frozen=True)
class PaperRow:
    """A row of a table of the paper.

    Attributes:
        table: Number of the table, 1, 2 or 4.
        set: `tame` or `wild`, see `SETS`.
        method: Name as printed.
        settings: Settings that distinguish the row, such as motion intensities (face, body), or "".
        printed: Name of a `PaperColumn` -> number with its printed decimals; a column that the table lacks, or where it has a dash,
            is missing.
        source: Paper that prints it.
    """

    table: Literal[1, 2, 4]
    set: Literal["tame", "wild"]
    method: str
    settings: str
    printed: Mapping[str, str]
    source: str = SOURCE

    @property
    def values(self) -> dict[str, float]:
        """Name of a `PaperColumn` -> number."""
        return {name: float(number) for name, number in self.printed.items()}


PAPER_COLUMNS = (
    PaperColumn("FID", "lower"),
    PaperColumn("FVD", "lower"),
    PaperColumn("Sync-C", "higher"),
    PaperColumn("Sync-D", "lower"),
    PaperColumn("ES", "higher"),
    PaperColumn("IDC", "higher"),
    PaperColumn("SD", "neither", "px"),
    PaperColumn("BD", "neither", "px"),
    PaperColumn("Aesthetic", "higher"),
)

_ALL = tuple(column.name for column in PAPER_COLUMNS)
_SHORT = ("FVD", "Sync-C", "Sync-D", "IDC", "SD")


def _row(
    table: Literal[1, 2, 4],
    set: Literal["tame", "wild"],
    method: str,
    settings: str,
    columns: tuple[str, ...],
    numbers: str,
) -> PaperRow:
    pairs = zip(columns, numbers.split(), strict=True)
    return PaperRow(table, set, method, settings, {name: number for name, number in pairs if number != "-"})


PAPER = (
    _row(1, "tame", "AniPortrait", "", _ALL, "37.672 397.114 1.095 12.461 0.9508 0.9372 4.639 - 0.5129"),
    _row(1, "tame", "EchoMimic", "", _ALL, "33.765 471.452 2.514 10.743 0.9527 0.9419 5.783 - 0.5108"),
    _row(1, "tame", "Sonic", "", _ALL, "30.396 358.023 4.197 9.103 0.9595 0.9885 8.832 - 0.5312"),
    _row(1, "tame", "Hallo3", "", _ALL, "32.617 347.358 4.060 9.371 0.9566 0.9774 8.415 - 0.5247"),
    _row(1, "tame", "FantasyTalking", "", _ALL, "27.695 301.173 4.226 9.251 0.9612 0.9892 11.745 - 0.5362"),
    _row(1, "wild", "AniPortrait", "", _ALL, "63.574 841.962 0.996 12.084 0.9318 0.9031 2.252 1.9287 0.5357"),
    _row(1, "wild", "EchoMimic", "", _ALL, "59.746 590.373 1.949 10.754 0.9463 0.9202 3.201 1.9508 0.5311"),
    _row(1, "wild", "Sonic", "", _ALL, "45.400 489.985 2.689 10.194 0.9539 0.9607 10.484 3.9019 0.5913"),
    _row(1, "wild", "Hallo3", "", _ALL, "47.403 488.499 2.673 10.292 0.9420 0.9538 11.411 5.2840 0.5842"),
    _row(1, "wild", "FantasyTalking", "", _ALL, "43.137 483.108 3.154 9.689 0.9589 0.9754 13.783 7.9624 0.6183"),
    _row(2, "wild", "FantasyTalking", "motion subtle (0.1, 0.1)", _SHORT, "496.22 3.11 10.04 0.982 8.12"),
    _row(2, "wild", "FantasyTalking", "motion natural (0.5, 0.5)", _SHORT, "483.11 3.15 9.69 0.989 13.78"),
    _row(2, "wild", "FantasyTalking", "motion intense (1.0, 1.0)", _SHORT, "501.67 3.09 9.81 0.980 18.14"),
    _row(4, "wild", "FantasyTalking", "clip level only", _SHORT, "492.85 1.98 11.21 0.986 13.66"),
    _row(4, "wild", "FantasyTalking", "frame level only", _SHORT, "534.39 3.54 9.02 0.987 8.22"),
    _row(4, "wild", "FantasyTalking", "without identity", _SHORT, "510.62 3.06 10.15 0.945 12.96"),
    _row(4, "wild", "FantasyTalking", "full", _SHORT, "483.11 3.15 9.69 0.989 13.78"),
)
"""Every row of the three tables, as printed."""
