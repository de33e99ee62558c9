"""With `--json`, stdout is one JSON object and nothing else, whatever a command shows to people."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fantasytalking.checkpoints import save_adapter
from fantasytalking.cli.__main__ import COMMANDS, main
from tests.checkpoints import tiny
from tests.evaluation.benchmark.samples import talking_video
from tests.model_hub import Hub
from tests.pipeline.tiny_pipeline import EXAMPLE, embedded_pipeline, portrait, wan_pipeline
from tests.training.latent_set import made_up, write_set

Answer = Callable[..., dict[str, Any]]
METRICS = ("--metrics", "mouth", "--workers", "1")


@pytest.fixture
def answer(capfd: pytest.CaptureFixture[str]) -> Answer:
    """A function that runs a command; everything on its stdout, also from libraries in other languages, has to be one object."""

    def run(*words: object, code: int = 0) -> dict[str, Any]:
        capfd.readouterr()
        assert main([*map(str, words), "--json"]) == code
        shown = capfd.readouterr()
        found: dict[str, Any] = json.loads(shown.out)
        assert shown.out.count("\n") == 1 or words[0] == "info"
        return found

    return run


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, talking: Path) -> Path:
    """Clips, tiny models and a set with latents."""
    made = tmp_path_factory.mktemp("json")
    for folder in ("videos", "real", "ours"):
        (made / folder).mkdir()
    for name in ("calm", "lively"):
        shutil.copy(talking / f"{name}.mp4", made / "videos")
    shutil.copy(talking / "calm.mp4", made / "real" / "anna.mp4")
    shutil.copy(talking / "lively.mp4", made / "ours" / "anna.mp4")
    Image.fromarray(portrait()).save(made / "face.png")
    embedded_pipeline().save_pretrained(made / "model")
    wan_pipeline().save_pretrained(made / "wan")
    save_adapter(tiny.transformer(**tiny.AUDIO), made / "adapter.ckpt", "released")
    case = {"image": "face.png", "audio": str(EXAMPLE / "speech.wav")}
    (made / "batch.jsonl").write_text(json.dumps(case) + "\n")
    write_set(made / "latents", wan_pipeline(), {f"clip{i}": made_up(9, seed=i) for i in range(2)})
    for index in range(2):
        talking_video(made / "footage" / f"person{index}.mp4", 1.4, 200 + 100 * index)
    return made


@pytest.mark.slow
def test_every_command_for_preparing_and_training_prints_one_object(here: Path, answer: Answer) -> None:
    quick = ("--sync", "off", "--body-every", "1", "--face-every", "1", "--workers", "0")
    clips = here / "set"
    assert answer("prepare", here / "videos", "--output", clips, *quick)["totals"]["kept"] == 2
    teacher = answer("train", "tiny", "--data", clips, "--output", here / "tiny")["output"]
    answer("train", "distil-tiny", "--data", clips, "--teacher", teacher, "--output", here / "student", "--steps", 3)
    for recipe in ("adapter-tiny", "lora-tiny"):
        words = ("--data", here / "latents", "--base", here / "wan", "--steps", 2)
        assert answer("train", recipe, *words, "--output", here / recipe)["recipe"] == recipe
    words = ("--data", here / "latents", "--teacher", here / "wan", "--steps", 3)
    answer("train", "distil-lora-tiny", *words, "--output", here / "few")
    answer("export", here / "adapter-tiny", here / "exported.ckpt", "--layout", "released")
    assert "error" in answer("train", "tiny", "--data", here / "real", "--output", here / "none", code=2)


@pytest.mark.slow
def test_every_other_command_prints_one_object(
    here: Path, answer: Answer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv("FANTASYTALKING_CACHE", str(here / "cache"))
    only = ("--endpoint", hub.address, "--only", "adapter")
    generating = ("--image", "face.png", "--audio", EXAMPLE / "speech.wav", "--model", "model", "--output", "out.mp4")
    commands: dict[str, tuple[object, ...]] = {
        "info": (),
        "weights": (),
        "download": ("weights", *only),
        "convert": ("adapter.ckpt", "there.safetensors", "--layout", "safetensors"),
        "generate": (*generating, "--max-seconds", "0.4", "--steps", "1"),
        "demo": ("--output", "demo.mp4", "--max-seconds", "0.4", "--steps", "1"),
        "verify": ("demo.mp4",),
        "batch": ("batch.jsonl", "--model", "model", "--output", "batch", "--max-seconds", "0.4", "--steps", "1"),
        "evaluate": ("--generated", "ours", "--reference", "real", "--output", "one", *METRICS),
        "manifest": ("footage", "--name", "mine", "--clips", "2", "--seconds", "1", "--output", "mine.json"),
        "benchmark": ("--list",),
    }
    for name, words in commands.items():
        answer(name, *words)
    answer("evaluate", "--generated", "other=ours", "--reference", "real", "--output", "two", *METRICS)
    answer("compare", "one", "two", "--output", "both")
    # serve has no end, comfyui prints a folder
    others = {"compare", "prepare", "train", "export", "serve", "comfyui"}
    assert commands.keys() | others == COMMANDS.keys()
