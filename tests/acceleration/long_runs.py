"""Calls whose videos are longer than a clip, as one process makes them or several: what each of them sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.errors import OutputError
from fantasytalking.media.video import probe_video, write_video
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.talking_video import VideoOutput
from tests.acceleration.cached_runs import SCALES
from tests.pipeline.tiny_pipeline import portrait, speech

GIVEN: dict[str, Any] = {**SCALES, "steps": 2}
SECONDS = 2.0
"""46 frames: three segments of 25 frames, of which each begins with nine of the one before."""
FILMED = 18
"""Frames of the footage."""
THIRD = 5
"""Steps after which the third segment is begun."""


class Quiet(Progress):
    """Notes are compared, not shown."""

    def show_note(self, text: str) -> None:
        pass


class Seen:
    """Latents after the last step of each sampling, and frames as they are written.

    Args:
        step: Called with the pipeline and the number of steps done, after each step.
        frame: Called with the number of frames written, after each.
    """

    def __init__(
        self, step: Callable[[Any, int], None] | None = None, frame: Callable[[int], None] | None = None
    ) -> None:
        self.latents: list[NDArray[np.float32]] = []
        self.frames: list[NDArray[np.uint8]] = []
        self._step, self._frame, self._steps = step, frame, 0

    def after_step(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> None:
        self._steps += 1
        if step == pipeline.num_timesteps - 1:
            self.latents.append(tensors["latents"].numpy().copy())
        if self._step is not None:
            self._step(pipeline, self._steps)

    def watch(self, frame: NDArray[np.uint8]) -> None:
        self.frames.append(frame.copy())
        if self._frame is not None:
            self._frame(len(self.frames))

    def call(self, pipeline: FantasyTalkingPipeline, output: Path | None = None, **settings: Any) -> Any:
        """A call of the pipeline that is watched."""
        target = None if output is None else VideoOutput(output, overwrite=True, watch=self.watch)
        given = {**GIVEN, "progress": Quiet(), **settings}
        return pipeline(portrait(64), speech(SECONDS), callback_on_step_end=self.after_step, output=target, **given)


def said(work: Callable[[], Any]) -> str:
    """The error of a call."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def iterated(pipeline: FantasyTalkingPipeline, rank: int, folder: Path) -> dict[str, Any]:
    seen = Seen()
    frames = seen.call(pipeline, long_video="continue").frames
    return {"latents": seen.latents, "frames": frames}


def windows(pipeline: FantasyTalkingPipeline, rank: int, folder: Path) -> dict[str, Any]:
    seen = Seen()
    video = seen.call(pipeline, folder / "windows.mp4", long_video="windows")
    return {"latents": seen.latents, "frames": seen.frames, "count": len(video), "read": len(list(video))}


def resumed(pipeline: FantasyTalkingPipeline, rank: int, folder: Path) -> dict[str, Any]:
    """A run that the second of two processes breaks off in the third segment, and the one after it."""

    def fail(pipeline: Any, steps: int) -> None:
        if pipeline.ranks is not None and rank == 1 and steps == THIRD:
            raise ValueError("no good")

    broken, seen, output = Seen(fail), Seen(), folder / "resumed.mp4"
    why = said(lambda: broken.call(pipeline, output, long_video="continue")) if pipeline.ranks is not None else ""
    video = seen.call(pipeline, output, long_video="continue")
    frames = broken.frames + seen.frames
    return {
        "error": why,
        "latents": broken.latents + seen.latents,
        "own": len(seen.latents),
        "frames": frames,
        "count": (len(video), video.seams, len(list(video))),
        "notes": list(video.notes),
    }


def windows_resumed(pipeline: FantasyTalkingPipeline, rank: int, folder: Path) -> dict[str, Any]:
    """Fused windows whose writing fails in the first process, and the run after it, which has nothing left to sample."""

    def full(frames: int) -> None:
        if frames == 5:
            raise OutputError("the disk is full")

    broken, seen, output = Seen(frame=full), Seen(), folder / "windows-resumed.mp4"
    why = said(lambda: broken.call(pipeline, output, long_video="windows"))
    video = seen.call(pipeline, output, long_video="windows")
    return {
        "error": why,
        "latents": broken.latents,
        "own": len(seen.latents),
        "frames": seen.frames,
        "count": len(video),
        "notes": list(video.notes),
    }


