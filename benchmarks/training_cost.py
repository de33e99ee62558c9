"""What the 14B run of the paper costs: operations, days, memory, storage; and the formula held against steps measured here.

Everything but `--measure` is arithmetic on the formulas of `fantasytalking.training.trainer.flops` and takes seconds;
docs/training-cost.md holds its output.

    python benchmarks/training_cost.py
    python benchmarks/training_cost.py --measure
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from fantasytalking.checkpoints.adapter_layouts import part_of
from fantasytalking.checkpoints.fill_model import build_empty
from fantasytalking.conditioning.audio_windows import window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition
from fantasytalking.training.adapter.adapter_recipes import ADAPTER_14B, RELEASED_PARTS
from fantasytalking.training.embedded.embedded_recipes import EMBEDDED_MODEL
from fantasytalking.training.trainer.flops import Flops, Tokens, latent_tokens, tokens_of, training_flops
from fantasytalking.training.trainer.throughput import measure_peak_flops
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

WAN_14B: dict[str, Any] = {
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "image_dim": 1280,
    "added_kv_proj_dim": 5120,
    "audio_feature_dim": 768,
    "identity_feature_dim": 512,
}
CONFIG = WAN_14B | RELEASED_PARTS
FRAMES, SIDE, SPEECH = 81, 512, 175
CLIPS, SECONDS, FPS, WINDOWS, CAPTION = 150_000, 8.0, 23.0, 2, 64
PEAK = {"A100": 312e12, "H100": 989e12}
"""Dense bf16 operations per second by their makers' data sheets."""
MFU = {"A100": (0.25, 0.40), "H100": (0.20, 0.35)}
"""Shares of the peak that we assume for training with sharding and checkpointing; see docs/training-cost.md."""
GPUS = 64
GB, TB = 1e9, 1e12


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def tokens() -> Tokens:
    """Of a sample of 81 frames at 512 x 512."""
    return tokens_of(FRAMES, SIDE, SIDE, SPEECH)


def flops(level: Any) -> Flops:
    """Of one training sample of the adapter."""
    return training_flops(CONFIG, tokens(), level, "adapter")


def operations() -> str:
    """Operations of a sample and of the run."""
    rows = []
    for schedule in ADAPTER_14B.train.stages:
        f = flops(schedule.stage)
        cells = (f.forward, f.inputs + f.weights, f.again, f.model, f.hardware)
        run = f.model * ADAPTER_14B.batch * schedule.steps
        rows.append([schedule.stage, *(f"{c / 1e15:.2f}" for c in cells), f"{schedule.steps:,}", f"{run / 1e21:.1f}"])
    head = (
        "stage",
        "forward",
        "backward",
        "repeated",
        "model",
        "computed",
        "steps",
        f"run of {ADAPTER_14B.batch} a step, 10^21",
    )
    return table(head, rows)


def anchors() -> str:
    """Published step times of inference as operations per second."""
    plain = CONFIG | {"identity_dim": None, "motion": False}
    ours = training_flops(plain, tokens(), "frame", "adapter").forward
    wan = training_flops(plain | {"audio_dim": None}, tokens_of(81, 480, 832, 0), "frame", "adapter").forward
    rows = []
    for name, gpu, passes, one, seconds in (
        ("released code, 512 x 512 x 81", "A100", 3, ours, 15.5),
        ("Wan2.1 I2V-14B 480P, diffusers", "H100", 2, wan, 9.77),
        ("Wan2.1 I2V-14B 480P, FastVideo", "H100", 2, wan, 7.35),
        ("Wan2.1 I2V-14B 480P, LightX2V", "H100", 2, wan, 5.18),
    ):
        rate = passes * one / seconds
        cells = (f"{one / 1e15:.2f}", seconds, f"{rate / 1e12:.0f}", f"{100 * rate / PEAK[gpu]:.0f} %")
        rows.append([name, gpu, passes, *cells])
    return table(("program", "GPU", "passes", "10^15 a pass", "s a step", "10^12 a second", "of peak"), rows)


