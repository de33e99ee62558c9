"""How long after its sound does a frame of live speech come, what does a stall do, and does a long session grow?

The packaged portrait says the packaged speech, which a thread gives in real time in chunks, again and again with a pause. The delay of
a frame is the time from when its last sample was spoken, in the middle of a chunk that comes later, to when the frame was given; frames
are not encoded. A minute takes a minute, and other work on the machine shows.

    python benchmarks/live.py                       # chunks of 20 to 500 ms, and a stall of 3 s
    python benchmarks/live.py --process-clock       # the same as on one core with nothing else to do
    python benchmarks/live.py --minutes 30          # one long session: delay and memory of each minute
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_run import Quiet, Record, generation_settings, load_model, option_parser, say, table
from numpy.typing import NDArray

from fantasytalking.media.audio import load_audio
from fantasytalking.pipeline.live_options import LiveOptions
from fantasytalking.pipeline.live_session import LiveSession
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.system.waiting import Clock, SystemClock

EXAMPLE = embedded_folder() / "example"
RATE = 16000
CHUNKS = (20, 50, 100, 200, 500)
"""Milliseconds."""
STALL = 3.0
PAUSE = 0.8


@dataclass
class Frames:
    """What came out of a session.

    Attributes:
        came: When each frame came, in seconds from the first sample.
        delays: Seconds from sound to frame, of frames with speech.
        rests: Numbers of the frames that rest.
        memory: Memory of the process in MB, at each whole minute.
    """

    came: list[float] = field(default_factory=list)
    delays: list[tuple[float, float]] = field(default_factory=list)
    rests: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def percentile(self, percent: float, first: float = 0.0, end: float = 1e9) -> float:
        """Delay of the frames that came in a span of time."""
        chosen = [delay for came, delay in self.delays if first <= came < end]
        return float(np.percentile(chosen, percent)) if chosen else float("nan")

    def rate(self) -> float:
        """Frames per second from the first frame on."""
        return (len(self.came) - 1) / (self.came[-1] - self.came[0])

    def late(self, fps: float, buffered: float) -> int:
        """Frames that a player would have waited for, which starts so many seconds after the first frame."""
        start = self.came[0] + buffered
        return sum(came > start + number / fps for number, came in enumerate(self.came))


Event = tuple[float, Callable[[], object]]


class ProcessClock:
    """A clock that passes with the computing time of this process, all threads together, and by waiting, which takes no time.

    Delays are those of a machine with one core that has nothing else to do, whatever else this one does.
    """

    def __init__(self) -> None:
        self._events, self._skipped = deque[Event](), 0.0

    def begin(self, events: list[Event]) -> None:
        """Begin anew, with what happens at which second, in order."""
        self._events, self._skipped = deque(events), -time.process_time()

    def now(self) -> float:
        """See `system.waiting.Clock`; what has happened meanwhile is made to happen."""
        now = time.process_time() + self._skipped
        while self._events and self._events[0][0] <= now:
            self._events.popleft()[1]()
        return now

    def wait(self, changed: threading.Condition, seconds: float | None) -> None:
        """See `system.waiting.Clock`."""
        now = self.now()
        ends = [] if seconds is None else [now + max(0.0, seconds)]
        ends += [self._events[0][0]] if self._events else []
        self._skipped += max(0.0, min(ends) - now) if ends else 0.01
        self.now()


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def chunks(seconds: float, chunk: float, stall_at: float) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Speech for so many seconds, with one stall: when each chunk is there, and its samples."""
    example = load_audio(EXAMPLE / "speech.wav", RATE).samples
    speech = np.concatenate([example, np.zeros(round(PAUSE * RATE), np.float32)])
    size = round(chunk * RATE)
    for at in range(0, round(seconds * RATE), size):
        stalled = STALL if at / RATE >= stall_at else 0.0
        yield stalled + (at + size) / RATE, np.take(speech, range(at, at + size), mode="wrap")


def speak(session: LiveSession, given: Iterator[tuple[float, NDArray[np.float32]]]) -> None:
    """Give chunks when they are there."""
    start = time.monotonic()
    for at, samples in given:
        time.sleep(max(0.0, start + at - time.monotonic()))
        if not session.push(samples):
            return
    session.finish()


