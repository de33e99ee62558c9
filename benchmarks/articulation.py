"""Do lips meet on p, b and m, and open on vowels? Syllables with known onsets, spoken by portraits with closed and with open mouths.

Opening is measured on the rendered frames, in distances of the outer eye corners (`evaluation.metrics.articulation`). Real closed lips
have 0.01 to 0.04; the vowels of a calm real speaker are 0.06 to 0.10 above closures.

    python benchmarks/make_speech.py --output FOLDER
    python benchmarks/articulation.py --speech FOLDER
    python benchmarks/articulation.py --speech FOLDER --tree ../other-checkout
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_run import Record, option_parser, say, table
from clips import FPS
from generation import Generator, Speech, add_generation_options
from portraits import CASES, Portrait, add_portrait_options, gather

from fantasytalking.errors import FantasyTalkingError, InputError
from fantasytalking.evaluation.metrics.articulation import articulation
from fantasytalking.evaluation.speech_targets import read_onsets, syllable_targets
from fantasytalking.perception.face_measures import CLOSED_LIPS, lip_opening

GROUPS = ("closed-mouth", "open-mouth")
RESAMPLES = 2000
WANTED_CLOSED, WANTED_CONTRAST = 0.8, 0.07
"""Required share of closures, and vowels minus closures in eye distances, for each group of portraits."""


def interval(
    rows: Sequence[dict[str, Any]], figure: Callable[[Sequence[dict[str, Any]]], float], seed: int = 0
) -> tuple[float, float, float]:
    """A figure of some videos with its 95 % interval: portraits are drawn anew, each with all of its videos."""
    names = sorted({row["portrait"] for row in rows})
    by_name = {name: [row for row in rows if row["portrait"] == name] for name in names}
    draw = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    values = [figure([row for k in one for row in by_name[names[k]]]) for one in draw]
    low, high = np.quantile(values, [0.025, 0.975])
    return figure(rows), float(low), float(high)


def share_closed(rows: Sequence[dict[str, Any]]) -> float:
    """Share of all closures of some videos in which lips meet."""
    closures = np.concatenate([row["closures"] for row in rows])
    return float((closures[np.isfinite(closures)] <= CLOSED_LIPS).mean())


def contrast(rows: Sequence[dict[str, Any]]) -> float:
    """Vowels minus closures, mean over videos."""
    return float(np.mean([row["contrast"] for row in rows]))


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of all portraits and of each group, with intervals."""
    found = {}
    for group in ("all", *GROUPS):
        chosen = [row for row in rows if group in ("all", row["group"])]
        if not chosen:
            continue
        closures = np.concatenate([row["closures"] for row in chosen])
        vowels = np.concatenate([row["vowels"] for row in chosen])
        found[group] = {
            "portraits": len({row["portrait"] for row in chosen}),
            "closures": len(closures),
            "closed": interval(chosen, share_closed),
            "contrast": interval(chosen, contrast),
            "opening_at_closures": float(np.nanmedian(closures)),
            "opening_at_vowels": float(np.nanmedian(vowels)),
        }
    return found


def find_tracks(options: argparse.Namespace) -> list[Path]:
    """Sound files of syllables: the project's own and those of `make_speech.py`.

    Raises:
        InputError: There is none, or one has no onsets.
    """
    own = [CASES / "syllables.wav"] if (CASES / "syllables.wav").is_file() else []
    made = sorted(options.speech.glob("syllables_*.wav"))
    tracks = [path for path in [*own, *made] if options.tracks is None or path.stem in options.tracks]
    if not tracks:
        raise InputError(
            "There is no track of syllables; make some with make_speech.py and name their folder with --speech."
        )
    for path in tracks:
        read_onsets(path.with_suffix(".json"))
    return tracks


def measure(options: argparse.Namespace, portraits: Sequence[Portrait], record: Record) -> list[dict[str, Any]]:
    """Measure every portrait with every track."""
    rows = []
    tracks = find_tracks(options)
    with Generator(options) as generator:
        for portrait in portraits:
            group = next(group for group in GROUPS if group in portrait.groups)
            for path in tracks:
                name = f"{portrait.id}, {path.stem}"
                targets = syllable_targets(read_onsets(path.with_suffix(".json")))
                try:
                    with generator.make(portrait.picture(options.portraits), Speech(path), **record.settings) as made:
                        opening = lip_opening(made.track())
                        found = articulation(opening, FPS, targets)
                        seconds = made.seconds
                except FantasyTalkingError as error:
                    record.leave_out(name, error)
                    continue
                rows.append(
                    {"portrait": portrait.id, "group": group, "track": path.stem, "closed": found.closed}
                    | {"contrast": found.contrast, "closures": found.closures, "vowels": found.vowels}
                    | {"first_frame": float(opening[0]), "seconds": seconds}
                )
                say(f"{name}: closed {found.closed:.2f}, contrast {found.contrast:.3f}, {seconds:.1f} s")
    return rows


def main() -> int:
    """Measure and report."""
    parser = option_parser(__doc__)
    add_portrait_options(parser)
    add_generation_options(parser, 512)
    parser.add_argument("--tracks", nargs="+", help="names of tracks, for a quick try")
    options = parser.parse_args()
    record = Record("articulation", options, {"seed": options.seed, "longest_side": options.longest_side})
    try:
        portraits, record.left_out = gather(GROUPS, options.portraits, options.limit, options.only)
        rows = measure(options, portraits, record)
    except FantasyTalkingError as error:
        raise SystemExit(str(error)) from error
    if not rows:
        raise SystemExit("No portrait could be measured; see the reasons above.")
    found = summarise(rows)
    columns = ("portraits", "closures", "closed", "contrast", "opening_at_closures", "opening_at_vowels")
    cells = [(group, *(shown(figures[column]) for column in columns)) for group, figures in found.items()]
    print(
        f"\nclosed: share of p, b, m at {CLOSED_LIPS:g} of the eye distance or less; contrast: vowels minus closures; 95 %\n"
    )
    print(table(("mouth of the portrait", *(column.replace("_", " ") for column in columns)), cells) + "\n")
    record.results = {"tree": str(options.tree or "."), "summary": found, "videos": rows}
    record.results |= {"wanted": {"closed": WANTED_CLOSED, "contrast": WANTED_CONTRAST}}
    record.finish()
    return 0


def shown(value: Any) -> Any:
    """A cell: a figure with its interval, or a plain value."""
    if isinstance(value, tuple):
        return f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})"
    return value


if __name__ == "__main__":
    sys.exit(main())
