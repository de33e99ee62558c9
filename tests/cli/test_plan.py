"""`info --plan`, and `generate` that follows a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from safetensors.torch import load_file, save_file

from fantasytalking.cli.__main__ import main
from fantasytalking.media.video import probe_video, write_video
from tests.pipeline.tiny_pipeline import portrait, speech, wan_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "model"
    wan_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def given(tmp_path: Path, model: Path) -> list[str]:
    Image.fromarray(portrait()).save(tmp_path / "face.png")
    write_video(tmp_path / "voice.mp4", [portrait(64)] * 10, 25, speech(0.4))
    words = {"image": "face.png", "audio": "voice.mp4", "output": "out.mp4"}
    return ["--model", str(model), *(w for name, file in words.items() for w in (f"--{name}", str(tmp_path / file)))]


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["info", "--plan", *words, "--json"]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    return facts


def test_the_plan_of_another_machine_is_shown_before_anything_is_loaded(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", str(model), "--device-memory", "24", "--host-memory", "64")
    facts = shown(capsys, *words)
    assert facts["plan"]["name"] == "high" and facts["plan"]["fits"] and facts["plan"]["dtype"] == "bfloat16"
    assert facts["clip"] == {"frames": 81, "height": 64, "width": 64}
    assert (facts["steps"], facts["passes"], facts["calls"]) == (2, 4, 2)
    small = shown(
        capsys, *words, "--memory", "minimal", "--quantize", "fp8", "--max-seconds", "1", "--longest-side", "128"
    )
    assert small["plan"]["offload"] == "disk" and small["plan"]["quantize"] == "fp8" and small["plan"]["vae_tiling"]
    assert small["clip"] == {"frames": 25, "height": 128, "width": 128} and small["calls"] == 4
    assert main(["info", "--plan", *words, "--offload", "groups"]) == 0
    text = capsys.readouterr().out
    for part in ("blocks wait in host memory", "device memory: sampling", "main memory: peak", "4 in 2 steps, 2 calls"):
        assert part in text


def test_the_plan_of_several_processes_is_that_of_one_of_them(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--model", str(model), "--device-memory", "24", "--host-memory", "64", "--memory", "minimal")
    alone, shared = shown(capsys, *words), shown(capsys, *words, "--parallel", "guidance=2,ulysses=2")
    assert (alone["parallel"], alone["processes"], alone["calls"]) == (None, 1, 4)
    assert (shared["parallel"], shared["processes"], shared["calls"]) == ("guidance=2,ulysses=2", 4, 2)
    assert shared["passes"] == alone["passes"]
    assert main(["info", "--plan", *words, "--parallel", "guidance=2"]) == 0
    assert "2 (guidance=2,ulysses=1); memory is that of each" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--parallel", "3"), "are given as auto, guidance=2, ulysses=4 or guidance=2,ulysses=2, but '3' was given"),
        (("--parallel", "auto", "--device-memory", "24"), "give a division, such as --parallel guidance=2,ulysses=2"),
        (("--model", "someone/model"), "needs the files of 'someone/model' on this machine"),
        (("--device-memory", "0"), "--device-memory must be a number of GiB above 0, but 0 was given"),
        (("--device-memory", "1", "--host-memory", "64", "--longest-side", "8192"), "; use --longest-side "),
        (("--lora", "nowhere.safetensors=0.5"), "There is no LoRA file 'nowhere.safetensors'; check the path."),
        (("--offload", "groups", "--device", "cpu"), "on cpu all parts compute where they wait"),
        (("--memory", "small"), "'small'"),
    ],
)
def test_a_plan_that_cannot_be_made_is_one_sentence(
    model: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = () if "--model" in words else ("--model", str(model))
    assert main(["info", "--plan", *named, *words]) == 2
    told = capsys.readouterr().err.strip()
    assert message in told and told.count("\n") == 0


def test_generate_follows_the_options(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--memory", "minimal", "--quantize", "fp8", "--dtype", "bfloat16", "--scheduler", "unipc", "--steps", "1")
    assert main(["generate", *given, *words, "--compile", "on", "--device", "cpu"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "so --compile on has no effect on cpu" in told
    assert "Memory plan minimal (all parts stay on the device; passes one after another; VAE in tiles)." in told
    assert probe_video(tmp_path / "out.mp4").frames == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--profile", "turbo"), "needs a LoRA that was distilled for it"),
        (("--lora", "file.safetensors=strong"), "--lora takes FILE or FILE=WEIGHT"),
        (("--lora", "nowhere.safetensors"), "There is no LoRA file 'nowhere.safetensors'"),
        (("--offload", "model"), "on cpu all parts compute where they wait"),
        (("--attention", "quick"), "There is no attention back-end 'quick'"),
    ],
)
def test_a_choice_that_cannot_be_followed_is_one_sentence(
    given: list[str], tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", *given, "--device", "cpu", *words]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out.mp4").exists()


def test_a_lora_that_is_not_there_is_told_before_the_model_is_loaded(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", *given, "--device", "cpu", "--lora", "nowhere.safetensors"]) == 2
    shown = capsys.readouterr().err
    assert "There is no LoRA file 'nowhere.safetensors'" in shown and "loading" not in shown


@pytest.mark.slow
def test_after_too_little_memory_it_goes_on_one_plan_lower_and_says_so(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def small_memory(*_: Any) -> Any:
        """Memory for tiles, which are decoded otherwise, and not for a frame."""
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("fantasytalking.autoencoder.wan_autoencoder.decode_in_turn", small_memory)
    words = ("--longest-side", "384", "--max-seconds", "0.2", "--steps", "1", "--json")
    assert main(["generate", *given, *words]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert sum("ran out of memory; once more by the plan high (" in note for note in facts["notes"]) == 1
    assert probe_video(tmp_path / "out.mp4").width == 384


def test_where_no_plan_is_lower_the_error_says_what_else_helps(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AutoencoderKLWan, "decode", full)
    assert main(["generate", *given, "--memory", "minimal", "--steps", "1"]) == 2
    assert "does not fit into the memory of the device; its weights alone take" in capsys.readouterr().err


def test_sizes_are_those_of_the_files(model: Path) -> None:
    from fantasytalking.acceleration.part_sizes import read_sizes, sizes_of_modules

    pipeline = wan_pipeline()
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    read, built = read_sizes(model), sizes_of_modules(parts)
    assert read.parts.keys() == built.parts.keys() and read.canvas is None and read.width == 24
    for name, part in read.parts.items():
        assert part.parameters == built.parts[name].parameters, name
        assert part.largest_layer == built.parts[name].largest_layer
    one = read.transformer
    assert (one.blocks, one.block_parameters) == (2, built.transformer.block_parameters)
    assert one.bytes_in(torch.bfloat16, quantised=True) < one.bytes_in(torch.bfloat16) < one.bytes_in(torch.float32)
    assert one.mapped_in(torch.float32) and not one.mapped_in(torch.bfloat16)
    file = next((model / "transformer").glob("*.safetensors"))
    stored = load_file(file)
    assert one.parameters == sum(t.numel() for t in stored.values())
    save_file(stored, file)
