"""The cells of `speed.py`: what is run, in which order, and which of them share a process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fantasytalking.acceleration.profiles import PROFILES
from fantasytalking.acceleration.resolve_plan import PLANS

Kind = Literal["loop", "pass", "profile", "plan"]
LOOP = "plain loop"
PASS = "pass without speech"
PASSES = ("diffusers", "ours, as diffusers", "ours, as usual")
"""Ways of it: in diffusers' pipeline, in our sampler one by one and with nothing kept over the steps, and by our defaults."""


@dataclass(frozen=True)
class Shape:
    """What is generated.

    Attributes:
        side: Longest side in pixels.
        frames: Video frames.
        steps: Denoising steps.
    """

    side: int
    frames: int
    steps: int

    def __str__(self) -> str:
        return f"{self.side}x{self.frames}x{self.steps}"


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        model: Name of the model.
        shape: What is generated.
        kind: Sampling loop, pass without speech, profile or memory plan.
        name: `LOOP`, `PASS`, or of the profiles or the plans.
    """

    model: str
    shape: Shape
    kind: Kind
    name: str

    @property
    def key(self) -> str:
        """A name for files."""
        kind = [] if self.kind in self.name else [self.kind]
        return "-".join((self.model, str(self.shape), *kind, *self.name.split()))


@dataclass(frozen=True)
class Session:
    """Cells that are measured by one process, which loads their model once.

    Attributes:
        model: Name of the model.
        plan: Memory plan by which it is loaded.
        compiled: Whether its blocks are compiled.
        distilled: Whether it has a LoRA for few steps, or is a student.
    """

    model: str
    plan: str = "auto"
    compiled: bool = False
    distilled: bool = False


def session_of(cell: Cell, compiles: bool) -> Session:
    """The session of a cell; `compiles` is whether blocks are compiled on the device, as a profile asks."""
    if cell.kind == "plan":
        return Session(cell.model, cell.name)
    if cell.kind != "profile":
        return Session(cell.model)
    profile = PROFILES[cell.name]
    return Session(cell.model, compiled=profile.compile and compiles, distilled=profile.needs_lora)


def loop_of(cell: Cell) -> Cell:
    """The plain loop that a cell is compared with."""
    return Cell(cell.model, cell.shape, "loop", LOOP)


def cells_of(model: str, shapes: Iterable[Shape], plans_at: Shape | None = None) -> list[Cell]:
    """All cells of a model, those first that others are compared with.

    Args:
        model: Name of the model.
        shapes: Shapes for all profiles; the first one is also that of the pass without speech, unless `plans_at` is given.
        plans_at: Shape for the plans and the pass without speech; None: the first of the others.
    """
    shapes = list(shapes)
    plans_at = plans_at or shapes[0]
    cells = []
    for shape in dict.fromkeys([plans_at, *shapes]):
        cells.append(Cell(model, shape, "loop", LOOP))
        if shape in shapes:
            cells += [Cell(model, shape, "profile", name) for name in PROFILES]
        if shape == plans_at:
            cells.append(Cell(model, shape, "pass", PASS))
            cells += [Cell(model, shape, "plan", name) for name in PLANS]
    return cells
