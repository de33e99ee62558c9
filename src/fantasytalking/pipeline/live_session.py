"""Live sessions: speech goes in as it is spoken, from any thread, and frames with their sound come out."""

from __future__ import annotations

import dataclasses
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fantasytalking.acceleration.apply_plan import memory_released
from fantasytalking.errors import AudioError
from fantasytalking.pipeline.call_arguments import Case
from fantasytalking.pipeline.clip_batches import Run
from fantasytalking.pipeline.generation_marks import marks_of
from fantasytalking.pipeline.inputs import Portrait
from fantasytalking.pipeline.live_delay import LiveDelay
from fantasytalking.pipeline.live_speech import LiveSpeech
from fantasytalking.pipeline.live_state import load_live_state, save_live_state
from fantasytalking.pipeline.long_output import StreamedFrame
from fantasytalking.pipeline.long_video import LongVideo
from fantasytalking.system.prefetching import quick_switches

__all__ = ["LiveSession"]


class LiveSession:
    """One portrait that says what it is given: `FantasyTalkingPipeline.live_session` makes it.

    Any thread may call `push`, `finish`, `cancel` and `save`. One thread iterates; the frames are made in it. In real time frames come
    a segment at a time, at the video's own rate on average, as soon as their speech is there; whoever shows them keeps a buffer as long
    as a segment.

    ```python
    with pipeline.live_session("portrait.png", sample_rate=24000) as session:
        threading.Thread(target=listen, args=(session,)).start()  # calls session.push(samples) and, at the end, session.finish()
        for frame in session:
            show(frame.pixels, frame.sound)
    ```

    Attributes:
        sample_rate: Samples a second of the sound that comes in and goes out.
        fps: Frames per second.
        size: (H, W) of the frames in pixels.
        delay: Time from sound to frame.
        speech: What has come and is still to be said.
        settings: Settings of the generation.
        progress: Kept times and notes.
        marks: What a file of the video is marked with, for `StreamWriter`.
    """

    def __init__(
        self, pipeline: Any, case: Case, portrait: Portrait, speech: LiveSpeech, run: Run, digest: str, resume: Any
    ) -> None:
        self.sample_rate, self.fps = speech.sample_rate, speech.fps
        self.size = int(portrait.pixels.shape[0]), int(portrait.pixels.shape[1])
        self.delay, self.progress, self.settings = LiveDelay(), run.progress, case.settings
        self._pipeline, self.speech, self._digest = pipeline, speech, digest
        # What is said is not known yet, so the identifier cannot be drawn from it.
        self.marks = dataclasses.replace(marks_of(pipeline, case.settings, ()), identifier=secrets.randbits(32))
        self._given = self._skipped = 0
        with torch.no_grad():
            self._video = LongVideo(pipeline, case, portrait, speech, run, is_stream=True)
            if resume is not None:
                state, numbers = load_live_state(resume, digest)
                self._video.restore(state)
                speech.restore(numbers, int(numbers["given"][0]))
                self._skipped = int(numbers["given"][0]) - self._video.frames
                self._given = self._video.frames
            self._mark()
        self._frames = self._made()

    def push(self, chunk: Any, timeout: float | None = None) -> bool:
        """Give speech.

        Args:
            chunk: float samples [n] in -1..1, int16 samples, or bytes of the session's PCM format; may be empty. Several channels are
                mixed.
            timeout: Seconds to wait where `LiveOptions.waiting_seconds` of speech wait already; None waits as long as it takes, so do
                not push that much from the thread that iterates.

        Returns:
            Whether it was taken: not after `stop` or `cancel`, nor where there was no room in time.

        Raises:
            AudioError: It is no sound, or the session was finished.
        """
        return self.speech.push(chunk, timeout)

    def finish(self) -> None:
        """Say that no more speech comes: the frames of what was given still come, then the iteration ends.

        Raises:
            AudioError: Bytes were given that end within a sample.
        """
        self.speech.finish()

    def stop(self) -> None:
        """End the speech where it is, whatever else its source gives: as `finish`, but `push` returns false from now on."""
        self.speech.stop()

    def cancel(self) -> None:
        """End the iteration as soon as possible; whoever waits in `push` goes on."""
        self.speech.cancel()

    def __enter__(self) -> LiveSession:
        """The session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what is left."""
        self.cancel()
        # by another thread it is ended at its next frame
        with suppress(ValueError):
            self._frames.close()  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[StreamedFrame]:
        """The frames from the next one on."""
        return self

    def __next__(self) -> StreamedFrame:
        """The next frame; waits for speech, or in real time for the moment at which it is due."""
        return next(self._frames)

    @torch.no_grad()
    def _made(self) -> Iterator[StreamedFrame]:
        speech = self.speech
        with memory_released(self._pipeline), quick_switches():
            for stretch in self._video.stretches():
                is_first = True
                for pixels in stretch.frames:
                    number = self._given
                    self._given += 1
                    if self._skipped:
                        self._skipped -= 1
                        continue
                    sound, is_rest, seconds = speech.shown(number, is_first)
                    is_first = False
                    if seconds is not None:
                        self.delay.add(seconds)
                    yield StreamedFrame(number, pixels, sound, self.sample_rate, self.fps, self.marks, is_rest)
                    if speech.is_cancelled:
                        return
                self._mark()
        speech.raise_error()

    def _mark(self) -> None:
        """Keep what all later frames depend on, as it is between two segments."""
        state = self._video.state()
        self.speech.forget(self._given, self._video.before)
        self._marked: tuple[dict[str, Tensor], int] = state, self._given

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the session as it is, with the speech that waits, to go on in another process with `resume=path`.

        Frames that were taken are not given again; the next one after going on is the next one here.

        Args:
            path: safetensors file; an existing one is replaced.

        Raises:
            OutputError: It cannot be written.
        """
        state, _ = self._marked
        numbers = self.speech.state()
        save_live_state(path, state, {**numbers, "given": np.array([self._given])}, self._digest)


class Feeder:
    """Gives a session the chunks of an iterable: in a thread of its own in real time, else where more speech is needed.

    Args:
        speech: Speech of the session.
        chunks: Chunks as `push` takes them, or None for nothing yet.
        in_thread: Whether it has a thread.
    """

    def __init__(self, speech: LiveSpeech, chunks: Iterator[Any], in_thread: bool) -> None:
        self._speech, self._chunks = speech, chunks
        if in_thread:
            threading.Thread(target=self._run, name="live-speech", daemon=True).start()
        else:
            speech.pull_from(self._pull)

    def _pull(self) -> bool:
        try:
            chunk = next(self._chunks)
            return chunk is not None and self._speech.push(chunk)
        except StopIteration:
            self._finish()
        except Exception as error:
            self._speech.fail(error)
        return True

    def _finish(self) -> None:
        try:
            self._speech.finish()
        except AudioError as error:
            self._speech.fail(error)

    def _run(self) -> None:
        idle = threading.Event()
        try:
            for chunk in self._chunks:
                if chunk is None:
                    idle.wait(0.01)
                elif not self._speech.push(chunk):
                    return
            self._speech.finish()
        except BaseException as error:
            self._speech.fail(error)
