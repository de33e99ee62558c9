"""Long videos as a call returns them: written resumably, generated while they are iterated, or streamed with sound."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.acceleration.apply_plan import memory_released
from fantasytalking.acceleration.ranks import LeftError
from fantasytalking.errors import InputError
from fantasytalking.media.background_writer import BackgroundWriter
from fantasytalking.media.spooled_sound import release_pages
from fantasytalking.media.video import VideoWriter, iterate_frames
from fantasytalking.media.video_parts import join_parts
from fantasytalking.pipeline.call_arguments import Case
from fantasytalking.pipeline.clip_batches import Run
from fantasytalking.pipeline.generation_marks import marks_of
from fantasytalking.pipeline.inputs import Portrait, Speech
from fantasytalking.pipeline.kept_steps import KeptSteps
from fantasytalking.pipeline.long_video import LongVideo, Stretch, longest_segment, segment_mode
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.talking_video import FrameSource, TalkingVideo, written
from fantasytalking.pipeline.unfinished_run import Part, UnfinishedRun, run_digest
from fantasytalking.provenance.marks import Marks
from fantasytalking.system.heap import return_free_memory
from fantasytalking.system.prefetching import quick_switches

__all__ = ["StreamPace", "StreamedFrame", "is_long", "long_video", "streamed"]


def is_long(pipeline: Any, case: Case, speech: Speech) -> bool:
    """Whether a video is longer than what the model samples at once."""
    return speech.video_frames > longest_segment(pipeline, case, speech.fps)


def long_video(pipeline: Any, case: Case, portrait: Portrait, speech: Speech, run: Run) -> TalkingVideo:
    """A video of any length: written if there is an output, else generated while its frames are asked for.

    Several processes sample together. The first alone decodes and writes; without an output, each decodes the frames that it is asked for.

    Raises:
        InputError: Its latents were asked for, of which there are none for the whole.
    """
    if not run.decoded:
        raise InputError(
            "output_type 'latent' belongs to one clip, and this video is longer; use max_seconds, or another output_type."
        )
    height, width = portrait.pixels.shape[:2]
    unfinished = None
    if run.output is not None:
        # What another process has left beside its file is its own affair, so the first alone looks.
        with pipeline._together():
            if pipeline._writes:
                digest = run_digest(pipeline, case, portrait, speech, run.previous_frames)
                unfinished = UnfinishedRun(Path(run.output.path).expanduser(), digest)
                unfinished.refuse_leftovers()
        if segment_mode(pipeline, case) == "windows":
            run = dataclasses.replace(run, steps=KeptSteps(unfinished, case.settings.seed))
    video = LongVideo(pipeline, case, portrait, speech, run, everywhere=run.output is None)
    marks = marks_of(pipeline, case.settings, [(portrait, speech)])
    count = speech.video_frames
    make: Callable[[], Iterator[NDArray[np.uint8]]]
    if run.output is not None:
        writing = _Writing(pipeline, video, unfinished, case, speech, run, marks)
        count = writing.segments() if run.steps is None else writing.whole()
        path = Path(run.output.path).expanduser()
        make = lambda: iterate_frames(path)  # noqa: E731  # typed above
    else:
        ready = [video]

        def make() -> Iterator[NDArray[np.uint8]]:
            pipeline._interrupt = False
            with (
                memory_released(pipeline),
                quick_switches(),
                pipeline._together(),
                run.progress.show_stage("generating", speech.video_frames) as advance,
            ):
                one = ready.pop() if ready else LongVideo(pipeline, case, portrait, speech, run, everywhere=True)
                for stretch in one.stretches():
                    for frame in stretch.frames:
                        yield frame
                        advance()
                    release_pages(speech.soundtrack.samples, speech.samples)

    source = FrameSource(count, (height, width), make)
    progress = run.progress
    return TalkingVideo(
        source, speech.fps, speech.soundtrack, case.settings, progress.notes, progress.seconds, video.seams, marks
    )


GOES_ON = "The same call goes on from there."
"""Note on the exception that ended a run of which something is kept, by which a command knows what to tell."""


@contextlib.contextmanager
def _going_on(
    unfinished: UnfinishedRun | None, progress: Progress, amounts: Callable[[], tuple[str, str]]
) -> Iterator[None]:
    """Tell what an interrupted run left, and what this one leaves if it is interrupted; the folder goes when the video is written.

    Args:
        unfinished: Folder of the run; None where another process has it.
        progress: Shows notes.
        amounts: Gives what is finished, with and without the whole beside it.
    """
    if unfinished is None:
        yield
        return
    if unfinished.has_begun:
        progress.note(
            f"An interrupted run left {amounts()[0]} in '{unfinished.folder.name}'; this one goes on from there. Delete the folder to "
            "begin anew."
        )
    elif unfinished.is_other:
        progress.note(
            f"'{unfinished.folder.name}' belongs to a run with other settings or inputs, so this one begins anew."
        )
    unfinished.begin()
    is_done = False
    try:
        yield
        is_done = True
    except BaseException as error:
        # Whatever it was: Ctrl-C, a full disk, another process that was killed.
        if unfinished.has_begun:
            progress.note(
                f"{amounts()[1]} of the video are finished and kept in '{unfinished.folder.name}'; the same call goes on from there."
            )
            error.add_note(GOES_ON)
        raise
    finally:
        unfinished.close(is_done)


@dataclass(frozen=True)
class _Writing:
    """A long video on its way to its file.

    Attributes:
        pipeline: The pipeline.
        video: What is written.
        unfinished: Folder of the run; None where another process has it, which alone is given frames.
        case: Arguments of the call.
        speech: What is heard.
        run: What belongs to the call.
        marks: What the file is marked with.
    """

    pipeline: Any
    video: LongVideo
    unfinished: UnfinishedRun | None
    case: Case
    speech: Speech
    run: Run
    marks: Marks

    def whole(self) -> int:
        """Write a video whose windows are denoised together, in one piece; the number of frames."""
        steps, speech, progress = self.run.steps, self.speech, self.run.progress
        assert steps is not None

        def amounts() -> tuple[str, str]:
            return f"{steps.done} of {steps.count or self.case.settings.steps} steps", f"{steps.done} steps"

        with (
            _going_on(self.unfinished, progress, amounts),
            progress.show_stage("generating", speech.video_frames) as advance,
        ):
            frames = self.video.each_frame()
            # No file is begun before all is sampled, so that a process that is killed until then leaves none.
            first = next(frames, None)
            if first is not None:  # else another process has the frames
                with written(self.run.output, speech.fps, speech.soundtrack, progress, self.marks) as write:
                    assert write is not None
                    for frame in itertools.chain((first,), frames):
                        write(frame)
                        advance()
        count: int = self.pipeline._made_by_first(lambda: self.video.frames)
        return count

    def segments(self) -> int:
        """Write the segments that are not finished yet as parts, and join all of them; the number of frames."""
        unfinished, video = self.unfinished, self.video
        state, is_complete = self.pipeline._made_by_first(lambda: _left_of(unfinished))
        if state is not None:
            video.restore(state)
        stretches = iter(()) if is_complete else video.stretches()
        if unfinished is None:
            for _ in stretches:  # sampled together with the first process, which has the frames
                pass
        else:
            self._parts(unfinished, stretches)
        count: int = self.pipeline._made_by_first(lambda: unfinished.frames if unfinished is not None else 0)
        return count

    def _parts(self, unfinished: UnfinishedRun, stretches: Iterator[Stretch]) -> None:
        """Write stretches as parts of an unfinished run, and join all of its parts."""
        output, progress, speech, video = self.run.output, self.run.progress, self.speech, self.video
        assert output is not None
        fps = speech.fps

        def amounts() -> tuple[str, str]:
            done = unfinished.frames / fps
            return f"{done:.1f} of {speech.video_frames / fps:.1f} s", f"{done:.1f} s"

        with _going_on(unfinished, progress, amounts):
            with progress.show_stage("generating", speech.video_frames) as advance:
                advance(unfinished.frames)
                for stretch in stretches:
                    marks = self.marks.of_part(unfinished.frames)
                    writer = output.writer(unfinished.next_path(), fps, None, True, marks)
                    part = _write_part(output.in_background(writer), writer.path, stretch, advance)
                    if part.frames:
                        unfinished.finished(part, video.state(), self.case.settings.seed, video.is_complete)
                    release_pages(speech.soundtrack.samples, speech.samples)
            with progress.stage("writing"):
                parts = [(part.path, part.frames) for part in unfinished.parts]
                # Signing the whole takes memory of its own.
                return_free_memory()
                join_parts(parts, unfinished.target, fps, speech.soundtrack, output.overwrite, self.marks)


def _left_of(unfinished: UnfinishedRun | None) -> tuple[dict[str, Tensor] | None, bool]:
    """The state after the last segment that an interrupted run has finished, or None, and whether that was the last of all."""
    assert unfinished is not None
    return (unfinished.load_state(), unfinished.is_complete) if unfinished.parts else (None, False)


def _write_part(
    writer: VideoWriter | BackgroundWriter, path: Path, stretch: Stretch, advance: Callable[..., None]
) -> Part:
    """Write one segment as a silent file, complete or not at all."""
    count = 0
    first = next(stretch.frames, None)
    if first is None:
        return Part(path, 0)
    with writer:
        writer.write(first)
        advance()
        count = 1
        for frame in stretch.frames:
            writer.write(frame)
            advance()
            count += 1
    return Part(path, count)


@dataclass(frozen=True)
class StreamedFrame:
    """A frame with its sound.

    Attributes:
        number: Counted from 0.
        pixels: uint8 RGB [H, W, 3].
        sound: float32 [n], what is heard while it is shown.
        sample_rate: Samples a second of the sound.
        fps: Frames per second of the video.
        marks: What a file of the video is marked with, for `StreamWriter`; `pixels` are not marked.
        is_rest: Whether the sound is silence that stands for live speech which did not come.
    """

    number: int
    pixels: NDArray[np.uint8]
    sound: NDArray[np.float32]
    sample_rate: int
    fps: float
    marks: Marks
    is_rest: bool = False


@dataclass
class StreamPace:
    """How fast a stream comes: marked at each frame that its reader has taken.

    Attributes:
        start: When it was asked for, on the clock of `time.perf_counter`.
        first: When the first frame had been taken; None before.
        last: When the last one had.
        frames: Number of frames.
    """

    start: float = field(default_factory=time.perf_counter)
    first: float | None = None
    last: float = 0.0
    frames: int = 0

    def mark(self) -> None:
        """Count a frame."""
        self.last = time.perf_counter()
        self.first = self.last if self.first is None else self.first
        self.frames += 1

    @property
    def first_after(self) -> float:
        """Seconds to the first frame."""
        return (self.first or self.start) - self.start

    @property
    def rate(self) -> float:
        """Frames per second from the first frame on; 0 where there are not two."""
        passed = self.last - (self.first or self.last)
        return (self.frames - 1) / passed if passed > 0 else 0.0

    def summary(self, fps: float) -> str:
        """A sentence."""
        return (
            f"First frame after {self.first_after:.2f} s, then {self.rate:.1f} frames per second, "
            f"{self.rate / fps:.2f} times the video's own rate."
        )


def streamed(pipeline: Any, case: Case, portrait: Portrait, speech: Speech, run: Run) -> Generator[StreamedFrame]:
    """Frames with their sound, as soon as they are decoded; of several processes the first alone gives any, and all end with it."""
    rate, fps = speech.soundtrack.sample_rate, speech.fps
    with contextlib.suppress(LeftError), memory_released(pipeline), quick_switches(), pipeline._together():
        video = LongVideo(pipeline, case, portrait, speech, run, is_stream=True)
        marks = marks_of(pipeline, case.settings, [(portrait, speech)])
        number = 0
        for stretch in video.stretches():
            for pixels in stretch.frames:
                begin, end = (round(at / fps * rate) for at in (number, number + 1))
                sound = np.asarray(speech.soundtrack.samples[begin:end], np.float32)
                yield StreamedFrame(number, pixels, sound, rate, fps, marks)
                number += 1
            release_pages(speech.soundtrack.samples, speech.samples)
