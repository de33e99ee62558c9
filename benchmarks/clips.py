"""Which clips, windows and portraits the benchmarks use.

Clips are read from a folder with `catalogue.jsonl`, as training reads them; only rows of the split "val" are used, whose
identities are never trained on. Letters: F frames, n samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fantasytalking.data.face_tracks import read_catalogue
from fantasytalking.errors import InputError
from fantasytalking.evaluation.pairing import choose_lenders
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import probe_video, read_frames
from fantasytalking.perception.face_embedding import embed_face

FPS = 25.0
"""Frame rate at which clips are read and videos are made."""
SOUND_RATE = 48000
SAME_FACE = 0.6
"""Cosine of face embeddings above which two faces count as one person."""


@dataclass(frozen=True)
class Clip:
    """A clip of the validation split.

    Attributes:
        path: the video.
        identity, kind: of its row in the catalogue.
        frames: its length at `FPS`.
        lag: frames by which the face lags behind the sound, 0 unless it was measured.
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
    """A stretch of a clip, in frames at `FPS`."""

    clip: Clip
    start: int
    frames: int

    @property
    def name(self) -> str:
        return f"{self.clip.name}@{self.start}"

    def picture(self) -> NDArray[np.uint8]:
        """The window's first frame, [H, W, 3] uint8."""
        return read_frames(self.clip.path, FPS, 1, self.start / FPS)[0][0]

    def video(self) -> NDArray[np.uint8]:
        """[F, H, W, 3] uint8."""
        return read_frames(self.clip.path, FPS, self.frames, self.start / FPS)[0]

    def speech(self, frames: int | None = None) -> Audio:
        """Sound from the window's start on, exactly as long as `frames` frames (the window's own number if None)."""
        seconds, start = (frames or self.frames) / FPS, (self.start - self.clip.lag) / FPS
        # Before the clip's first frame there is silence.
        before = max(0.0, -start)
        wanted = {"start": max(0.0, start), "seconds": seconds - before}
        sound = load_audio(self.clip.path, SOUND_RATE, min_seconds=0.0, **wanted)
        samples, first = np.zeros(round(seconds * SOUND_RATE), np.float32), round(before * SOUND_RATE)
        samples[first : first + len(sound.samples)] = sound.samples[: len(samples) - first]
        return Audio(samples, SOUND_RATE)


def validation_clips(data: Path, kind: str | None = None, lags: Mapping[str, int] | None = None) -> list[Clip]:
    """Clips of the validation split in the order of their names.

    Args:
        data: folder with `catalogue.jsonl`.
        kind: "real" or "generated"; None takes both.
        lags: clip name -> frames by which its face lags behind its sound.

    Raises:
        InputError: no catalogue, or no such clip in it.
    """
    rows = [r for r in read_catalogue(data / "catalogue.jsonl") if r.split == "val" and kind in (None, r.kind)]
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
    """Up to `count` windows of up to `frames` frames that do not overlap, spread from the clip's start to its end."""
    length = min(frames, clip.frames)
    number = max(1, min(count, clip.frames // length))
    starts = np.linspace(0, clip.frames - length, number).round().astype(int) if number > 1 else [0]
    return [Window(clip, int(start), length) for start in starts]


def donors(lengths: Sequence[int], names: Sequence[str]) -> list[int]:
    """For each clip another one whose speech it gets, by `pairing.choose_lenders`: never of the same name, never shorter.

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
class Sitter:
    """An unseen face and the foreign speech that it is given."""

    window: Window
    picture: NDArray[np.uint8]
    embedding: NDArray[np.float32]
    speaker: Window

    @property
    def speech(self) -> Audio:
        """As long as the speaker's window."""
        return self.speaker.speech()


def choose_sitters(data: Path, count: int, seconds: float) -> list[Sitter]:
    """First frames of validation clips, real and generated in turn, no person twice, each with another clip's speech.

    Persons are told apart by name and by embedding: catalogues name clips rather than people.
    """
    clips, frames = validation_clips(data), round(seconds * FPS)
    kinds = [[c for c in clips if c.kind == kind] for kind in ("real", "generated")]
    longest = max(map(len, kinds))
    turns = [group[i] for i in range(longest) for group in kinds if i < len(group)]
    speakers = [Window(c, 0, frames) for c in turns if c.frames >= frames]
    sitters: list[Sitter] = []
    for clip in turns:
        if len(sitters) == count:
            break
        window = Window(clip, 0, min(frames, clip.frames))
        picture = window.picture()
        embedding = embed_face(picture)
        if any(float(embedding @ other.embedding) > SAME_FACE for other in sitters):
            continue
        foreign = [s for s in speakers if s.clip.identity != clip.identity]
        if not foreign:
            raise InputError(
                f"No clip of another identity than {clip.identity} lasts {seconds:g} s; give fewer --seconds."
            )
        sitters.append(Sitter(window, picture, embedding, foreign[(len(sitters) + 1) % len(foreign)]))
    return sitters
