"""Progress of a generation: stages with time left, and notes (one sentence each)."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

__all__ = ["Progress", "TerminalProgress", "default_progress", "quiet_frameworks"]

Advance = Callable[[], None]


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

    def show_note(self, text: str) -> None:
        """Show a note; subclasses that have a better place for it override this."""
        # 6: up through this class, the pipeline and its decorator to the line that called the pipeline.
        warnings.warn(text, UserWarning, stacklevel=6)

    @contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Advance]:
        """Show a stage while it lasts; subclasses that have a better place for it override this."""
        yield lambda: None


class TerminalProgress(Progress):
    """Progress bars with time left on stderr, so that stdout stays free for results."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console(stderr=True)

    def show_note(self, text: str) -> None:
        """Print a note between the bars."""
        self.console.print(f"note: {text}", style="yellow", markup=False, highlight=False)

    @contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Advance]:
        """Show one bar while the stage lasts."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=self.console) as bars:
            task = bars.add_task(f"{name:<10}", total=total)
            yield lambda: bars.advance(task)
            bars.update(task, completed=total)


def default_progress(disable: bool = False) -> Progress:
    """Progress bars where stderr is a terminal, else notes only."""
    return TerminalProgress() if sys.stderr.isatty() and not disable else Progress()


def quiet_frameworks() -> None:
    """Silence the progress bars and the log messages of the frameworks, which would break up ours; call it before importing them."""
    # at its import it warns of what it lacks on a CPU, to people who never asked for it
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    for framework in (diffusers_logging, transformers_logging):
        framework.set_verbosity_error()
        framework.disable_progress_bar()
