"""Text to speech without a network: hibari (extra `tts`, a neural English voice) and espeak-ng (many languages), where installed.

hibari has further voices, which it would download by itself; only those that are on this machine are offered.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import shutil
import subprocess
import threading
import wave
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from fantasytalking.errors import AudioError, MissingDependencyError, SettingsError
from fantasytalking.system.records import closest_name

__all__ = ["FASTEST", "MOST_CHARACTERS", "SLOWEST", "Voice", "speak", "voices"]

MOST_CHARACTERS = 4000
SLOWEST, FASTEST = 0.5, 2.0
HOW_TO_INSTALL = (
    "install the extra 'tts' (pip install 'fantasytalking[tts]') or the program espeak-ng, and start the server again"
)

_PROGRAM = "espeak-ng"
_WORDS_A_MINUTE = 165
_PROGRAM_SECONDS = 60
_WAV_HEADER_BYTES = 44

# Loading takes half a second and 160 MB, and a session of ONNX Runtime is used by one request at a time.
_loading = threading.Lock()


class Voice(BaseModel):
    """A voice that a text can be spoken by."""

    id: Annotated[str, Field(description="What a request calls it, such as hibari:heart or espeak-ng:de.")]
    title: Annotated[str, Field(description="Name for people.")]
    language: Annotated[str, Field(description="Language tag, such as en-US.")]


@functools.cache
def voices() -> tuple[Voice, ...]:
    """All voices of this machine, neural ones first; empty where nothing can speak."""
    return (*_hibari_voices(), *_espeak_voices())


def speak(text: str, voice: str | None = None, speed: float = 1.0) -> bytes:
    """Speak a text.

    Args:
        text: What is said, at most `MOST_CHARACTERS` long.
        voice: Id of a voice; None takes the first.
        speed: 1 is the voice's own pace, 2 twice as fast; `SLOWEST` to `FASTEST`.

    Returns:
        A WAV file, 16 bit, one channel.

    Raises:
        SettingsError: No such voice, or the speed or length of the text is outside its range.
        AudioError: Nothing in the text can be spoken, or the program failed.
        MissingDependencyError: Nothing on this machine can speak.
    """
    known = [one.id for one in voices()]
    if not known:
        raise MissingDependencyError(f"This server cannot speak texts; {HOW_TO_INSTALL}, or send a sound file.")
    voice = voice or known[0]
    if voice not in known:
        near = closest_name(voice, known) or known[0]
        raise SettingsError(f"There is no voice {voice!r}; take {near!r} or another one of GET /v1/voices.")
    if not text.strip():
        raise AudioError("There are no words to speak; write some.")
    if len(text) > MOST_CHARACTERS:
        raise SettingsError(
            f"The text has {len(text)} characters, but at most {MOST_CHARACTERS} are spoken at once; shorten it."
        )
    if not SLOWEST <= speed <= FASTEST:
        raise SettingsError(f"speed must be from {SLOWEST} to {FASTEST:g}, but {speed:g} was given.")
    engine, _, name = voice.partition(":")
    samples, rate = _speak_by_hibari(text, name, speed) if engine == "hibari" else _speak_by_espeak(text, name, speed)
    if not samples.any():
        raise AudioError(
            f"The voice {voice!r} can read nothing in this text; write words of its language, or choose another voice."
        )
    return _wav(samples, rate)


def _hibari_voices() -> list[Voice]:
    if importlib.util.find_spec("hibari") is None or importlib.util.find_spec("onnxruntime") is None:
        return []
    from hibari.voices import VOICES, voice_path

    found = []
    for name, about in VOICES.items():
        try:
            voice_path(name, download_missing=False)
        except FileNotFoundError:
            continue
        title = f"{name.capitalize()} ({about['accent']} English, {about['gender']})"
        found.append(Voice(id=f"hibari:{name}", title=title, language=about["language"]))
    return found


@functools.lru_cache(maxsize=2)
def _hibari(name: str) -> Any:
    from hibari import Hibari

    return Hibari(voice=name)


def _speak_by_hibari(text: str, name: str, speed: float) -> tuple[np.ndarray, int]:
    with _loading:
        tts = _hibari(name)
        # a fixed seed: the same words sound the same, so that a video can be made again
        return np.round(np.clip(tts(text, speed=speed, seed=0), -1, 1) * 32767).astype("<i2"), int(tts.sample_rate)


def _espeak_voices() -> list[Voice]:
    program = shutil.which(_PROGRAM)
    if program is None:
        return []
    listed = subprocess.run([program, "--voices"], capture_output=True, text=True, timeout=_PROGRAM_SECONDS)
    found: dict[str, Voice] = {}
    for line in listed.stdout.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 4:
            continue
        language, name = columns[1], columns[3].replace("_", " ")
        found.setdefault(language, Voice(id=f"{_PROGRAM}:{language}", title=f"{name}, espeak-ng", language=language))
    # where there is no neural voice, English comes first, the language of the page
    return sorted(found.values(), key=lambda one: (not one.language.startswith("en"), one.title))


def _speak_by_espeak(text: str, name: str, speed: float) -> tuple[np.ndarray, int]:
    program = shutil.which(_PROGRAM) or _PROGRAM
    command = [program, "-v", name, "-s", str(round(_WORDS_A_MINUTE * speed)), "--stdin", "--stdout", "-b", "1"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=_PROGRAM_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AudioError(f"The program {_PROGRAM} could not speak the text ({error}); try a shorter one.") from error
    if done.returncode or len(done.stdout) < _WAV_HEADER_BYTES:
        raise AudioError(f"The program {_PROGRAM} could not speak the text; choose another voice.")
    # its header is written before the length is known
    header, sound = done.stdout[:_WAV_HEADER_BYTES], done.stdout[_WAV_HEADER_BYTES:]
    return np.frombuffer(sound[: len(sound) // 2 * 2], "<i2"), int.from_bytes(header[24:28], "little")


def _wav(samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(rate)
        target.writeframes(samples.tobytes())
    return file.getvalue()
