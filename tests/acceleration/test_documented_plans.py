"""The table of `docs/performance.md` is what the resolver says of the released shapes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fantasytalking.acceleration.memory_plan import GIB, Clip
from fantasytalking.acceleration.resolve_plan import Machine, resolve_plan
from fantasytalking.errors import OutOfMemory
from tests.acceleration.released_shapes import released_modules, released_sizes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
MACHINES = ((12, 64), (12, 32), (16, 64), (24, 64), (24, 32), (32, 64), (48, 64), (80, 64), (141, 64))
CLIPS = (Clip(81, 512, 512, 2), Clip(81, 720, 1280, 2))
OPTION = re.compile(r"use (--\S+ [\d.]*\d)")


def row(device: int, host: int) -> str:
    cells = [f"{device} GB", f"{host} GB"]
    for clip in CLIPS:
        try:
            run = resolve_plan(released_sizes(), clip, Machine("cuda", device * GIB, host * GIB))
        except OutOfMemory as error:
            cells.append(
                "does not fit, but with " + " or ".join(f"`{option}`" for option in OPTION.findall(str(error)))
            )
            continue
        batched = "" if run.plan.batch_passes == "on" else ", passes one by one"
        tiled = ", VAE in tiles" if run.plan.vae_tiling else ""
        peaks = f"{run.peaks.device_peak / GIB:.1f} + {run.peaks.host / GIB:.1f} GiB"
        cells.append(f"`{run.plan.name}`{batched}{tiled}: {peaks}")
    return "| " + " | ".join(cells) + " |"


def test_the_documented_plans_are_those_that_are_chosen() -> None:
    page = PAGE.read_text()
    missing = [line for line in (row(*machine) for machine in MACHINES) if line not in page]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize(
    ("kind", "free", "head", "is_figure_of_the_second"),
    [("mps", 60, "| Mac, 64 GB |", True), ("mps", 44, "| Mac, up to 48 GB |", False), ("cpu", 16, "| CPU |", True)],
)
def test_the_documented_main_memory_of_macs_and_cpus_is_what_is_expected(
    kind: str, free: int, head: str, is_figure_of_the_second: bool
) -> None:
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith(head) and "GiB" in line]
    runs = [resolve_plan(released_sizes(), clip, Machine(kind, free * GIB, free * GIB)) for clip in CLIPS]
    for run in runs if is_figure_of_the_second else runs[:1]:
        assert f"{run.peaks.host / GIB:.1f} GiB" in line
        assert f"`{run.plan.name}`" in line and run.fits == ("does not fit" not in line)


def test_the_sizes_that_the_pages_name_are_those_of_the_shapes() -> None:
    parts = {name: [*module.parameters()] for name, module in released_modules().items()}
    numbers = {name: sum(one.numel() for one in tensors) for name, tensors in parts.items()}
    billions = {name: count / 1e9 for name, count in numbers.items()}
    assert f"{billions['text_encoder']:.2f}" == "5.68"
    weights = (PAGE.parent / "weights.md").read_text()
    # of Wan alone: without the adapter
    plain = sum(one.numel() for one in released_modules(audio_dim=None)["transformer"].parameters()) / 1e9
    row = f"transformer {plain:.1f} billion, umT5 {billions['text_encoder']:.1f}, CLIP {billions['image_encoder']:.1f}, VAE "
    assert row + f"{billions['vae']:.2f}" in weights
    gib = {name: count * (2 if name in ("transformer", "text_encoder") else 4) / GIB for name, count in numbers.items()}
    page = " ".join(PAGE.read_text().split())
    for part in (
        f"transformer {gib['transformer']:.0f} ({billions['transformer']:.1f} billion numbers with the adapter)",
        f"umT5 {gib['text_encoder']:.1f}",
        f"CLIP {gib['image_encoder']:.1f} and the VAE {gib['vae']:.1f}",
        f"wav2vec2 {gib['audio_encoder']:.1f}",
        f"take {sum(gib.values()):.0f} GiB",
    ):
        assert part in page, part
