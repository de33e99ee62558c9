"""Runs of every recipe at toy width, on made-up material: what `kill_training.py` kills."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fantasytalking.pipeline.model_names import embedded_folder  # noqa: E402
from fantasytalking.training.adapter.adapter_recipes import ADAPTER_RECIPES  # noqa: E402
from fantasytalking.training.adapter.train_adapter import train_adapter  # noqa: E402
from fantasytalking.training.distillation.distil_adapter import distil_released  # noqa: E402
from fantasytalking.training.distillation.distil_embedded import distil_embedded  # noqa: E402
from fantasytalking.training.distillation.distillation_recipes import DISTIL_RECIPES  # noqa: E402
from fantasytalking.training.embedded.embedded_recipes import RECIPES  # noqa: E402
from fantasytalking.training.embedded.train_embedded import train_embedded  # noqa: E402
from fantasytalking.training.lip_sync.lip_sync_recipes import LIP_SYNC_RECIPES  # noqa: E402
from fantasytalking.training.lip_sync.train_lip_sync import train_lip_sync  # noqa: E402
from tests.cli.test_train import make_video  # noqa: E402
from tests.pipeline.tiny_pipeline import transformer, wan_pipeline  # noqa: E402
from tests.training.latent_set import made_up, write_set  # noqa: E402
from tests.training.synthetic import FACE_DIM, SPEECH_DIM  # noqa: E402

# a checkpoint after every step, so that a resumed run may begin at any of them
OFTEN: dict[str, Any] = {"checkpoint_minutes": 0.0, "log_every": 3}


@dataclass(frozen=True)
class ToyRun:
    """A recipe, ready to be run.

    Attributes:
        phases: Its phases, in order.
        train: Runs it to its end in an output folder, given the folder of the material.
    """

    phases: tuple[str, ...]
    train: Callable[[Path, Path], object]


def _scaled(recipe: Any, steps: int) -> Any:
    recipe = recipe.scaled_to(steps)
    return replace(recipe, train=replace(recipe.train, **OFTEN))


def _tiny(material: Path, output: Path) -> object:
    return train_embedded(replace(_scaled(RECIPES["tiny"], 18), painter_steps=7), material / "videos", output)


def _distil(material: Path, output: Path) -> object:
    return distil_embedded(
        _scaled(DISTIL_RECIPES["distil-tiny"], 18), material / "teacher", material / "videos", output
    )


def _lip_sync(material: Path, output: Path) -> object:
    recipe = LIP_SYNC_RECIPES["lip-sync"]
    recipe = replace(recipe, train=replace(recipe.train, batch=4, window=8), align_steps=4)
    return train_lip_sync(_scaled(recipe, 12), material / "videos", output)


def _adapter(name: str) -> Callable[[Path, Path], object]:
    recipe = _scaled(ADAPTER_RECIPES[name], 18)
    return lambda material, output: train_adapter(recipe, material / "set", output, material / "base")


def _distil_lora(material: Path, output: Path) -> object:
    return distil_released(_scaled(DISTIL_RECIPES["distil-lora-tiny"], 12), material / "base", material / "set", output)


RUNS = {
    "tiny": ToyRun(("tracks", "codec", "pairs", "painter", "transformer", "calibration", "export"), _tiny),
    "distil-tiny": ToyRun(("tracks", "student", "export"), _distil),
    "lip-sync": ToyRun(("tracks", "mouths", "align", "network", "export"), _lip_sync),
    "adapter-tiny": ToyRun(("transformer", "export"), _adapter("adapter-tiny")),
    "lora-tiny": ToyRun(("transformer", "export"), _adapter("lora-tiny")),
    "distil-lora-tiny": ToyRun(("student", "export"), _distil_lora),
}
"""Runs by the name of the recipe; embedded is the same code as tiny, distil as distil-tiny, and so on."""


def make_material(folder: Path) -> None:
    """Write what the runs train on: videos with a catalogue, a teacher, a base model, a prepared set with latents."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    rows = []
    for number, start in enumerate((0.2, 2.2, 1.2)):
        make_video(videos / f"{number}.mp4", start, number)
        rows.append({"file": f"{number}.mp4", "identity": f"person{number}", "kind": "real", "split": "train"})
    (videos / "catalogue.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    teacher = folder / "teacher"
    shutil.copytree(embedded_folder(), teacher, ignore=shutil.ignore_patterns("transformer", "example"))
    sizes: dict[str, Any] = {"audio_feature_dim": SPEECH_DIM, "identity_feature_dim": FACE_DIM, "identity_dim": 16}
    model = transformer(image_dim=None, added_kv_proj_dim=None, identity_tokens=2, motion=True, **sizes)
    model.half().save_pretrained(teacher / "transformer")
    pipeline = wan_pipeline()
    pipeline.save_pretrained(folder / "base")
    write_set(folder / "set", pipeline, {f"clip{i}": made_up(13, seed=i) for i in range(3)})