def days() -> str:
    """Time of the whole run: N GPUs of one kind, a global batch of 64."""
    rows = []
    for gpu, peak in PEAK.items():
        for nodes in (1, 2, 4, 8):
            low, high = (_run_days(peak, nodes * 8, share) for share in MFU[gpu])
            step = [_step_seconds(peak, nodes * 8, share, "clip") for share in MFU[gpu]]
            hours = f"{high * 24 * nodes * 8:,.0f} to {low * 24 * nodes * 8:,.0f}"
            rows.append([f"{nodes} x 8 {gpu}", f"{step[1]:.0f} to {step[0]:.0f}", f"{high:.0f} to {low:.0f}", hours])
    return table(("nodes", "s a step", "days", "GPU hours"), rows)


def _step_seconds(peak: float, gpus: int, share: float, level: str) -> float:
    return ADAPTER_14B.batch * flops(level).model / (gpus * peak * share)


def _run_days(peak: float, gpus: int, share: float) -> float:
    return sum(s.steps * _step_seconds(peak, gpus, share, s.stage) for s in ADAPTER_14B.train.stages) / 86400


@cache
def parameters() -> dict[str, int]:
    """Numbers of weights by part."""
    model = build_empty(lambda: FantasyTalkingTransformer3DModel(**CONFIG))
    counts: dict[str, int] = {}
    for name, value in model.named_parameters():
        counts[part_of(name) or "backbone"] = counts.get(part_of(name) or "backbone", 0) + value.numel()
    counts["largest block"] = sum(value.numel() for value in model.blocks[0].parameters())
    return counts


def weights() -> str:
    """Which weights there are."""
    names = ("backbone", "audio", "identity", "motion")
    rows = [[n, f"{parameters()[n] / 1e6:,.0f}", "no" if n == "backbone" else "yes"] for n in names]
    return table(("part", "weights, 10^6", "trained"), rows)


def memory(gpus: int) -> dict[str, float]:
    """Bytes on each GPU."""
    count, t = parameters(), tokens()
    trained = sum(count[part] for part in ("audio", "identity", "motion"))
    d, e = 5120, WAN_14B["ffn_dim"]
    return {
        "frozen": 2 * count["backbone"] / gpus,
        "trained": 4 * trained / gpus,
        "gradients": 4 * trained / gpus,
        "AdamW": 8 * trained / gpus,
        "average": 4 * trained / gpus,
        "gathered": 0.0 if gpus == 1 else 2 * 2 * count["largest block"],
        "kept": 2.0 * WAN_14B["num_layers"] * t.video * d,
        "inside a block": t.video * (2.0 * 16 * d + 2.0 * 2 * e + 4.0 * 6 * d),
    }


def memory_table() -> str:
    """Memory by number of GPUs, and with the 8-bit optimiser."""
    rows: list[list[object]] = []
    for gpus in (1, 8, 16, 32, 64):
        parts = memory(gpus)
        rows.append([gpus, *(f"{value / GB:.1f}" for value in parts.values()), f"{sum(parts.values()) / GB:.0f}"])
    return table(("GPUs", *memory(1), "sum, GB"), rows)


def stored() -> dict[str, float]:
    """Bytes of each array of a clip in the set."""
    frames = round(SECONDS * FPS)
    f, side = (FRAMES - 1) // 4 + 1, SIDE // 8
    return {
        "latents": WINDOWS * 2 * 16 * f * side * side,
        "condition": WINDOWS * 2 * 20 * f * side * side,
        "lip_mask": WINDOWS * 2 * f * side * side,
        "speech of windows": WINDOWS * 2 * SPEECH * 768,
        "image": WINDOWS * 2 * 257 * 1280,
        "text": 2 * CAPTION * 4096,
        "points": 4 * frames * 468 * 3,
        "joints": 2 * frames * 33 * 3,
        "speech of the clip": 2 * round(SECONDS * 50) * 768,
        "mp4": 2.0e6 / 8 * SECONDS,
        "flac": 16e3 * SECONDS,
        "jpg": 60e3,
    }


def storage() -> str:
    """Storage of the whole set."""
    parts = stored()
    rows = [[name, f"{value / 1e6:.2f}", f"{value * CLIPS / TB:.2f}"] for name, value in parts.items()]
    total = sum(parts.values())
    return table(
        ("array", "MB a clip", f"TB for {CLIPS:,} clips"),
        [*rows, ["sum", f"{total / 1e6:.1f}", f"{total * CLIPS / TB:.2f}"]],
    )


