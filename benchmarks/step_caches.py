"""How much work do step caches spare, and how much do they change, beside fewer steps of the same cost?

The packaged portrait speaks the first seconds of the packaged speech, plain, under each cache, and with fewer steps. Work is the share of
the plain run's blocks that are computed (for pab, of its attention layers), which no load on the machine can change.

    python benchmarks/step_caches.py
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from benchmark_run import Quiet, Record, load_model, option_parser, table

from fantasytalking.acceleration.caches import measure_ratios
from fantasytalking.pipeline.model_names import embedded_folder

EXAMPLE = embedded_folder() / "example"
HEADER = ("run", "work", "seconds", "latents (RMS)", "latents (largest)", "pixels (mean)")
RUNS: tuple[dict[str, Any], ...] = (
    *({"cache": "first-block", "cache_threshold": value} for value in (0.1, 0.2, 0.3)),
    *({"cache": "magcache", "cache_threshold": value} for value in (0.03, 0.06)),
    *({"cache": "sea", "cache_threshold": value} for value in (0.15, 0.25, 0.4)),
    *({"cache": "taylorseer", "cache_interval": value} for value in (2, 3, 4)),
    *({"cache": "pab", "cache_interval": value} for value in (2, 3)),
    *({"steps": value} for value in (8, 7, 6, 5)),
)


@contextlib.contextmanager
def counted(model: Any, part: str) -> Iterator[list[int]]:
    """Count the rows that go through a part of every block."""
    rows = [0]

    def count(module: Any, given: Any, out: Any) -> None:
        rows[0] += len(out)

    hooks = [block.get_submodule(part).register_forward_hook(count) for block in model.blocks]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()


def run(pipeline: Any, seconds: float, seed: int, **settings: Any) -> dict[str, Any]:
    """Generate once and keep latents, frames, computed rows and the seconds of sampling."""
    latents: list[torch.Tensor] = []
    part = "attn1.to_q" if settings.get("cache") == "pab" else "ffn"
    with counted(pipeline.transformer, part) as rows:
        video = pipeline(
            EXAMPLE / "portrait.png",
            EXAMPLE / "speech.wav",
            progress=Quiet(),
            callback_on_step_end=lambda pipe, step, timestep, tensors: latents.append(tensors["latents"]),
            **{"max_seconds": seconds, "seed": seed, **settings},
        )
    return {"latents": latents[-1], "frames": video.frames, "rows": rows[0], "seconds": video.seconds["sampling"]}


def compared(made: dict[str, Any], plain: dict[str, Any]) -> dict[str, float]:
    """Differences of a run from the plain one; those of latents in shares of its RMS and of its largest value."""
    difference, latents = made["latents"] - plain["latents"], plain["latents"]
    return {
        "work": made["rows"] / plain["rows"],
        "seconds": made["seconds"],
        "rms": float(difference.square().mean().sqrt() / latents.square().mean().sqrt()),
        "largest": float(difference.abs().max() / latents.abs().max()),
        "pixels": float(np.abs(made["frames"].astype(float) - plain["frames"]).mean()),
    }


def main() -> int:
    """Run everything and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the speech")
    options = parser.parse_args()
    pipeline = load_model(options)
    record = Record("step_caches", options, {})
    plain = run(pipeline, options.seconds, options.seed)
    example = (EXAMPLE / "portrait.png", EXAMPLE / "speech.wav")
    ratios = measure_ratios(pipeline, *example, progress=Quiet(), max_seconds=options.seconds)
    pipeline.transformer.mag_ratios = ratios
    rows, results = [("plain", "1", f"{plain['seconds']:.2f}", "0", "0", "0")], {}
    for settings in RUNS:
        name = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in settings.values())
        name = f"{name} steps" if "steps" in settings else name
        figures = results[name] = compared(run(pipeline, options.seconds, options.seed, **settings), plain)
        rows.append((name, *(f"{value:.2g}" for value in figures.values())))
    print(table(HEADER, rows))
    record.results = {"runs": results, "mag_ratios": ratios, "plain_seconds": plain["seconds"]}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
