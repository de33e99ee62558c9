"""How close are several models to real clips that none of them was trained on? One table for all figures that need the truth.

The clips are the real ones of the shipped manifest `validation` (portrait and speech put in step), without those of `clips.LEFT_OUT`.

    python benchmarks/validation.py --models base=../other-checkout new=. --output FOLDER
    python benchmarks/validation.py --models base=../main first-cut=../main:FOLDER new=. --other-speech new --output FOLDER

Videos that are already in the output folder are used again.
"""

from __future__ import annotations

import sys

from benchmark_run import option_parser
from clips import LEFT_OUT
from side_by_side import add_options, run

from fantasytalking.evaluation.benchmark.benchmark_manifest import Case
from fantasytalking.evaluation.benchmark.parse_manifest import load_manifest


def choose_cases(kind: str) -> list[Case]:
    """Cases of the shipped manifest of one kind, "real" or "all", without those that are in no figure."""
    cases = load_manifest("validation").cases
    return [case for case in cases if case.name not in LEFT_OUT and (kind == "all" or case.name.startswith("r"))]


def main() -> int:
    """Generate, measure and report."""
    parser = option_parser(__doc__)
    add_options(parser, longest_side=256)
    parser.add_argument("--kind", choices=("real", "all"), default="real", help="real clips, or generated ones as well")
    options = parser.parse_args()
    return run("validation", choose_cases(options.kind), choose_cases("all"), options)


if __name__ == "__main__":
    sys.exit(main())
