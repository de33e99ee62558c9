"""Tables and the plot of `speed.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmark_run import table
from speed_cells import PASSES, Cell, Shape, loop_of

from fantasytalking.reporting.svg import Scale, element, ticks, x_axis

Results = Mapping[Cell, Mapping[str, Any]]
HEADER = (
    "what",
    "steps",
    "s a step",
    "sampling, s",
    "of the plain loop",
    "by CPU time",
    "to the file, s",
    "blocks computed",
    "main memory, GiB",
    "device memory, GiB",
    "MFU",
    "latents, RMS",
    "latents, largest",
)
CPU_TARGETS = {"exact": 0.6, "balanced": 0.35, "turbo": 0.1}
"""Profile -> at most so much of the plain loop's sampling time, on a CPU."""
GPU_TARGETS = {"exact": 0.5, "balanced": 0.25, "fast": 0.15}
"""The same for a step, on a device of CUDA."""
TURBO_SECONDS = 12.0
"""The profile turbo on a device of CUDA: at most so many seconds from the call to the file."""
PASS_TARGET = 1.03
"""Our pass without speech: at most so much of diffusers'."""
GIB = 2**30


def ratio(found: Results, cell: Cell, what: str = "sampling") -> float | None:
    """Share of the plain loop's seconds in sampling, by the clock or as `cpu` of all threads; None where one of them is not known."""
    mine, loop = found.get(cell, {}), found.get(loop_of(cell), {})
    first, second = (one.get("cpu_seconds") if what == "cpu" else _sampling(one) for one in (mine, loop))
    return first / second if first and second else None


def _sampling(result: Mapping[str, Any]) -> float | None:
    seconds: float | None = result.get("seconds", {}).get("sampling")
    return seconds


def computed(found: Results, cell: Cell) -> float | None:
    """Share of its passes' blocks that a cell has computed; of a compiled one that of the same profile's settings on eager blocks."""
    result = found.get(cell, {})
    passes, rows, loop = result.get("passes"), result.get("rows"), found.get(loop_of(cell), {})
    if passes and rows is None:
        like = (
            one
            for one, other in found.items()
            if (one.model, one.shape) == (cell.model, cell.shape)
            and other.get("rows")
            and _caching(other) == _caching(result)
        )
        return computed(found, eager) if (eager := next(like, None)) else None
    if not passes or not loop.get("rows"):
        return None
    # The loop computes all blocks in each of its passes.
    return float(rows / (loop["rows"] / loop["passes"]) / passes)


def _caching(result: Mapping[str, Any]) -> tuple[Any, ...]:
    settings = result.get("settings", {})
    return tuple(settings.get(name) for name in ("cache", "cache_threshold", "cache_interval", "steps"))


def utilisation(found: Results, cell: Cell) -> float | None:
    """Model FLOPs utilisation in sampling, 0..1: operations of the blocks that were computed, over the device's measured peak."""
    result, share = found.get(cell, {}), computed(found, cell)
    seconds = _sampling(result)
    if share is None or not seconds:
        return None
    return float(share * result["passes"] * result["operations_of_a_pass"] / seconds / result["peak_operations"])


def row(found: Results, cell: Cell) -> tuple[Any, ...]:
    """A row of the table of runs with speech."""
    result = found[cell]
    name = f"{cell.kind} {cell.name}" if cell.kind in ("profile", "plan") else cell.name
    if "failed" in result:
        return (f"{name}: {result['failed']}", *[None] * (len(HEADER) - 1))
    if "cut_after" in result:
        name = f"{name} (cut after {result['cut_after']} steps)"
    steps, share = result.get("steps"), utilisation(found, cell)
    return (
        name,
        steps,
        shown(result.get("step_seconds")),
        shown(_sampling(result)),
        shown(ratio(found, cell)),
        shown(ratio(found, cell, "cpu")),
        shown(result.get("seconds", {}).get("total")),
        shown(computed(found, cell)),
        shown(_gib(result.get("host_peak"))),
        shown(_gib(result.get("device_peak"))),
        shown(share),
        shown(result.get("rms_error")),
        shown(result.get("max_error")),
    )


def _gib(size: int | None) -> float | None:
    return None if size is None else size / GIB


def shown(value: float | None, digits: int = 3) -> str | None:
    """A number in so many digits; None stays None."""
    return None if value is None else f"{value:.{digits}g}"


