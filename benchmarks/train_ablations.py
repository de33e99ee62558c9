"""Trains models without one part of the method each, the paper's table 4 among them, all at equal compute, for `fantasytalking benchmark`.

Each variant sees the same clips, in the same order, for the same number of steps; mesh codec and mouth painter are those of
the packaged model. The last lines of the output are the model folders. Every run goes on where it was stopped.

    python benchmarks/train_ablations.py --tracks RUN/tracks --output FOLDER --steps 800
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from fantasytalking import FantasyTalkingPipeline
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.training.embedded.embedded_recipes import EMBEDDED_MODEL, EMBEDDED_TRANSFORMER
from fantasytalking.training.embedded.export_model import export_embedded
from fantasytalking.training.embedded.train_embedded import make_trainer
from fantasytalking.training.embedded.training_tracks import SPEECH_ENCODER, Material, load_material
from fantasytalking.training.motion_percentiles import read_percentiles
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig

RATE = 6e-4


def variants(steps: int) -> dict[str, TrainConfig]:
    """Both stages (1 to 5 steps), each stage alone, and both without lip mask, identity module or motion network."""
    first = steps // 6
    clip, frame = (StageSchedule(name, steps, RATE, warmup=50, final_fraction=0.02) for name in ("clip", "frame"))
    both, unmasked = (
        (
            StageSchedule("clip", first, RATE, warmup=50, final_fraction=0.7),
            StageSchedule(second, steps - first, RATE, warmup=25, final_fraction=0.02),
        )
        for second in ("frame", "frame-unmasked")
    )
    base = replace(EMBEDDED_TRANSFORMER, validate_every=10**9)
    without = {k: v for k, v in EMBEDDED_MODEL.items() if not k.startswith("identity")}
    return {
        "both": replace(base, stages=both),
        "frame-only": replace(base, stages=(frame,)),
        "clip-only": replace(base, stages=(clip,)),
        "no-lip-mask": replace(base, stages=unmasked),
        "no-identity": replace(base, stages=both, model=without),
        "no-motion": replace(base, stages=both, model=EMBEDDED_MODEL | {"motion": False}),
    }


def train(name: str, config: TrainConfig, material: Material, output: Path, packaged: FantasyTalkingPipeline) -> Path:
    """Train one variant and write its model folder, unless it is there."""
    target = output / name / "model"
    if (target / "model_index.json").is_file():
        return target
    trainer = make_trainer(material, config, output / name / "transformer")
    trainer.train()
    intensity = read_percentiles(embedded_folder())
    assert intensity is not None, "the packaged model has a scale of motion intensity"
    painter, codec = packaged.vae.painter, packaged.vae.codec
    return export_embedded(trainer.averaged(), codec, painter, intensity, SPEECH_ENCODER, target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--tracks", type=Path, required=True, help="folder of face tracks, as `fantasytalking train` makes"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=800, help="optimiser steps of each variant")
    parser.add_argument("--only", nargs="*", help="names of variants; nothing means all")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    packaged = FantasyTalkingPipeline.from_pretrained("embedded")
    stored = options.tracks / "codec.bin"
    if not stored.exists():
        # the latents of all variants must mean the same motion, and the packaged painter belongs to this codec
        save_file(packaged.vae.codec.state_dict(), stored)
    material = load_material(options.tracks)
    found = variants(options.steps)
    folders = [train(name, found[name], material, options.output, packaged) for name in options.only or list(found)]
    print("\n".join(map(str, folders)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