@cache
def encoder_operations() -> float:
    """Of Wan's VAE for one frame of 512 x 512, counted by PyTorch on tensors without values."""
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        vae = AutoencoderKLWan().eval()
        video = torch.zeros(1, 3, 13, 64, 64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        vae.encode(video)
    return counter.get_total_flops() / 13 * (SIDE / 64) ** 2


def preparation() -> str:
    """Time of the latents; the other stages run on processors, see the set's own manifest for their throughput."""
    one = encoder_operations() * FRAMES * 2 * WINDOWS
    rows = []
    for gpu, peak in PEAK.items():
        # fp32 convolutions on TF32 units, half the rate of bf16, of which a quarter is reached
        seconds = one / (peak / 2 * 0.25)
        rows.append(
            [
                gpu,
                f"{one / 1e15:.2f}",
                f"{seconds:.1f}",
                f"{seconds * CLIPS / 3600:,.0f}",
                f"{seconds * CLIPS / 86400 / GPUS:.2f}",
            ]
        )
    return table(("GPU", "10^15 a clip", "s a clip", "GPU hours for all", f"days on {GPUS}"), rows)


def measured() -> str:
    """Steps of two models on this processor against its own matrix products."""
    rows = []
    few = CONFIG | {"num_layers": 1}
    for name, config, size, trains, checkpointing in (
        ("embedded model, all weights", EMBEDDED_MODEL, (19, 6, 4), "all", False),
        ("embedded model, 16 at a time", EMBEDDED_MODEL, (19, 6, 4), "all", False),
        ("Wan's width, 1 block, adapter", few, (3, 24, 24), "adapter", True),
    ):
        batch = 16 if "16" in name else 1
        seconds = _step(config, size, batch, trains, checkpointing)
        text, image = (512, 257) if config.get("image_dim") else (1, 0)
        count = latent_tokens(size, 4 * size[0] * 2, text, image, (1, 2, 2))
        f = training_flops(config, count, "frame", trains, checkpointing)
        peak = measure_peak_flops(torch.device("cpu"), torch.float32)
        rate, done = batch * f.model / seconds, batch * f.hardware / seconds
        cells = (f"{batch * f.model / 1e9:.1f}", f"{seconds:.2f}", f"{rate / 1e9:.1f}", f"{peak / 1e9:.1f}")
        rows.append([name, batch, *cells, f"{100 * rate / peak:.0f} %", f"{100 * done / peak:.0f} %"])
    head = (
        "model",
        "samples",
        "10^9 a step",
        "s a step",
        "10^9 a second",
        "matrix product, 10^9 a second",
        "MFU",
        "with repeats",
    )
    return table(head, rows)


def _step(config: dict[str, Any], size: tuple[int, int, int], batch: int, trains: str, checkpointing: bool) -> float:
    """Seconds of forward, backward and AdamW, the second of two."""
    model = FantasyTalkingTransformer3DModel(**config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains == "all" or part_of(name) is not None)
    if checkpointing:
        model.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
    speech, image = 8 * size[0], config.get("image_dim")
    ranges = window_ranges(speech, 4 * size[0] - 3).expand(batch, -1, -1)
    told = Conditions(
        torch.randn(batch, 512 if image else 1, config["text_dim"]),
        torch.randn(batch, 257, image) if image else None,
        AudioCondition(torch.randn(batch, speech, config["audio_feature_dim"]), ranges),
        IdentityCondition(torch.randn(batch, config["identity_feature_dim"])),
        torch.rand(batch, 2),
    )
    latents, seconds = torch.randn(batch, config["in_channels"], *size), 0.0
    for _ in range(2):
        began = time.perf_counter()
        model(latents, torch.full((batch,), 500.0), replace(told)).sample.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - began
    return seconds


SECTIONS = {
    "weights": weights,
    "operations": operations,
    "anchors": anchors,
    "days": days,
    "memory": memory_table,
    "storage": storage,
    "preparation": preparation,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="time steps on this processor")
    options = parser.parse_args()
    for name, make in ({"measured": measured} if options.measure else SECTIONS).items():
        print(f"## {name}\n\n{make()}\n")


if __name__ == "__main__":
    main()
