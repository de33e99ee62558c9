"""Progress for people, all of it on stderr: stages with time left, and notes (one sentence each).

On a terminal a stage is a bar; elsewhere it is a line now and then. Notes do not break up a bar, whichever thread they come from.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

__all__ = [
    "Lines",
    "Nested",
    "Progress",
    "QuietProgress",
    "TerminalProgress",
    "default_progress",
    "print_line",
    "quiet_frameworks",
    "quiet_logger",
    "show_note",
    "shown",
    "stage",
]

Advance = Callable[..., None]
"""Takes the number of steps; 1 where it is left out."""


class Progress:
    """Times the stages and collects the notes; shows nothing but a Python warning for each note.

    Attributes:
        seconds: Stage name -> wall-clock seconds spent in it.
        notes: Every note, in order.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Tell the user one sentence; a note that was shown already is not repeated."""
        if text not in self.notes:
            self.notes.append(text)
            self.show_note(text)

    @contextmanager
    def stage(self, name: str, total: int = 1) -> Iterator[Advance]:
        """Time a stage of `total` steps; the block calls the function that it is given after each step."""
        start = time.perf_counter()
        try:
            with self.show_stage(name, total) as advance:
                yield advance
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def between_steps(self) -> None:
        """Called after each step of a stage that is nested in a shown one; a subclass may raise here what is to end the run."""

    def show_note(self, text: str) -> None:
        """Show a note; subclasses that have a better place for it override this."""
        # 7: up through this class, the pipeline and its decorator to the line that called the pipeline.
        warnings.warn(text, UserWarning, stacklevel=7)

    @contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Advance]:
        """Show a stage while it lasts; subclasses that have a better place for it override this."""
        yield lambda steps=1: None


class QuietProgress(Progress):
    """Stages and notes without output, for processes beside the one that speaks to the user."""

    def show_note(self, text: str) -> None:
        """Not shown."""


class Nested(Progress):
    """Progress within a stage that is shown already: times and notes go to the outer one, and nothing more is shown.

    Args:
        outer: Keeps the times and shows the notes.
    """

    def __init__(self, outer: Progress) -> None:
        super().__init__()
        self._outer = outer
        self.seconds, self.notes = outer.seconds, outer.notes

    def between_steps(self) -> None:
        """Ask the outer one whether to go on."""
        self._outer.between_steps()

    def show_note(self, text: str) -> None:
        """Show a note as the outer one does."""
        self._outer.show_note(text)

    @contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Advance]:
        """Show nothing, and ask after each step whether to go on."""
        self.between_steps()
        yield lambda steps=1: self.between_steps()


class TerminalProgress(Progress):
    """Stages and notes on stderr, so that stdout stays free for results."""

    def show_note(self, text: str) -> None:
        """Print a note between the bars."""
        show_note(text)

    @contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Advance]:
        """Show a bar, or lines, while the stage lasts."""
        with stage(name, total) as advance:
            yield advance


def _on_terminal() -> bool:
    """Whether stderr is a terminal; programs with a window and without a console have none at all."""
    return sys.stderr is not None and sys.stderr.isatty()


_bars: list[Bars] = []
"""The bars that are shown at the moment; at most one."""


@contextmanager
def shown(*columns: ProgressColumn) -> Iterator[Bars | None]:
    """Bars of these columns on stderr while the block lasts; None where stderr is no terminal or shows other bars already."""
    if _bars or not _on_terminal():
        yield None
        return
    with Bars(*columns, console=Console(stderr=True), speed_estimate_period=600) as bars:
        _bars.append(bars)
        try:
            yield bars
        finally:
            _bars.remove(bars)


@contextmanager
def stage(name: str, total: float = 1) -> Iterator[Advance]:
    """Show a stage while the block lasts, which calls the function that it is given after each step, or with a number of steps.

    Args:
        name: Short name.
        total: Number of steps; a stage without any is not shown.
    """
    if not total:
        yield lambda steps=1: None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("passed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with shown(TextColumn("{task.description}"), *columns) as bars:
        if bars is None:
            lines = Lines(name, total)
            yield lambda steps=1: lines.reach(lines.done + steps)
            lines.end()
            return
        task = bars.add_task(f"{name:<10}", total=total)
        yield lambda steps=1: bars.advance(task, steps)
        bars.update(task, completed=total)


FIRST_LINE = 5.0
"""Seconds after which a stage off a terminal shows its first line."""


class Lines:
    """A stage as lines: after 5 seconds, then at doubled intervals of up to a minute, and at the end.

    Args:
        name: Short name.
        total: Number of steps.
        begun: Number of steps that were done before.
    """

    def __init__(self, name: str, total: float, begun: float = 0) -> None:
        self.name, self.total, self.begun = name, total, begun
        self.done, self.start = begun, time.monotonic()
        self.pause = self.due = FIRST_LINE

    def reach(self, done: float, more: str = "") -> None:
        """Note that so many steps are done; `more` is shown as well."""
        self.done = done
        passed = time.monotonic() - self.start
        if passed >= self.due and self.begun < done < self.total:
            left = _clock(passed * (self.total - done) / (done - self.begun))
            print_line(f"{self.name}: {done:.0f} of {self.total:.0f}, {f'{more}, ' if more else ''}{left} left")
            self.pause = min(2 * self.pause, 60.0)
            self.due = passed + self.pause

    def end(self) -> None:
        """Show that the stage is done."""
        print_line(f"{self.name}: done in {_clock(time.monotonic() - self.start)}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def print_line(text: str, style: str | None = None) -> None:
    """Print a line to stderr, above a bar that is shown."""
    if _bars:
        _bars[-1].console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
    elif style is not None and _on_terminal():
        Console(stderr=True).print(text, style=style, markup=False, highlight=False, soft_wrap=True)
    elif sys.stderr is not None:
        # In one piece, which print would not write: lines may come from several threads.
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def show_note(text: str) -> None:
    """Tell the user one sentence, where there is no `Progress` at hand."""
    print_line(f"note: {text}", style="yellow")


def default_progress(disable: bool = False) -> Progress:
    """Progress bars where stderr is a terminal, else notes only."""
    return TerminalProgress() if _on_terminal() and not disable else Progress()


@contextmanager
def quiet_logger(name: str) -> Iterator[None]:
    """Silence a logger below errors while the block lasts."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def quiet_frameworks() -> None:
    """Silence the progress bars and the log messages of the frameworks, which would break up ours; call it before importing them."""
    # diffusers exchanges the tokens of Ulysses by functions that PyTorch has given other names
    warnings.filterwarnings("ignore", ".*_functional_collectives", FutureWarning)
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    for framework in (diffusers_logging, transformers_logging):
        framework.set_verbosity_error()
        framework.disable_progress_bar()
