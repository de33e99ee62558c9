"""Makes the speech of the benchmarks: two tracks of flat syllables with known onsets, and 60 s of read text with pauses.

Syllables are spoken one by one, cut at their first sound, and placed half a second or more apart; the onsets that are written are
measured in the finished track. Needs the synthesisers espeak-ng (GPL-3; what it says is free) and flite (BSD-like). The text is the
beginning of "The Time Machine" by H. G. Wells (1895, public domain).

    python benchmarks/make_speech.py --output FOLDER
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import FantasyTalkingError, InputError
from fantasytalking.media.audio import load_audio

RATE = 16000
"""Samples per second."""
PEAK = 0.7
FIRST, STEP, SYLLABLES = 0.5, 0.613, 11
"""Seconds before the first syllable and from one to the next, and their number: as in the track that the project began with."""
TRACK_SECONDS, READING_SECONDS = 7.2, 60.0
PAUSE = 0.6
"""Seconds between sentences."""
AUDIBLE = 0.02
"""Share of the track's peak above which a sample is sound. In b and m the voice begins quietly before the lips part."""
_QUIET = 0.05
"""Seconds of silence before an onset."""
_FADE = 0.01
NAMES = ("pa", "ba", "ma")
_SPELLED = {"pa": "[[p'A:]]", "ba": "[[b'A:]]", "ma": "[[m'A:]]"}  # espeak-ng's own phonemes
READER = "slt"
TEXT = (
    "The Time Traveller, for so it will be convenient to speak of him, was expounding a recondite matter to us.",
    "His pale grey eyes shone and twinkled, and his usually pale face was flushed and animated.",
    "The fire burnt brightly, and the soft radiance of the incandescent lights in the lilies of silver caught the bubbles that "
    "flashed and passed in our glasses.",
    "Our chairs, being his patents, embraced and caressed us rather than submitted to be sat upon, and there was that luxurious "
    "after dinner atmosphere, when thought runs gracefully free of the trammels of precision.",
    "And he put it to us in this way, marking the points with a lean forefinger, as we sat and lazily admired his earnestness over "
    "this new paradox, as we thought it, and his fecundity.",
    "You must follow me carefully.",
    "I shall have to controvert one or two ideas that are almost universally accepted.",
    "The geometry, for instance, they taught you at school is founded on a misconception.",
    "Is not that rather a large thing to expect us to begin upon? said Filby, an argumentative person with red hair.",
    "I do not mean to ask you to accept anything without reasonable ground for it.",
    "You will soon admit as much as I need from you.",
    "You know of course that a mathematical line, a line of thickness nil, has no real existence.",
)

Samples = NDArray[np.float32]
Voice = Callable[[str, Path], list[str]]


def espeak(text: str, path: Path) -> list[str]:
    """Command that lets espeak-ng's third female voice say a syllable."""
    return ["espeak-ng", "-v", "en-us+f3", "-w", str(path), _SPELLED[text]]


def flite(voice: str) -> Voice:
    """Commands that let a voice of flite say something."""
    return lambda text, path: ["flite", "-voice", voice, "-t", text, "-o", str(path)]


VOICES: dict[str, Voice] = {"syllables_espeak_f3": espeak, "syllables_flite_rms": flite("rms")}
"""Voice of each track of syllables, by the file's name."""


def say_to_samples(voice: Voice, text: str) -> Samples:
    """Speak a text with a synthesiser; returns samples at `RATE`.

    Raises:
        InputError: The synthesiser is not installed, or fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "said.wav"
        command = voice(text, path)
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        except FileNotFoundError as error:
            raise InputError(
                f"The synthesiser {command[0]} is not installed; install Debian's package of this name and run this again."
            ) from error
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise InputError(f"{command[0]} could not speak '{text[:40]}' ({error}).") from error
        return load_audio(path, RATE, min_seconds=0.0).samples


def spoken_part(samples: Samples) -> Samples:
    """The samples from the first audible one to the last, with a short fade at the end, at the peak `PEAK`.

    Raises:
        InputError: All samples are zero.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0:
        raise InputError("The synthesiser said nothing; try another version of it.")
    audible = np.flatnonzero(np.abs(samples) > AUDIBLE * peak)
    part = samples[audible[0] : audible[-1] + 1] * np.float32(PEAK / peak)
    fade = min(len(part), round(_FADE * RATE))
    part[len(part) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return part


def place_syllables(parts: dict[str, Samples]) -> tuple[Samples, list[tuple[float, str]]]:
    """Put syllables into a silent track, in turn; returns the track and the onsets measured in it."""
    track = np.zeros(round(TRACK_SECONDS * RATE), np.float32)
    names = [NAMES[k % len(NAMES)] for k in range(SYLLABLES)]
    for k, name in enumerate(names):
        start = round((FIRST + k * STEP) * RATE)
        part = parts[name][: round((STEP - _QUIET) * RATE)]
        track[start : start + len(part)] = part[: len(track) - start]
    onsets = measure_onsets(track)
    if len(onsets) != len(names):
        raise InputError(f"{len(onsets)} onsets are heard in the track of {len(names)} syllables; use another voice.")
    return track, list(zip(onsets, names, strict=True))


def measure_onsets(track: Samples) -> list[float]:
    """Seconds at which sound begins after silence."""
    audible = np.flatnonzero(np.abs(track) > AUDIBLE * np.abs(track).max(initial=1e-9))
    gaps = np.diff(audible, prepend=-RATE)
    return [float(place) / RATE for place in audible[gaps > _QUIET * RATE]]


def read_text(voice: Voice, seconds: float) -> tuple[Samples, list[tuple[float, float]]]:
    """Read `TEXT` with pauses between sentences, until no further sentence fits.

    Returns:
        Samples of exactly these seconds, and the pauses (beginning and end in seconds), the last of which lasts until the end.
    """
    track, pauses, place = np.zeros(round(seconds * RATE), np.float32), [(0.0, PAUSE)], round(PAUSE * RATE)
    for sentence in TEXT:
        part = spoken_part(say_to_samples(voice, sentence))
        if place + len(part) > len(track):
            break
        track[place : place + len(part)] = part
        end = place + len(part)
        place = end + round(PAUSE * RATE)
        pauses.append((end / RATE, min(place, len(track)) / RATE))
    pauses[-1] = (pauses[-1][0], seconds)
    return track, pauses


def write_wav(path: Path, samples: Samples) -> None:
    """Write samples as 16-bit mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def main() -> int:
    """Make all tracks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for WAV and JSON files")
    options = parser.parse_args()
    try:
        made = {}
        for name, voice in VOICES.items():
            parts = {syllable: spoken_part(say_to_samples(voice, syllable)) for syllable in NAMES}
            made[name] = place_syllables(parts)
        reading, pauses = read_text(flite(READER), READING_SECONDS)
    except FantasyTalkingError as error:
        raise SystemExit(str(error)) from error
    options.output.mkdir(parents=True, exist_ok=True)
    for name, (track, onsets) in made.items():
        write_wav(options.output / f"{name}.wav", track)
        (options.output / f"{name}.json").write_text(json.dumps(onsets) + "\n")
        print(f"{name}: {', '.join(f'{time:.3f} {syllable}' for time, syllable in onsets)}")
    write_wav(options.output / "reading.wav", reading)
    (options.output / "reading.json").write_text(json.dumps({"pauses": pauses}) + "\n")
    print(f"reading: {len(reading) / RATE:.2f} s, {len(pauses)} pauses")
    return 0


if __name__ == "__main__":
    sys.exit(main())
