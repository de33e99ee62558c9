"""Speech of unknown length: taken in from any thread, given out as the segments of a video, with rests where there is none.

Positions are samples of the sound as given unless they are said to be heard ones, at 16 kHz.

Dimensions: n samples.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fantasytalking.errors import AudioError
from fantasytalking.geometry import Strides
from fantasytalking.media.pcm import ChunkReader
from fantasytalking.media.running_level import RunningLevel
from fantasytalking.pipeline.inputs import SPEECH_RATE
from fantasytalking.pipeline.live_options import LiveOptions
from fantasytalking.pipeline.live_timeline import LiveTimeline
from fantasytalking.pipeline.segments import Segment, floor_frames
from fantasytalking.system.waiting import Clock

__all__ = ["CONTEXT_SECONDS", "LiveSpeech"]

CONTEXT_SECONDS = 6.0
"""Speech that the encoder hears, the newest included: with 4 s the mouth follows the speech less well, with 30 s hardly better
(r 0.41, 0.44 and 0.44 with the mouths of people who said it; 0.47 where it knows all of the speech)."""
_LONGEST_CHUNK = 0.5
"""Seconds of chunks up to which patience grows with them."""
_LEAST_RESERVE = 0.05
"""Seconds in which the first frames of a segment are made, at least."""
_POLL = 0.01
"""Seconds between two looks at a source that has nothing yet."""

Samples = npt.NDArray[np.float32]


class LiveSpeech:
    """The speech of one session, in place of `Speech`.

    Args:
        sample_rate: Samples a second.
        fps: Frames per second of the video.
        levels: What the speech passes through before it is encoded.
        options: Options of the session.
        clock: Tells the time.
        pcm_format: Format of chunks of bytes.

    Attributes:
        timeline: What has been taken in, and the silence put in.
        notes: None; see `Speech`.
        is_cancelled: Whether no more frames are wanted.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        sample_rate: int,
        fps: float,
        levels: tuple[RunningLevel, ...],
        options: LiveOptions,
        clock: Clock,
        pcm_format: str = "s16le",
    ) -> None:
        self.sample_rate, self.fps, self._options, self._clock = sample_rate, fps, options, clock
        self.timeline = LiveTimeline(sample_rate, levels)
        self._reader = ChunkReader(sample_rate, pcm_format)
        self._changed = threading.Condition(threading.RLock())
        self._incoming = deque[tuple[Samples, float]]()
        # Whether what was taken last is silence put in, or nothing.
        self._rests = True
        self._queued = self._used = self._first = 0
        self._stopped = self._ended = self._heard_all = self.is_cancelled = False
        self._error: BaseException | None = None
        self._pull: Callable[[], bool] | None = None
        # Ends of chunks in the timeline, and when they came.
        self._arrivals = deque[tuple[int, float]]()
        self._longest_chunk = 0
        # When frame 0 is due; None before the first frame. When the first segment was asked for; when the last one was begun.
        self._origin: float | None = None
        self._opened: float | None = None
        self._begun: float | None = None
        self._reserve = 0.0

    # ---- from any thread

    def push(self, chunk: Any, timeout: float | None = None) -> bool:
        """Take in a chunk; see `LiveSession.push`."""
        with self._changed:
            if self._stopped:
                return False
            if self._ended:
                raise AudioError("The live speech has been finished; begin another session for more.")
            samples = self._reader.read(chunk)
            # Enough for the next segment in any case, with half of the room taken; without a limit where the speech is asked for.
            least = 2 * (self._options.segment_seconds + 1.0)
            limit = max(self._options.waiting_seconds, least) * self.sample_rate if self._pull is None else math.inf
            until = None if timeout is None else self._clock.now() + timeout
            # A chunk that is longer than all that may wait needs half of the room.
            while self._waiting + min(len(samples), limit / 2) > limit and not self._stopped:
                left = None if until is None else until - self._clock.now()
                if left is not None and left <= 0:
                    return False
                self._clock.wait(self._changed, left)
            if self._stopped:
                return False
            if len(samples):
                self._incoming.append((samples, self._clock.now()))
                self._queued += len(samples)
                self._changed.notify_all()
            return True

    def finish(self) -> None:
        """No more speech comes; see `LiveSession.finish`."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            if not self._stopped:
                self._reader.finish()

    def stop(self) -> None:
        """Take no more speech, whatever its source gives; see `LiveSession.stop`."""
        with self._changed:
            self._stopped = self._ended = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """The source of the speech failed: what came is animated, then the error is raised."""
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def cancel(self) -> None:
        """No more frames are wanted; see `LiveSession.cancel`."""
        with self._changed:
            self.is_cancelled = self._stopped = self._ended = True
            self._changed.notify_all()

    def pull_from(self, more: Callable[[], bool]) -> None:
        """Ask a function for more speech where it is needed, in the thread that makes the frames; false: nothing yet."""
        self._pull = more

    # ---- in the thread that makes the frames

    @property
    def num_frames(self) -> int:
        """Frames whose speech is there: a multiple of 4 plus 1."""
        return floor_frames(self.timeline.sound.end / self.sample_rate * self.fps + Strides().time)

    @property
    def video_frames(self) -> int:
        """Frames of the video, as far as they are known: at the end the length of the speech, rounded to a frame."""
        return max(1, round(self.timeline.sound.end / self.sample_rate * self.fps)) if self.timeline.sound.end else 0

    def sample_of(self, frame: int) -> int:
        """The first sample of a frame."""
        return round(frame / self.fps * self.sample_rate)

    def heard_of(self, frame: int) -> int:
        """The first heard sample of a frame."""
        return round(frame / self.fps * SPEECH_RATE)

    def heard_until(self, frame: int) -> int:
        """One past the last heard sample that a segment hears which ends before a frame."""
        return self.heard_of(frame) + round(self._options.look_ahead * SPEECH_RATE)

    def next_segment(self, before: Segment | None, overlap: int, held_back: int, longest: int) -> Segment | None:
        """Wait for the speech of the next segment, or put silence in its place when it is late.

        Args:
            before: The segment before; None for the first one.
            overlap: Frames that neighbours share.
            held_back: Last frames of each segment that are shown with the next one.
            longest: Frames of the longest segment that the model can sample.

        Returns:
            None where there is nothing left, or no more is wanted.
        """
        stride = Strides().time
        new = max(stride, min(longest - overlap, round(self._options.segment_seconds * self.fps)) // stride * stride)
        if before is None:
            # The next segment comes before the frames of this one have been shown.
            number, start, given = 0, 0, 0
            end = min(floor_frames(new + held_back + stride - 1, 1 + stride), floor_frames(longest))
        else:
            number, start, given, end = before.number + 1, before.end - overlap, overlap, before.end + new
        self._await(self.heard_until(end), 0 if before is None else before.end - held_back)
        if self.is_cancelled:
            return None
        is_last = self._heard_all and self.video_frames <= end
        if is_last:
            done = 1 if before is None else before.end
            left = self.video_frames - done
            if left <= 0 and (before is not None or not self.video_frames):
                return None
            end = done + max(1, -(-left // stride)) * stride
        segment = Segment(number, start, end - start, given, is_last)
        self.begun(segment)
        return segment

    def _await(self, heard: int, frame: int) -> None:
        """Wait until so much is heard, or all has been, or it is time for a frame; then put silence in its place."""
        while True:
            with self._changed:
                self._take(heard)
                now, (soonest, latest) = self._clock.now(), self._times(heard, frame)
                is_there = self._heard_all or self.timeline.heard.end >= heard
                if self.is_cancelled or (is_there and (soonest is None or now >= soonest)):
                    return
                if not is_there and latest is not None and now >= latest:
                    self.timeline.rest_until(heard)
                    self._rests = True
                    return
                until = soonest if is_there else latest
                if is_there or self._pull is None:
                    self._clock.wait(self._changed, None if until is None else until - now)
                    continue
            # Without the lock, as it may take long.
            if not self._pull():
                with self._changed:
                    self._clock.wait(self._changed, _POLL)

    def _times(self, heard: int, frame: int) -> tuple[float | None, float | None]:
        """From when on a segment may be begun, and when it must be, with or without its speech."""
        if not self._options.real_time:
            return None, None
        if self._origin is None:
            if self._opened is None:
                self._opened = self._clock.now()
            seconds = (heard - self.heard_of(self._first)) / SPEECH_RATE
            return None, self._opened + seconds + self._patience
        due = self._origin + frame / self.fps
        return due - self._options.ahead_seconds - self._reserve, due - self._reserve

    @property
    def _patience(self) -> float:
        return max(self._options.patience, min(self._longest_chunk / self.sample_rate, _LONGEST_CHUNK))

    @property
    def _waiting(self) -> int:
        """Samples that no segment has used or looked at yet."""
        ahead = round(self._options.look_ahead * self.sample_rate)
        return self._queued + max(0, self.timeline.sound.end - self._used - ahead)

    def _take(self, heard: int) -> None:
        """Take what has come into the timeline; after a rest only if it is enough for a segment, lest a word is broken again."""
        if self._rests and not self._ended and self._queued < self.timeline.missing(heard):
            return
        pieces, end = list[Samples](), self.timeline.sound.end
        while self._incoming:
            samples, came = self._incoming.popleft()
            pieces.append(samples)
            end += len(samples)
            self._arrivals.append((end, came))
            self._longest_chunk = max(self._longest_chunk, len(samples))
        self._queued = 0
        if pieces:
            self.timeline.append(*pieces)
            self._rests = False
        if self._ended and not self._heard_all:
            self.timeline.finish()
            self._heard_all = True

    def begun(self, segment: Segment) -> None:
        """A segment uses its speech; there is room for more."""
        with self._changed:
            self._begun = self._clock.now()
            self._used = self.sample_of(segment.end)
            self._changed.notify_all()

    def shown(self, frame: int, is_first: bool) -> tuple[Samples, bool, float | None]:
        """A frame is given now.

        Args:
            frame: Its number.
            is_first: Whether it is the first of its stretch.

        Returns:
            Its sound; whether that is silence put in; and seconds since all of its speech had come, None where there is none.
        """
        first, end, now = self.sample_of(frame), self.sample_of(frame + 1), self._clock.now()
        if self._origin is None:
            self._origin = now + self._patience - frame / self.fps
        # Who shows them waits for a late frame, and so all that follow are due later.
        self._origin = max(self._origin, now - frame / self.fps)
        if is_first and self._begun is not None:
            self._reserve = max(_LEAST_RESERVE, 1.2 * (now - self._begun), 0.9 * self._reserve)
        with self._changed:
            sound, is_rest = self.timeline.sound_of(first, min(end, self.timeline.sound.end))
            while len(self._arrivals) > 1 and self._arrivals[0][0] < end:
                self._arrivals.popleft()
            came = self._arrivals[0][1] if self._arrivals and not is_rest else None
        return sound, is_rest, None if came is None else now - came

    def forget(self, frames: int, before: Segment | None) -> None:
        """Forget what neither the frames from a number on need, nor the segment that follows another one."""
        with self._changed:
            heard = 0 if before is None else self.heard_of(before.end) - round(CONTEXT_SECONDS * SPEECH_RATE)
            self.timeline.forget(self.sample_of(frames), heard)

    def raise_error(self) -> None:
        """Raise the error of the source, if it failed."""
        if self._error is not None:
            raise self._error

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that came and that later frames need, as arrays; may be asked for by any thread."""
        with self._changed:
            ended = np.array([self._ended and self._error is None and not self.is_cancelled])
            left = np.frombuffer(self._reader.left, np.uint8)
            pieces = [samples for samples, _ in self._incoming]
            incoming = np.concatenate([np.zeros(0, np.float32), *pieces])
            rests = np.array([self._rests])
            return {**self.timeline.state(), "ended": ended, "left": left, "incoming": incoming, "is_resting": rests}

    def restore(self, state: dict[str, npt.NDArray[Any]], first: int) -> None:
        """Go on from a stored state with a frame."""
        self.timeline.restore(state)
        self._reader.left = state["left"].tobytes()
        self._ended, self._rests = bool(state["ended"][0]), bool(state["is_resting"][0])
        self._incoming.append((np.array(state["incoming"], np.float32), self._clock.now()))
        self._queued = len(state["incoming"])
        self._first, self._used = first, self.sample_of(first)
