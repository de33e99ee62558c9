"""What training must do on a device: two steps of each recipe, with a validation and a resume. Shared by tests/devices and tests/gpu."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.training.adapter.adapter_recipes import ADAPTER_RECIPES
from fantasytalking.training.adapter.train_adapter import adapter_trainer, train_adapter
from fantasytalking.training.distillation.distil_adapter import distil_released
from fantasytalking.training.distillation.distil_embedded import distil_embedded
from fantasytalking.training.distillation.distillation_recipes import DISTIL_RECIPES
from fantasytalking.training.embedded.embedded_recipes import RECIPES
from fantasytalking.training.embedded.export_model import embedded_pipeline, export_embedded
from fantasytalking.training.embedded.train_embedded import make_trainer
from fantasytalking.training.embedded.train_painter import painter_config, train_painter
from fantasytalking.training.embedded.training_tracks import SPEECH_ENCODER, Material, load_material
from fantasytalking.training.lip_sync.lip_sync_objective import averaged_network, lip_sync_trainer
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.run_folder import RunFolder
from tests.devices.generation_checks import Quiet
from tests.pipeline.tiny_pipeline import portrait, speech, transformer, wan_pipeline
from tests.training.embedded.test_train_painter import pairs
from tests.training.latent_set import WINDOW, made_up, write_set
from tests.training.lip_sync.test_train_lip_sync import CONFIG, fresh_network, windows
from tests.training.synthetic import FACE_DIM, SPEECH_DIM, write_cache

__all__ = ["CHECKS"]

Check = Callable[[torch.device, Path, str], None]


@cache
def scratch() -> Path:
    """A folder for what several checks read."""
    return Path(mkdtemp(prefix="devices"))


@cache
def material() -> Material:
    """Made-up tracks of a training and of a validation split."""
    return load_material(tracks())


@cache
def tracks() -> Path:
    return write_cache(scratch() / "tracks")


@cache
def base() -> Path:
    """A pipeline folder like the released model's."""
    wan_pipeline().save_pretrained(scratch() / "base")
    return scratch() / "base"


@cache
def latent_set() -> Path:
    clips = {f"clip{i}": made_up(WINDOW, seed=i) for i in range(2)}
    return write_set(scratch() / "set", wan_pipeline(), clips)


@cache
def teacher() -> Path:
    """The packaged model's folder with a tiny transformer."""
    folder = scratch() / "teacher"
    shutil.copytree(embedded_folder(), folder, ignore=shutil.ignore_patterns("transformer", "example"))
    parts = {"identity_feature_dim": FACE_DIM, "identity_dim": 16, "identity_tokens": 2, "motion": True}
    widths = {"image_dim": None, "added_kv_proj_dim": None, "audio_feature_dim": SPEECH_DIM}
    transformer(**parts, **widths).half().save_pretrained(folder / "transformer")
    return folder


def short(train: TrainConfig, *stages: str, precision: str, **changes: Any) -> TrainConfig:
    """One step of each stage, every one of them logged and validated."""
    rows = tuple(StageSchedule(stage, 1, 1e-3, warmup=1) for stage in stages)  # type: ignore[arg-type]
    every: dict[str, Any] = {
        "mixed_precision": precision,
        "log_every": 1,
        "validate_every": 1,
        "tensorboard": False,
        "peak_flops": 1e9,
    }
    return replace(train, stages=rows, **every, **changes)


def records(run: Path) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """Losses and validations of a run's log, after a look at their numbers."""
    rows = RunFolder(run).records()
    losses = [row for row in rows if "loss" in row]
    validations = [row["validation"] for row in rows if "validation" in row]
    assert all(math.isfinite(row["loss"]) and row["norm"] > 0 for row in losses if "norm" in row)
    assert all(math.isfinite(value) for row in validations for value in row.values())
    return losses, validations


def on_device(model: torch.nn.Module, device: torch.device) -> bool:
    return {p.device.type for p in model.parameters()} == {device.type}


