"""`python -m fantasytalking.serving.realtime.live_process`: one live session after the other, with a model that stays loaded.

Packets (`live_packets.py`) come by standard input, whose end means that the server is gone, and go by standard output.

| type | direction | fields |
|---|---|---|
| `options` | in, first | those of `WorkerOptions` |
| `begin` | in | `image`, `model`, `settings`, `sample_rate`, `pcm_format`, `segment_seconds` |
| `finish`, `cancel` | in | |
| `ready` | out, once | |
| `started` | out | `fps`, `width`, `height`, `settings` |
| `delay` | out, every second | `frames`, `resting`, `median`, `percentile_99` |
| `ended` | out | `frames`, `seconds`, `median`, `percentile_99`, `notes` |
| `failed` | out | `code`, `message` |
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.generation.planned_run import LoadedModel, generate_planned
from fantasytalking.generation.request import Request
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions
from fantasytalking.pipeline.early_inputs import read_portrait
from fantasytalking.pipeline.progress import QuietProgress, quiet_frameworks
from fantasytalking.serving.jobs.job_errors import error_of
from fantasytalking.serving.realtime.live_packets import JSON, PCM, VIDEO, packed, packed_json, read_packet
from fantasytalking.serving.workers.worker_options import WorkerOptions
from fantasytalking.system.startup import importing_frameworks

if TYPE_CHECKING:
    from fantasytalking.pipeline.live_session import LiveSession
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress

__all__ = ["main"]

_TOLD_EVERY = 1.0
"""Seconds between two packets about the delay."""

_log = logging.getLogger("fantasytalking.serving.realtime")


class Talker:
    """What a process says to its server, from any thread.

    Args:
        pipe: Takes the packets.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def tell(self, kind: str, **values: Any) -> None:
        """Send a JSON object."""
        self._send(packed_json({"type": kind, **values}))

    def video(self, data: bytes) -> None:
        """Send a piece of the video."""
        self._send(packed(VIDEO, data))

    def _send(self, packet: bytes) -> None:
        with self._lock:
            self._pipe.write(packet)
            self._pipe.flush()


class Ears:
    """Speech on its way to the session, which may not be there yet.

    Packets are taken by a thread of their own: while the session has as much speech as it may have waiting, the pipe fills up, and with
    it whatever is before it, to the client.

    Args:
        pipe: Gives the packets.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._orders: list[Mapping[str, Any] | None] = []
        self._changed = threading.Condition()
        self._session: LiveSession | None = None
        self._early: list[bytes] = []
        self._is_finished = self._is_cancelled = False
        self._is_between = True
        threading.Thread(target=self._listen, name="ears", daemon=True).start()

    def next_order(self) -> Mapping[str, Any] | None:
        """The next session that is asked for; None: the server is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._orders)
            return self._orders.pop(0)

    def attach(self, session: LiveSession) -> None:
        """Give the session what came before it, and from now on what comes."""
        with self._changed:
            self._session = session
            for chunk in self._early:
                session.push(chunk, 0)
            self._early.clear()
            if self._is_finished:
                session.finish()
            if self._is_cancelled:
                session.cancel()

    def detach(self) -> None:
        """The session has ended; what still comes for it is dropped."""
        with self._changed:
            if self._session is not None:
                self._session.cancel()
            self._session = None
            # The server may have asked for the next session as soon as it was told of the end of this one.
            if not self._orders:
                self._is_between = True
                self._early.clear()

    def _listen(self) -> None:
        while (packet := read_packet(self._pipe)) is not None:
            kind, data = packet
            if kind == PCM:
                self._hear(data)
            elif kind == JSON:
                self._obey(json.loads(data))
        with self._changed:
            if self._session is not None:
                self._session.cancel()
            self._orders.append(None)
            self._changed.notify_all()
        # The main thread may be in the middle of a long computation, and nobody waits for its result.
        time.sleep(5.0)
        os._exit(0)

    def _hear(self, data: bytes) -> None:
        with self._changed:
            # A microphone may still give a chunk after the client has said that no more comes.
            if self._is_finished:
                return
            session = self._session
            if session is None:
                if not self._is_between:
                    self._early.append(data)
                return
        # Outside the lock, because it waits where there is no room; after a cancel it says that it took nothing.
        try:
            session.push(data)
        except FantasyTalkingError as error:
            session.speech.fail(error)

    def _obey(self, order: Mapping[str, Any]) -> None:
        with self._changed:
            if order["type"] == "begin":
                self._early.clear()
                self._is_finished = self._is_cancelled = self._is_between = False
                self._orders.append(order)
                self._changed.notify_all()
            elif order["type"] == "finish":
                self._is_finished = True
                if self._session is not None:
                    # This thread goes on, or the process would hear of no other session.
                    try:
                        self._session.finish()
                    except FantasyTalkingError as error:
                        self._session.speech.fail(error)
            elif order["type"] == "cancel":
                self._is_cancelled = True
                if self._session is not None:
                    self._session.cancel()


