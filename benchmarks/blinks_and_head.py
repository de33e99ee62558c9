"""Do portraits blink like people, and do heads move without jerks? A minute of read speech for each of eight portraits.

A video that is longer than the model's longest clip is generated in pieces, each of which continues the one before it (`previous`).
The mesh network sees a closed eye half open (`evaluation.metrics.blinks.CLOSED_EYE`), so depth is given on its scale, and on the scale
where a fully closed eye is 0. How the head moves against the truth is in `validation.py`, as a minute of read speech has no truth.

    python benchmarks/make_speech.py --output FOLDER
    python benchmarks/blinks_and_head.py --speech FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from benchmark_run import Record, option_parser, say, table
from clips import FPS
from generation import Generator, Speech, add_generation_options
from numpy.typing import NDArray
from portraits import Portrait, add_portrait_options, gather

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.metrics.blinks import find_blinks
from fantasytalking.evaluation.metrics.head_motion import head_motion
from fantasytalking.perception.face_measures import head_angles

PORTRAITS = ("hopper", "obama", "man-bridge", "man-dark", "woman-hand", "woman-tilted", "woman-garden", "man-laughing")
"""Of different sexes, ages and skins, with and without glasses; one is tilted and one is turned."""
WANTED_RATE = (8.0, 25.0)
"""Blinks a minute."""
WANTED_REMAINING, LONGEST = 0.5, 0.4
"""Share of its median opening to which each eye has to close, and the longest blink in seconds."""


def describe(points: NDArray[np.floating], openings: NDArray[np.floating], fps: float) -> dict[str, Any]:
    """Blinks and head motion of meshes [F, 468, 3] and openings of both eyes [F, 2]."""
    blinks = find_blinks(openings, fps)
    motion = head_motion(head_angles(points), fps)
    seen = [max(blink.remaining) for blink in blinks]  # of the eye that closes less
    return {
        "seconds": len(points) / fps,
        "blinks": len(blinks),
        "a_minute": len(blinks) / (len(points) / fps) * 60,
        "seen_remaining": seen,
        "remaining": [max(blink.openings) for blink in blinks],
        "length": [blink.seconds for blink in blinks],
        "symmetry": [blink.symmetry for blink in blinks],
        "times": [blink.start for blink in blinks],
        "yaw_pitch_roll": motion.spread,
        "speed": motion.speed,
        "jerk": motion.jerk,
    }


def summarise(videos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of all videos, and whether they are as wanted."""
    rates = [video["a_minute"] for video in videos]
    remaining, lengths, symmetry = (
        [value for video in videos for value in video[key]] for key in ("remaining", "length", "symmetry")
    )
    low, high = WANTED_RATE
    return {
        "videos": len(videos),
        "blinks": len(lengths),
        "a_minute": {"mean": float(np.mean(rates)), "least": min(rates), "most": max(rates)},
        "rates_in_range": sum(low <= rate <= high for rate in rates),
        "remaining": {"median": median(remaining), "largest": max(remaining, default=None)},
        "closing_below_half": sum(value < WANTED_REMAINING for value in remaining),
        "length": {"median": median(lengths), "longest": max(lengths, default=None)},
        "symmetry": median(symmetry),
        "yaw_pitch_roll": np.mean([video["yaw_pitch_roll"] for video in videos], axis=0),
        "jerk": float(np.mean([video["jerk"] for video in videos])),
        "as_wanted": bool(
            all(low <= rate <= high for rate in rates)
            and all(value < WANTED_REMAINING for value in remaining)
            and all(value <= LONGEST for value in lengths)
        ),
    }


def median(values: Sequence[float]) -> float | None:
    """Median; None of nothing."""
    return float(np.median(values)) if len(values) else None


def measure(options: argparse.Namespace, portraits: Sequence[Portrait], record: Record) -> dict[str, dict[str, Any]]:
    """Generate and measure the video of each portrait."""
    found: dict[str, dict[str, Any]] = {}
    speech = Speech(options.speech / "reading.wav", 0.0, options.seconds)
    with Generator(options) as generator:
        for portrait in portraits:
            try:
                picture = portrait.picture(options.portraits)
                with generator.make(picture, speech, options.piece_frames, **record.settings) as made:
                    video = describe(*made.track_with_eyes(), FPS)
                    video |= {"pieces": len(made.pieces), "generation_seconds": made.seconds, "notes": made.notes}
            except FantasyTalkingError as error:
                record.leave_out(portrait.id, error)
                continue
            found[portrait.id] = video
            say(
                f"{portrait.id}: {video['blinks']} blinks in {video['seconds']:.0f} s, {made.seconds:.0f} s to generate"
            )
    return found


def main() -> int:
    """Measure and report."""
    parser = option_parser(__doc__)
    add_portrait_options(parser)
    add_generation_options(parser, 384)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the speech")
    parser.add_argument("--piece-frames", type=int, help="longest piece in frames; by default the model's longest clip")
    options = parser.parse_args()
    record = Record("blinks_and_head", options, {"seed": options.seed, "longest_side": options.longest_side})
    try:
        portraits, record.left_out = gather((), options.portraits, options.limit, options.only or PORTRAITS)
        found = measure(options, portraits, record)
    except FantasyTalkingError as error:
        raise SystemExit(str(error)) from error
    if not found:
        raise SystemExit("No portrait could be measured; see the reasons above.")
    rows = []
    for name, video in found.items():
        yaw, pitch, roll = video["yaw_pitch_roll"]
        deepest = [median(video[key]) for key in ("remaining", "length", "symmetry")]
        rows.append(
            (name, video["a_minute"], *deepest, max(video["length"], default=None), yaw, pitch, roll, video["jerk"])
        )
    header = ("portrait", "blinks a minute", "left of the opening", "length", "symmetry", "longest")
    print(
        "\nMedians over blinks; left: of the eye that closes less, 0 is closed; head: standard deviations in degrees\n"
    )
    print(table((*header, "yaw", "pitch", "roll", "jerk"), rows) + "\n")
    record.results = {"tree": str(options.tree or "."), "summary": summarise(list(found.values())), "portraits": found}
    record.results |= {"wanted": {"a_minute": WANTED_RATE, "remaining": WANTED_REMAINING, "longest": LONGEST}}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
