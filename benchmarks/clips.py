"""Selection of the clips, windows and portraits that the benchmarks use.

Clips are read from a folder with `catalogue.jsonl`, as in training. Only rows with the split "val" are used; their
identities are never trained on. Letters: F frames, n samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fantasytalking.data.catalogue import read_catalogue
from fantasytalking.errors import InputError
from fantasytalking.evaluation.pairing import choose_lenders
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import probe_video, read_frames
from fantasytalking.perception.face_embedding import embed_face

FPS = 25.0
"""Frames per second at which clips are read and videos are generated."""
SOUND_RATE = 48000
"""Samples per second of the speech."""
LEFT_OUT = {"r0083": "its picture stands still for the first 219 of its 360 frames while the sound goes on"}
"""Clips of the shared footage that are in no figure, and why; `fantasytalking prepare` leaves such stretches out as `frozen`."""
SAME_FACE = 0.6
"""Cosine of two face embeddings above which they count as the same person."""


@dataclass(frozen=True)
class Clip:
    """A clip of the validation split.

    Attributes:
        path: Path of the video.
        identity: Name of the person, from the catalogue.
        kind: "real" or "generated", from the catalogue.
        frames: Length in frames at `FPS`.
        lag: Frames by which the face lags behind the sound; 0 unless it was measured.
    """

    path: Path
    identity: str
    kind: str
    frames: int
    lag: int = 0

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class Window:
    """A section of a clip.

    Attributes:
        clip: The clip.
        start: First frame, at `FPS`.
        frames: Length in frames at `FPS`.
    """

    clip: Clip
    start: int
    frames: int

    @property
    def name(self) -> str:
        return f"{self.clip.name}@{self.start}"

    def picture(self) -> NDArray[np.uint8]:
        """First frame of the window, [H, W, 3] uint8."""
        return read_frames(self.clip.path, FPS, 1, self.start / FPS)[0][0]

    def video(self) -> NDArray[np.uint8]:
        """All frames of the window, [F, H, W, 3] uint8."""
        return read_frames(self.clip.path, FPS, self.frames, self.start / FPS)[0]

    def speech(self, frames: int | None = None) -> Audio:
        """Sound from the start of the window, exactly as long as `frames` frames (default: those of the window)."""
        seconds, start = (frames or self.frames) / FPS, (self.start - self.clip.lag) / FPS
        # Before the clip's first frame there is silence.
        before = max(0.0, -start)
        wanted = {"start": max(0.0, start), "seconds": seconds - before}
        sound = load_audio(self.clip.path, SOUND_RATE, min_seconds=0.0, **wanted)
        samples, first = np.zeros(round(seconds * SOUND_RATE), np.float32), round(before * SOUND_RATE)
        samples[first : first + len(sound.samples)] = sound.samples[: len(samples) - first]
        return Audio(samples, SOUND_RATE)


def validation_clips(data: Path, kind: str | None = None, lags: Mapping[str, int] | None = None) -> list[Clip]:
    """List the clips of the validation split, sorted by name, without those of `LEFT_OUT`.

    Args:
        data: Folder with `catalogue.jsonl`.
        kind: "real" or "generated"; None takes both.
        lags: Frames by which the face lags behind the sound, by name of the clip.

    Raises:
        InputError: There is no catalogue, or it has no such clip.
    """
    rows = [r for r in read_catalogue(data / "catalogue.jsonl") if r.split == "val" and kind in (None, r.kind)]
    rows = [row for row in rows if Path(row.file).stem not in LEFT_OUT]
    if not rows:
        raise InputError(
            f"{data / 'catalogue.jsonl'} lists no {kind or ''} clip of the split 'val'; give another --data."
        )
    clips = []
    for row in sorted(rows, key=lambda r: r.file):
        path = data / row.file
        frames = int(probe_video(path).seconds * FPS + 1e-6)
        clips.append(Clip(path, row.identity, row.kind, frames, (lags or {}).get(path.stem, 0)))
    return clips


def spread_windows(clip: Clip, count: int, frames: int) -> list[Window]:
    """Spread up to `count` windows of up to `frames` frames from the start of a clip to its end, without overlap."""
    length = min(frames, clip.frames)
    number = max(1, min(count, clip.frames // length))
    starts = np.linspace(0, clip.frames - length, number).round().astype(int) if number > 1 else [0]
    return [Window(clip, int(start), length) for start in starts]


def assign_speech(lengths: Sequence[int], names: Sequence[str]) -> list[int]:
    """Assign to each clip another one whose speech it gets, by `pairing.choose_lenders`: never of the same name, never shorter.

    Raises:
        InputError: A clip has no possible donor.
    """

    def suits(clip: int, other: int) -> bool:
        return names[other] != names[clip] and lengths[other] >= lengths[clip]

    lenders = choose_lenders(lengths, suits)
    for clip, name in enumerate(names):
        if clip not in lenders:
            raise InputError(f"No clip of another identity is as long as {name} ({lengths[clip]} frames).")
    return [lenders[clip] for clip in range(len(names))]


@dataclass(frozen=True)
class SpeakingPortrait:
    """An unseen portrait, and speech of another person for it to speak.

    Attributes:
        window: Window whose first frame is the portrait.
        picture: The portrait, [H, W, 3] uint8.
        embedding: Unit-length face embedding of the portrait.
        speaker: Window of the speech.
    """

    window: Window
    picture: NDArray[np.uint8]
    embedding: NDArray[np.float32]
    speaker: Window

    @property
    def speech(self) -> Audio:
        """Speech of the speaker's window, as long as the window."""
        return self.speaker.speech()


def choose_portraits(data: Path, count: int, seconds: float) -> list[SpeakingPortrait]:
    """Choose first frames of validation clips, alternating real and generated ones, each with another clip's speech.

    No person appears twice. People are told apart by name and by embedding, as catalogues name clips rather than
    people.

    Args:
        data: Folder with `catalogue.jsonl`.
        count: Number of portraits, at most.
        seconds: Length of the speech.

    Raises:
        InputError: No clip of another identity is long enough.
    """
    clips, frames = validation_clips(data), round(seconds * FPS)
    kinds = [[c for c in clips if c.kind == kind] for kind in ("real", "generated")]
    longest = max(map(len, kinds))
    turns = [group[i] for i in range(longest) for group in kinds if i < len(group)]
    speakers = [Window(c, 0, frames) for c in turns if c.frames >= frames]
    portraits: list[SpeakingPortrait] = []
    for clip in turns:
        if len(portraits) == count:
            break
        window = Window(clip, 0, min(frames, clip.frames))
        picture = window.picture()
        embedding = embed_face(picture)
        if any(float(embedding @ other.embedding) > SAME_FACE for other in portraits):
            continue
        foreign = [s for s in speakers if s.clip.identity != clip.identity]
        if not foreign:
            raise InputError(
                f"No clip of another identity than {clip.identity} lasts {seconds:g} s; give fewer --seconds."
            )
        portraits.append(SpeakingPortrait(window, picture, embedding, foreign[(len(portraits) + 1) % len(foreign)]))
    return portraits