@dataclass(frozen=True)
class _Live:
    """What a live session gives back to `generate_planned`."""

    duration: float
    settings: Any

    def summary(self) -> dict[str, Any]:
        """Nothing beyond what was told."""
        return {}


@dataclass(frozen=True)
class LivePlace:
    """Where a session's video goes: to the server, while it is made; a `Place` of `generate_planned`.

    Attributes:
        order: The packet that asked for it.
        ears: Give the speech.
        talker: Takes the video.
    """

    order: Mapping[str, Any]
    ears: Ears
    talker: Talker

    def write(
        self,
        pipeline: FantasyTalkingPipeline,
        inputs: tuple[Any, Any],
        settings: dict[str, Any],
        threads: int,
        progress: Progress,
    ) -> _Live:
        """Talk until the session ends; the arguments are those of `Place.write`."""
        from fantasytalking.media.stream_writer import StreamWriter
        from fantasytalking.pipeline.live_options import LiveOptions

        order = self.order
        pieces = {"segment_seconds": order["segment_seconds"]} if order.get("segment_seconds") else {}
        session = pipeline.live_session(
            inputs[0],
            sample_rate=order["sample_rate"],
            pcm_format=order["pcm_format"],
            options=LiveOptions(**pieces),
            progress=progress,
            **settings,
        )
        frames = resting = 0
        with session:
            self.ears.attach(session)
            height, width = session.size
            self.talker.tell(
                "started", fps=session.fps, width=width, height=height, settings=session.settings.to_dict()
            )
            told = time.monotonic()
            # No frame, where nothing was said, is no fault; to the writer it would be one.
            with contextlib.ExitStack() as open_writer:
                writer: StreamWriter | None = None
                for frame in session:
                    if writer is None:
                        writing = StreamWriter(
                            self.talker.video, session.fps, session.sample_rate, threads=threads, marks=session.marks
                        )
                        writer = open_writer.enter_context(writing)
                    writer.write(frame.pixels, frame.sound)
                    frames += 1
                    resting += frame.is_rest
                    if time.monotonic() > told + _TOLD_EVERY:
                        told = time.monotonic()
                        self.talker.tell("delay", frames=frames, resting=resting, **_delays(session))
        self.talker.tell(
            "ended", frames=frames, seconds=frames / session.fps, notes=list(progress.notes), **_delays(session)
        )
        return _Live(frames / session.fps, session.settings)


def _delays(session: LiveSession) -> dict[str, float]:
    return {"median": session.delay.percentile(50), "percentile_99": session.delay.percentile(99)}


def _talk(order: Mapping[str, Any], options: WorkerOptions, loaded: LoadedModel, ears: Ears, talker: Talker) -> None:
    image = Path(order["image"])
    try:
        model, settings = options.models[order["model"]], dict(order["settings"])
        portrait = read_portrait(image, model, settings)
        run = RunOptions(overwrite=True, device=options.device, dtype=options.dtype, threads=options.threads)
        memory = MemoryOptions(memory=options.memory, quantize=options.quantize)
        place = LivePlace(order, ears, talker)
        request = Request(model, portrait, None, image, run, settings, memory, ProfileOptions(), place)
        generate_planned(request, QuietProgress(), loaded)
    except Exception as error:  # told to the client in one sentence; the next session begins with a new model
        loaded.drop()
        told = error_of(error, image.parent)
        if told.code == "internal_error":
            _log.error("live session: %s", type(error).__name__, exc_info=error)
        talker.tell("failed", code=told.code, message=told.message)
    finally:
        ears.detach()


def main() -> int:
    """Serve sessions until the server is gone."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever libraries print goes to stderr; the packets keep a descriptor of their own.
    packets = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    first = read_packet(sys.stdin.buffer)
    if first is None:
        return 0
    options = WorkerOptions.from_json(json.dumps(json.loads(first[1])["values"]))
    ears, talker = Ears(sys.stdin.buffer), Talker(packets)
    with importing_frameworks():
        quiet_frameworks()
        import fantasytalking.pipeline.pipeline  # noqa: F401
    talker.tell("ready")
    models: dict[str, LoadedModel] = {}
    while (order := ears.next_order()) is not None:
        if order["model"] not in models:
            # Two may not fit.
            models = {order["model"]: LoadedModel()}
        _talk(order, options, models[order["model"]], ears, talker)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
