"""A training run of seconds on made-up samples, also as a program that does several runs one after the other.

python -m torch.distributed.run --nproc-per-node 2 -m tests.training.tiny_run '[["FOLDER", {"fsdp": true}, 20]]'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from fantasytalking.system.startup import importing_frameworks

# half the time of a process that trains a few steps
with importing_frameworks():
    from fantasytalking.data.samples import Sample
    from fantasytalking.training.flow_matching import FlowMatching
    from fantasytalking.training.trainer.callbacks import Callback, Validate
    from fantasytalking.training.trainer.config import StageSchedule, TrainConfig
    from fantasytalking.training.trainer.loop import Trainer
    from fantasytalking.training.trainer.run_folder import RunFolder
    from fantasytalking.training.trainer.sources import BucketPlan
    from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
    from tests.tiny import AUDIO_FEATURE_DIM, FACE_DIM, IMAGE_DIM, PARTS, TEXT_DIM, WAN_CONFIG, tiny_conditions


SIZES = ((3, 2, 2), (2, 4, 2))
"""Latent sizes (f, h, w) of the two buckets."""


@dataclass(frozen=True)
class RandomSource:
    """Items of two sizes whose content is drawn by the trainer's generators; batches of 5 and of 4."""

    seed: int = 0
    fingerprint: str | None = None

    def plan(self, step: int) -> Sequence[tuple[int, int, int]]:
        buckets = [SIZES[i % 2] for i in range(23)]
        plan = BucketPlan(buckets, {SIZES[0]: 12, SIZES[1]: 16}, budget=64, seed=self.seed)
        return [buckets[i] for i in plan(step)]

    def sample(self, key: tuple[int, int, int], rng: np.random.Generator) -> Sample:
        def normal(*shape: int) -> torch.Tensor:
            return torch.from_numpy(rng.standard_normal(shape, np.float32))

        return Sample(
            latents=normal(4, *key),
            condition=normal(8, *key),
            lip_mask=torch.from_numpy(rng.random((1, *key), np.float32)),
            text=normal(3, TEXT_DIM),
            audio=normal(int(rng.integers(8, 20)), AUDIO_FEATURE_DIM),
            image=normal(2, IMAGE_DIM),
            identity=torch.nn.functional.normalize(normal(FACE_DIM), dim=0),
            motion=torch.from_numpy(rng.random(2, np.float32)),
        )


CONFIG = TrainConfig(
    stages=(StageSchedule("clip", 10, 3e-3, warmup=2), StageSchedule("frame", 10, 3e-3, warmup=2)),
    model=WAN_CONFIG | PARTS,
    log_every=1,
    validate_every=10**9,
    tensorboard=False,
)


def trainer(
    run: Path,
    config: TrainConfig = CONFIG,
    model: torch.nn.Module | None = None,
    callbacks: Sequence[Callback] = (),
    source: RandomSource | None = None,
) -> Trainer:
    """A trainer on the made-up samples, of a new model unless one is given."""
    source = RandomSource(config.seed) if source is None else source
    return Trainer(model or new_model(config), source, FlowMatching(config), config, RunFolder(run), callbacks)


def new_model(config: TrainConfig = CONFIG) -> FantasyTalkingTransformer3DModel:
    """An untrained model, the same for the same seed."""
    torch.manual_seed(config.seed)
    return FantasyTalkingTransformer3DModel(**config.model)


def main(jobs: str) -> None:
    """Train, as a program.

    A job is a folder, changes of `CONFIG` and perhaps its number of `steps`, the step to stop at (0: the end), and perhaps the seed of
    a model to start from, after whose run every process writes the averaged model.
    """
    torch.set_num_threads(1)
    for folder, changes, until, *start in json.loads(jobs):
        steps = changes.pop("steps", CONFIG.total_steps)
        config = replace(CONFIG, **changes).scaled_to(steps)
        watched = [Validate(validate)] if config.validate_every < CONFIG.validate_every else []
        model = new_model(replace(config, seed=start[0])) if start else None
        made = trainer(Path(folder), config, model, watched)
        made.train(until or None)
        if start:
            whole = {name: value.contiguous() for name, value in made.averaged().state_dict().items()}
            save_file(whole, Path(folder) / f"averaged-{made.engine.rank}.safetensors")


@torch.no_grad()
def validate(model: torch.nn.Module) -> dict[str, float]:
    """The sum of squares of the weights, after a forward pass."""
    model(torch.zeros(1, 12, 5, 4, 6), torch.zeros(1), tiny_conditions())
    values = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
    return {"squares": sum(float(value.square().sum()) for value in values)}


if __name__ == "__main__":
    main(*sys.argv[1:])
