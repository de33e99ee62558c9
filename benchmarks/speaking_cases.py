"""Portraits with speech on which settings of the sampling are compared: some to choose by, others to report on.

No picture and no voice is in both sets. Real clips speak their own sound from their own first frame, so that lips can be compared with the
truth; other portraits, which no model was trained on, speak a validation clip's sound, or syllables whose onsets are known.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from clips import FPS, LEFT_OUT, SOUND_RATE
from numpy.typing import NDArray
from portraits import CASES, Portrait, read_portraits

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.data.catalogue import read_catalogue
from fantasytalking.errors import InputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Case
from fantasytalking.evaluation.benchmark.case_inputs import portrait_of
from fantasytalking.evaluation.benchmark.parse_manifest import load_manifest
from fantasytalking.evaluation.footage import Footage, resized
from fantasytalking.evaluation.protocol import Protocol, load_protocol
from fantasytalking.evaluation.speech_targets import read_onsets
from fantasytalking.media.audio import Audio, fit_length, load_audio
from fantasytalking.media.image import load_image
from fantasytalking.media.video import probe_video, read_frames

SETS = ("training", "validation")
TRAINING_CLIPS = ("r0081", "r0084", "r0085", "r0086", "r0090", "r0381", "r0383", "r0390")
"""Real clips of eight people that the packaged model was trained on."""
PORTRAITS = {"training": slice(0, 2), "validation": slice(2, 5)}
"""Which portraits of the groups with closed and with open mouths a set has."""


@dataclass(frozen=True)
class SpeakingCase:
    """A portrait and what it says.

    Attributes:
        name: Name of the case.
        picture: The portrait, [H, W, 3] uint8.
        speech: What it says, at `SOUND_RATE`.
        sound: The same for the metrics, float32 [n] at 16 kHz.
        truth: The real clip, where the speech is its own.
        onsets: Syllables with their onsets in seconds, where they are known.
    """

    name: str
    picture: NDArray[np.uint8]
    speech: Audio
    sound: NDArray[np.float32]
    truth: Footage | None = None
    onsets: list[tuple[float, str]] | None = None
    _speech: dict[int, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @functools.cached_property
    def still(self) -> Footage:
        """The portrait as footage of two frames, for likeness."""
        protocol = load_protocol("small")
        frame = resized(self.picture, protocol.longest_side, protocol.resize_filter)
        return Footage(self.name, np.stack([frame, frame]), None, protocol)

    def footage(self, frames: NDArray[np.uint8]) -> Footage:
        """Generated frames with the sound that they were generated for."""
        seconds = len(frames) / FPS
        sound = fit_length(self.sound, round(seconds * SAMPLE_RATE))
        made = Footage(self.name, frames, sound, load_protocol("small"), seconds, self.onsets)
        # The features of the sound are the same for all videos of the case.
        if len(frames) in self._speech:
            made.__dict__["speech"] = self._speech[len(frames)]
        self._speech[len(frames)] = made.speech
        return made


def speaking_cases(which: str, options: argparse.Namespace) -> list[SpeakingCase]:
    """The cases of a set.

    Args:
        which: Name in `SETS`.
        options: Uses `data`, `portraits`, `seconds` and `limit`.

    Raises:
        InputError: Footage or portraits are missing.
    """
    made = list(_training(options) if which == "training" else _validation(options))
    kinds = [[case for case in made if (case.onsets is None) == spoken] for spoken in (True, False)]
    # Mixed, so that a few of them are of each kind.
    order = sorted((number / len(kind), case.name) for kind in kinds for number, case in enumerate(kind))
    by_name = {case.name: case for case in made}
    return [by_name[name] for _, name in order][: options.limit]


def _training(options: argparse.Namespace) -> Iterator[SpeakingCase]:
    rows = {Path(row.file).stem: row for row in read_catalogue(options.data / "catalogue.jsonl")}
    for name in TRAINING_CLIPS:
        row = rows.get(name)
        if row is not None and row.split == "train":
            yield _clip(name, options.data / row.file, options.seconds)
    yield from _syllables("training", options)


def _validation(options: argparse.Namespace) -> Iterator[SpeakingCase]:
    cases = [case for case in load_manifest("validation").cases if case.name not in LEFT_OUT and case.name[0] == "r"]
    for case in cases:
        yield _own_speech(case, options)
    for portrait, case in zip(_portraits("validation", options), cases, strict=False):
        seconds = min(options.seconds, case.speech.seconds)
        speech = _sound(options.data / case.speech.file, case.speech.start, seconds)
        yield SpeakingCase(f"{portrait.id}, {case.name}", portrait.picture(options.portraits), *speech)
    yield from _syllables("validation", options)


def _own_speech(case: Case, options: argparse.Namespace) -> SpeakingCase:
    seconds = min(options.seconds, case.speech.seconds, case.reference.seconds)
    picture = load_image(portrait_of(case, options.data))
    truth = _truth(case.name, options.data / case.reference.file, case.reference.start, seconds)
    speech = _sound(options.data / case.speech.file, case.speech.start, seconds)
    return SpeakingCase(case.name, picture, *speech, truth)


def _clip(name: str, path: Path, seconds: float) -> SpeakingCase:
    seconds = min(seconds, int(probe_video(path).seconds * FPS - 1) / FPS)
    truth = _truth(name, path, 0.0, seconds)
    return SpeakingCase(name, read_frames(path, FPS, 1)[0][0], *_sound(path, 0.0, seconds), truth)


def _truth(name: str, path: Path, start: float, seconds: float) -> Footage:
    protocol: Protocol = load_protocol("small")
    frames = read_frames(path, FPS, round(seconds * FPS), start)[0]
    small = np.stack([resized(frame, protocol.longest_side, protocol.resize_filter) for frame in frames])
    return Footage(name, small, None, protocol)


def _sound(path: Path, start: float, seconds: float) -> tuple[Audio, NDArray[np.float32]]:
    """A stretch of a file's sound, for the model and for the metrics."""
    wanted = {"min_seconds": 0.0, "start": start, "seconds": seconds}
    return load_audio(path, SOUND_RATE, **wanted), load_audio(path, SAMPLE_RATE, **wanted).samples


def _syllables(which: str, options: argparse.Namespace) -> Iterator[SpeakingCase]:
    track = CASES / "syllables.wav"
    if not track.is_file():
        raise InputError(f"There is no track of syllables at '{track}'; it is one of the shared cases.")
    speech = _sound(track, 0.0, options.seconds + 1)
    onsets = [onset for onset in read_onsets(track.with_suffix(".json")) if onset[0] < options.seconds + 0.4]
    for portrait in _portraits(which, options):
        yield SpeakingCase(f"{portrait.id}, syllables", portrait.picture(options.portraits), *speech, onsets=onsets)


def _portraits(which: str, options: argparse.Namespace) -> list[Portrait]:
    """Portraits that were fetched already by `portraits.py`."""
    found = [
        portrait
        for group in ("closed-mouth", "open-mouth")
        for portrait in read_portraits((group,))[PORTRAITS[which]]
        if portrait.file(options.portraits).is_file()
    ]
    if not found:
        raise InputError(f"There are no portraits in '{options.portraits}'; fetch them with portraits.py.")
    return found