def tables(found: Results, record: Mapping[str, Any]) -> str:
    """All that was measured, in Markdown."""
    computer = record["machine"]
    accelerator = "" if computer["accelerator"] == "none" else f", {computer['accelerator']}"
    lines = [f"{computer['cpu']}, {computer['cores']} cores{accelerator}, PyTorch {computer['torch']}\n"]
    for model, shape in dict.fromkeys((cell.model, cell.shape) for cell in found):
        group = [cell for cell in found if (cell.model, cell.shape) == (model, shape)]
        rows = [row(found, cell) for cell in group if cell.kind != "pass"]
        lines += [f"### {latents_title(model, shape, found[group[0]])}\n", table(HEADER, rows), ""]
        for result in (found[cell] for cell in group if "ways" in found[cell]):
            shares, by_cpu = result["of_diffusers"], result["of_diffusers_by_cpu_time"]
            told = [
                (name, shown(s), f"{shares[name]:.3f}", f"{by_cpu[name]:.3f}") for name, s in result["ways"].items()
            ]
            lines += [table(("two passes without speech", "s a step", "of diffusers'", "by CPU time"), told), ""]
    if record["targets"]:
        lines += [table(("target", "at most", "measured", "met"), record["targets"]), ""]
    quality = record.get("quality") or {}
    if quality:
        columns = list(quality["labels"])
        rows = [(key, *(shown(values.get(c)) for c in columns)) for key, values in quality["cells"].items()]
        lines += [table(("video", *quality["labels"].values()), rows), ""]
    return "\n".join(lines)


def latents_title(model: str, shape: Shape, result: Mapping[str, Any]) -> str:
    """A model and a shape in words, with the size of the latents."""
    size = result.get("latent_size")
    latents = "" if not size else f", latents of {' x '.join(map(str, size))}"
    return f"{model}: {shape.frames} frames, {shape.side} pixels{latents}, {shape.steps} steps"


def target_lines(found: Results) -> list[tuple[str, str, str, str]]:
    """What is asked for beside what was measured: (target, at most, measured, met)."""
    lines = []
    for cell in found:
        limit, value = _target(found, cell)
        if limit is not None and value is not None:
            lines.append(
                (
                    f"{cell.model} {cell.shape}, {cell.name}",
                    f"{limit:g}",
                    f"{value:.3f}",
                    "yes" if value <= limit else "NO",
                )
            )
    return lines


def _target(found: Results, cell: Cell) -> tuple[float | None, float | None]:
    if cell.kind == "profile":
        on_cpu = found[cell].get("device") == "cpu"
        if cell.name == "turbo" and not on_cpu:
            return TURBO_SECONDS, found[cell].get("seconds", {}).get("total")
        return (CPU_TARGETS if on_cpu else GPU_TARGETS).get(cell.name), ratio(found, cell)
    if cell.kind == "pass":
        return PASS_TARGET, found[cell].get("of_diffusers", {}).get(PASSES[1])
    return None, None


_BAR, _LEFT, _WIDTH = 18, 190, 620
_STYLE = (
    "text{font:11px sans-serif;fill:#333}.grid{stroke:#ddd}.loop{fill:#999}.profile{fill:#2a6fb0}.plan{fill:#7fb069}"
    ".title{font-weight:bold}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}}"
)


def drawing(found: Results) -> str:
    """Bars of the time in sampling as a share of the plain loop's, as an SVG file."""
    bars: list[Any] = []
    x, y = Scale(0.0, 1.0, _LEFT, _WIDTH - 50), 30
    for model, shape in dict.fromkeys((cell.model, cell.shape) for cell in found):
        group = [cell for cell in found if (cell.model, cell.shape) == (model, shape)]
        bars_of = [(cell, share) for cell in group if (share := ratio(found, cell)) is not None]
        if not bars_of:
            continue
        bars.append(element("text", latents_title(model, shape, found[group[0]]), css="title", x=8, y=y))
        y += 8
        for cell, share in bars_of:
            bars += list(_bar(cell, share, x, y))
            y += _BAR
        y += 26
    grid = x_axis([(at, f"{at:g}") for at in ticks(0, 1)], x, float(y - 18), 36.0)
    title = element("title", "Time in sampling as a share of the plain loop's")
    return str(
        element(
            "svg",
            title,
            element("style", _STYLE),
            *grid,
            *bars,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {_WIDTH} {y + 4}",
            width=_WIDTH,
            role="img",
        )
    )


def _bar(cell: Cell, share: float, x: Scale, y: int) -> Iterable[Any]:
    kind = cell.kind if cell.kind in ("profile", "plan") else "loop"
    name = cell.name if kind == "loop" else f"{cell.kind} {cell.name}"
    yield element("text", name, x=_LEFT - 8, y=y + 12, text_anchor="end")
    yield element(
        "rect", css=kind, x=float(_LEFT), y=y + 2, width=max(1.0, x(min(share, 1.0)) - _LEFT), height=_BAR - 5
    )
    yield element("text", f"{share:.2f}", x=x(min(share, 1.0)) + 5, y=y + 12)