def begin(pipeline: Any, options: Any, given: Iterator[tuple[float, NDArray[np.float32]]]) -> tuple[LiveSession, Clock]:
    """A session that is spoken to."""
    live = LiveOptions(segment_seconds=options.segment_seconds)
    settings = {"seed": options.seed, "longest_side": options.longest_side, "options": live, "progress": Quiet()}
    if not options.process_clock:
        session = pipeline.live_session(EXAMPLE / "portrait.png", sample_rate=RATE, **settings)
        threading.Thread(target=speak, args=(session, given), daemon=True).start()
        return session, SystemClock()
    events: list[Event] = []
    holder: list[LiveSession] = []
    for at, samples in given:
        events.append((at, lambda samples=samples: holder[0].push(samples)))
    events.append((events[-1][0], lambda: holder[0].finish()))
    clock = ProcessClock()
    session = pipeline.live_session(EXAMPLE / "portrait.png", sample_rate=RATE, clock=clock, **settings)
    holder.append(session)
    clock.begin(events)
    return session, clock


def watch(pipeline: Any, options: Any, seconds: float, chunk: float, stall_at: float = 1e9) -> Frames:
    """Run one session in real time."""
    found, rests = Frames(), dict[int, int]()
    session, clock = begin(pipeline, options, chunks(seconds, chunk, stall_at))
    with session:
        start = 0.0 if options.process_clock else clock.now()
        for frame in session:
            now = clock.now() - start
            found.came.append(now)
            rests.update(session.speech.timeline.rests)
            end = session.speech.sample_of(frame.number + 1)
            if frame.is_rest:
                found.rests.append(frame.number)
            else:
                put_in = sum(min(high, end) - low for low, high in rests.items() if low < end)
                spoken = (end - put_in) / RATE
                found.delays.append((now, now - spoken - (STALL if spoken > stall_at else 0.0)))
            while len(found.memory) < now // 60:
                found.memory.append(resident())
                minute = len(found.memory)
                span = (minute - 1) * 60.0, minute * 60.0
                say(
                    f"minute {minute}: {resident():.0f} MB, delay {found.percentile(50, *span):.2f} and "
                    f"{found.percentile(99, *span):.2f} s, {len(found.rests)} frames of rest so far"
                )
    return found


def main() -> int:
    """Measure chunks and a stall, or one long session."""
    parser = option_parser(__doc__)
    parser.add_argument("--longest-side", type=int, default=512, help="longest side of the video, in pixels")
    parser.add_argument("--segment-seconds", type=float, default=LiveOptions().segment_seconds, help="see LiveOptions")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each session")
    parser.add_argument("--process-clock", action="store_true", help="count computing time in place of the time of day")
    parser.add_argument("--minutes", type=float, help="length of one session in place of the table")
    options = parser.parse_args()
    pipeline = load_model(options)
    record = Record("live", options, generation_settings(pipeline, longest_side=options.longest_side))
    rows = []
    watch(pipeline, options, 3.0, 0.1)  # first calls are slow
    if options.minutes:
        found = watch(pipeline, options, 60 * options.minutes, 0.1)
        for minute, memory in enumerate(found.memory):
            span = 60.0 * minute, 60.0 * (minute + 1)
            rows.append((minute + 1, f"{memory:.0f}", *(f"{found.percentile(p, *span):.2f}" for p in (50, 99))))
        print(table(("minute", "memory, MB", "delay, median, s", "99th percentile"), rows))
        record.results = {"rows": rows, "frames": len(found.came), "rests": len(found.rests)}
    else:
        for name, chunk, stall_at in [(f"{ms} ms", ms / 1000, 1e9) for ms in CHUNKS] + [
            ("100 ms, stall of 3 s", 0.1, 10.0)
        ]:
            found = watch(pipeline, options, options.seconds, chunk, stall_at)
            late = found.late(25.0, max(0.15, chunk))
            shown = f"{found.came[0]:.2f}", *(f"{found.percentile(p):.2f}" for p in (50, 99))
            rows.append((name, *shown, f"{found.rate():.1f}", late, len(found.rests)))
            say(str(rows[-1]))
            record.results[name] = rows[-1][1:]
        print(table(("chunks", "first frame, s", "median, s", "99th percentile", "frames/s", "late", "rests"), rows))
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