def full_disk(pipeline: FantasyTalkingPipeline, rank: int, folder: Path) -> dict[str, Any]:
    """An error of writing, which the first process alone has, in the second segment; and one before anything is sampled."""

    def full(frames: int) -> None:
        if frames == 20:
            raise OutputError("the disk is full")

    in_the_way = folder / "other.mp4"
    if rank == 0:
        in_the_way.with_name("other.mp4.unfinished").touch()
    return {
        "writing": said(lambda: Seen(frame=full).call(pipeline, folder / "full.mp4", long_video="continue")),
        "in the way": said(lambda: Seen().call(pipeline, in_the_way, long_video="continue")),
    }


def without_memory(pipeline: FantasyTalkingPipeline, rank: int, folder: Path) -> dict[str, Any]:
    """The second process runs out of memory when it encodes what the second segment is given."""

    def fail(*_: Any) -> None:
        if rank == 1 and seen.latents:
            raise torch.OutOfMemoryError("no memory left")

    seen = Seen()
    hook = pipeline.vae.encoder.register_forward_pre_hook(fail)
    try:
        return {"error": said(lambda: list(seen.call(pipeline, long_video="continue")))}
    finally:
        hook.remove()


def stopped(pipeline: FantasyTalkingPipeline, rank: int, folder: Path) -> dict[str, Any]:
    """A callback of the second process alone stops the run with the last step of the second segment."""

    def stop(pipeline: Any, steps: int) -> None:
        if rank == 1 or pipeline.ranks is None:
            pipeline._interrupt = steps == 4

    seen = Seen(stop)
    frames = list(seen.call(pipeline, long_video="continue"))
    return {"latents": seen.latents, "frames": frames}


def streamed(pipeline: FantasyTalkingPipeline, rank: int, folder: Path) -> dict[str, Any]:
    """A stream to its end; and one whose reader leaves after three frames."""
    given = {**GIVEN, "steps": 1, "progress": Quiet(), "long_video": "continue"}
    whole = [one.pixels for one in pipeline.stream(portrait(64), speech(SECONDS), **given)]
    left = pipeline.stream(portrait(64), speech(SECONDS), **given)
    few = [one.pixels for _, one in zip(range(3), left, strict=False)]
    left.close()
    return {"frames": whole, "few": len(few)}


def footage(folder: Path) -> None:
    """Write 1.4 s of footage of two faces side by side, the larger one on the left."""
    face = cv2.GaussianBlur(portrait(192), (0, 0), 1.2)
    both = np.full((192, 360, 3), 128, np.uint8)
    both[:, :192] = face
    both[20:188, 192:] = cv2.resize(face, (168, 168), interpolation=cv2.INTER_AREA)
    write_video(folder / "film.mp4", [both] * FILMED, 12.5, speech(1.44), crf=4, preset="ultrafast")


def dubbed(pipeline: FantasyTalkingPipeline, rank: int, folder: Path) -> dict[str, Any]:
    """Footage of two people, each with a speech of two segments."""
    seen, file = Seen(), folder / "dubbed.mp4"
    speeches = {0: speech(1.4), 1: speech(1.3)}
    output = VideoOutput(file, overwrite=True, watch=seen.watch)
    given = {**GIVEN, "steps": 2, "long_video": "continue", "face_check": "off", "watermark": "off"}
    made = pipeline.dub(folder / "film.mp4", speeches, output, progress=Quiet(), **given)
    return {"frames": seen.frames, "count": (made.frames, made.width, made.height), "file": probe_video(file).frames}


LONG = {
    "iterated": ("guidance=2", iterated),
    "windows": ("ulysses=2", windows),
    "resumed": ("guidance=2", resumed),
    "windows resumed": ("ulysses=2", windows_resumed),
    "full disk": ("guidance=2", full_disk),
    "without memory": ("ulysses=2", without_memory),
    "stopped": ("guidance=2", stopped),
    "streamed": ("ulysses=2", streamed),
    "dubbed": ("guidance=2", dubbed),
}
"""Case -> how two processes share it, and what is called."""
