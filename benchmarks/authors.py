"""How do several models compare with the authors' own sample videos, made with the full 14B model?

The portrait is the first frame of a video, and the speech is its sound. Where the portrait is refused, the sentence is in the record
(`left_out`). The videos are for measuring only, and the sync network is a relative of the embedded model and no independent judge.

    python benchmarks/authors.py --data ../shared/authors --models base=../other-checkout new=. --output FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark_run import option_parser
from side_by_side import add_options, run

from fantasytalking.errors import InputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Case, Window
from fantasytalking.evaluation.footage import file_digest
from fantasytalking.media.video import probe_video

AUTHORS = Path("../shared/authors")


def find_cases(folder: Path) -> list[Case]:
    """A case for each video of a folder.

    Raises:
        InputError: There is none.
    """
    files = sorted(folder.glob("*.mp4"))
    if not files:
        raise InputError(
            f"The folder '{folder}' holds no mp4 file; give the folder of the authors' videos with --data."
        )
    cases = []
    for file in files:
        window = Window(file.name, file_digest(file), 0.0, probe_video(file).seconds)
        cases.append(Case(f"v{file.stem}", f"v{file.stem}", window, None, None, "", {}))
    return cases


def main() -> int:
    """Generate, measure and report."""
    parser = option_parser(__doc__)
    parser.set_defaults(data=AUTHORS)
    add_options(parser, longest_side=512)
    options = parser.parse_args()
    try:
        cases = find_cases(options.data)
    except InputError as error:
        raise SystemExit(str(error)) from error
    return run("authors", cases, cases, options)


if __name__ == "__main__":
    sys.exit(main())