def train_the_embedded_model(device: torch.device, folder: Path, precision: str) -> None:
    """Both stages with a resume between them, a validation, then a video and a model folder of the averaged weights."""
    config = short(RECIPES["tiny"].train, "clip", "frame", precision=precision, accumulate=2)
    config = replace(config, validate_every=2)
    assert make_trainer(material(), config, folder / "run").train(until=1) == 1
    trainer = make_trainer(material(), config, folder / "run")
    assert trainer.step == 1
    assert on_device(trainer.engine.model, device)
    assert trainer.train() == 2
    losses, validations = records(folder / "run")
    assert [row["stage"] for row in losses] == ["clip", "frame"]
    assert [set(row) for row in validations] == [{"r", "r_shuffled", "spread", "closed", "expression", "head"}]
    averaged, painter = trainer.averaged(), MouthPainter().to(device)
    assert on_device(averaged, device)
    # the rest of such a pipeline stays on the CPU, as in validation videos
    pipeline = embedded_pipeline(averaged, material().codec, painter, SPEECH_ENCODER)
    assert len(pipeline(portrait(), speech(0.3), steps=1, progress=Quiet()).frames) == 8
    made = export_embedded(averaged, material().codec, painter, material().intensity, SPEECH_ENCODER, folder / "model")
    assert (made / "model_index.json").is_file()


def train_the_painter(device: torch.device, folder: Path, precision: str) -> None:
    """Its loss with the perceptual distance, and a resume."""
    config = replace(painter_config(2, 1), tensorboard=False, log_every=1)
    for _ in range(2):
        trained = train_painter(MouthPainter((8, 8)), pairs(), config, RunFolder(folder))
        assert on_device(trained, device)
    assert len(records(folder)[0]) == 2


def train_an_adapter(name: str) -> Check:
    """A step at clip level, a resume, a step at frame level, and the files that are made of it."""

    def check(device: torch.device, folder: Path, precision: str) -> None:
        recipe = ADAPTER_RECIPES[name]
        recipe = replace(recipe, train=short(recipe.train, "clip", "frame", precision=precision))
        trainer = adapter_trainer(recipe, latent_set(), folder, base())
        assert on_device(trainer.engine.model, device)
        assert trainer.train(until=1) == 1
        assert train_adapter(recipe, latent_set(), folder, base()).is_file()
        assert len(records(folder / "transformer")[0]) == 2

    return check


def distil_the_embedded_model(device: torch.device, folder: Path, precision: str) -> None:
    """A student of the packaged kind of model: its own way, the teacher's guidance, a validation."""
    recipe = replace(DISTIL_RECIPES["distil-tiny"], on_policy=0.7, solver_steps=2, substeps=1)
    recipe = replace(recipe, train=short(recipe.train, "frame", precision=precision))
    assert (distil_embedded(recipe, teacher(), tracks(), folder) / "model_index.json").is_file()
    losses, validations = records(folder / "student")
    assert (len(losses), len(validations)) == (1, 1)


def distil_to_lora(device: torch.device, folder: Path, precision: str) -> None:
    """LoRA beside a frozen teacher that is guided by prompt and speech, so that all three passes run."""
    recipe = replace(DISTIL_RECIPES["distil-lora-tiny"], on_policy=0.7, audio_guidance_scale=3.0)
    recipe = replace(recipe, train=short(recipe.train, "frame", precision=precision))
    assert (distil_released(recipe, base(), latent_set(), folder) / "pytorch_lora_weights.safetensors").is_file()
    assert len(records(folder / "student")[0]) == 1


def train_the_lip_sync_network(device: torch.device, folder: Path, precision: str) -> None:
    """Steps with a resume between them, and a validation after each."""
    source = windows()
    clips = [clip for group in source.people.groups.values() for clip in group]

    def trainer() -> Trainer:
        config = replace(CONFIG, log_every=1, validate_every=1)
        return lip_sync_trainer(fresh_network(), source, config, RunFolder(folder), clips[:2])

    assert trainer().train(until=1) == 1
    second = trainer()
    assert on_device(second.engine.model, device)
    assert second.train(until=2) == 2
    losses, validations = records(folder)
    assert (len(losses), len(validations)) == (2, 2)
    assert averaged_network(second).embed_speech(np.zeros((8, SPEECH_DIM), np.float32)).shape == (4, 128)


CHECKS: dict[str, Check] = {
    "tiny": train_the_embedded_model,
    "painter": train_the_painter,
    "adapter-tiny": train_an_adapter("adapter-tiny"),
    "lora-tiny": train_an_adapter("lora-tiny"),
    "distil-tiny": distil_the_embedded_model,
    "distil-lora-tiny": distil_to_lora,
    "lip-sync": train_the_lip_sync_network,
}
"""Recipe -> check; painter and lip-sync network have one precision, and the recipes of full size are these at other widths."""
