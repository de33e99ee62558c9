"""Is a face told or refused that no one should trust, and is an ordinary portrait left alone?

Each picture says 0.4 s. A refusal is the sentence with which generation ends; told means a note that the packaged example does not get.
Animals and a face cut off by the frame come from the shared cases, a surgical mask is drawn onto the packaged example, and the ordinary
portraits are those of the list.

    python benchmarks/unsure_faces.py --speech FOLDER
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmark_run import Record, option_parser, say, table
from generation import Generator, Speech, add_generation_options
from numpy.typing import NDArray
from portraits import CASES, Portrait, add_portrait_options, gather

from fantasytalking.errors import FantasyTalkingError, InputError
from fantasytalking.media.image import load_image
from fantasytalking.perception.landmarks import FACE_OVAL, face_mesh
from fantasytalking.pipeline.model_names import embedded_folder

UNSURE = ("cat.jpg", "dog.jpg", "cut_face.jpg")
SECONDS = 0.4
EXAMPLE = embedded_folder() / "example" / "portrait.png"
_MASK_COLOUR = (170, 205, 215)
_UNDER_THE_EYES, _CHEEKS = (
    197,
    slice(9, 28),
)  # a point on the nose, and the oval from one cheek round the chin to the other


def draw_mask(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A portrait with a surgical mask from the bridge of the nose to below the chin."""
    points = face_mesh(picture).points[:, :2]
    outline = np.concatenate([points[[_UNDER_THE_EYES]], points[np.array(FACE_OVAL)[_CHEEKS]]])
    centre = outline.mean(axis=0)
    masked = picture.copy()
    cv2.fillPoly(masked, [np.round(centre + 1.04 * (outline - centre)).astype(np.int32)], _MASK_COLOUR, cv2.LINE_AA)
    return masked


def pictures(portraits: Sequence[Portrait], folder: Path) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Name, kind and pixels of all pictures; the first is the packaged example."""
    example = load_image(EXAMPLE)
    yield "example", "example", example
    yield "mask", "unsure", draw_mask(example)
    for name in UNSURE:
        if (CASES / name).is_file():
            yield Path(name).stem, "unsure", load_image(CASES / name)
    for portrait in portraits:
        yield portrait.id, "ordinary", portrait.picture(folder)


def without_numbers(note: str) -> str:
    """A note with its numbers replaced: pictures of all sizes are shrunk, and told so."""
    return re.sub(r"\d+", "#", note)


def judge(answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What was told of each picture beyond the example's notes, and counts of each kind."""
    usual = {without_numbers(note) for note in answers["example"]["notes"]}
    counts: dict[str, dict[str, Any]] = {}
    for name, answer in answers.items():
        answer["told"] = [note for note in answer["notes"] if without_numbers(note) not in usual]
        if answer["kind"] != "example":
            count = counts.setdefault(answer["kind"], {"pictures": 0, "told": [], "refused": [], "silent": []})
            count["pictures"] += 1
            count["refused" if answer["refused"] else "told" if answer["told"] else "silent"].append(name)
    return counts


def measure(options: argparse.Namespace, portraits: Sequence[Portrait], record: Record) -> dict[str, dict[str, Any]]:
    """Ask for a short video of each picture."""
    answers: dict[str, dict[str, Any]] = {}
    with Generator(options) as generator:
        for name, kind, picture in pictures(portraits, options.portraits):
            answer: dict[str, Any] = {"kind": kind, "notes": [], "refused": None}
            try:
                speech = Speech(options.speech / "reading.wav", 0.6, SECONDS)
                with generator.make(picture, speech, **record.settings) as made:
                    answer["notes"] = list(made.notes)
            except InputError as error:
                answer["refused"] = str(error)
            answers[name] = answer
            say(f"{name}: {answer['refused'] or '; '.join(answer['notes']) or 'nothing said'}")
    return answers


def main() -> int:
    """Measure and report; the exit status is 1 if an unsure face passes in silence, or an ordinary one does not."""
    parser = option_parser(__doc__)
    add_portrait_options(parser)
    add_generation_options(parser, 256)
    options = parser.parse_args()
    record = Record("unsure_faces", options, {"seed": options.seed, "longest_side": options.longest_side})
    try:
        portraits, record.left_out = gather(("ordinary",), options.portraits, options.limit, options.only)
        answers = measure(options, portraits, record)
    except FantasyTalkingError as error:
        raise SystemExit(str(error)) from error
    counts = judge(answers)
    rows = [
        (kind, n["pictures"], *(len(n[key]) for key in ("told", "refused", "silent"))) for kind, n in counts.items()
    ]
    print("\n" + table(("pictures", "number", "told", "refused", "nothing said"), rows) + "\n")
    record.results = {"tree": str(options.tree or "."), "counts": counts, "answers": answers}
    record.finish()
    unsure, ordinary = (counts.get(kind, {"silent": [], "pictures": 0}) for kind in ("unsure", "ordinary"))
    return 0 if not unsure["silent"] and len(ordinary["silent"]) == ordinary["pictures"] else 1


if __name__ == "__main__":
    sys.exit(main())
