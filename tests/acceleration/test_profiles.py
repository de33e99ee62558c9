"""Profiles: what they change for which model, how far from the plain video, and the schedule of a few-step LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchLCMScheduler
from PIL import Image
from safetensors.torch import save_file

from fantasytalking.acceleration.few_step_lora import few_step_schedule
from fantasytalking.acceleration.profiles import PROFILES, resolve_profile
from fantasytalking.cli.__main__ import main
from fantasytalking.errors import SettingsError
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.settings import GenerationSettings
from tests.acceleration.cached_runs import apart, counted, latents
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, transformer, wan_pipeline

USUAL = GenerationSettings().to_dict()
DISTILLED = {**USUAL, "steps": 4, "prompt_guidance_scale": 1.0, "audio_guidance_scale": 1.0}
LIGHTX2V = "wan2.1_i2v_lora_rank64_lightx2v_4step.safetensors"


@pytest.fixture(scope="module")
def pipeline() -> FantasyTalkingPipeline:
    return wan_pipeline(transformer=transformer(num_layers=4))


@pytest.mark.parametrize(("name", "work", "bound"), [("exact", 1.0, 1e-6), ("balanced", 0.5, 0.1)])
def test_a_profile_spares_work_and_changes_little(
    pipeline: FantasyTalkingPipeline, name: str, work: float, bound: float
) -> None:
    made, rows = {}, {}
    for one in ("exact", name):
        for batching in ("on", "off"):
            settings = {"steps": 12, "audio_guidance_scale": 2.5, "batch_passes": batching}
            with counted(pipeline) as count:
                made[one, batching] = latents(pipeline, **settings, **resolve_profile(one, USUAL).settings)
            rows[one, batching] = count()
    assert rows[name, "on"] == rows[name, "off"] <= work * rows["exact", "on"]
    assert apart(made[name, "on"], made["exact", "on"]) < bound
    assert apart(made[name, "off"], made[name, "on"]) < 1e-5


def test_what_is_given_wins_over_a_profile_and_few_steps_are_all_computed() -> None:
    assert resolve_profile("balanced", USUAL, {"cache": "none"}).settings == {}
    for usual, given in ((DISTILLED, {}), (USUAL, {"steps": 4})):
        few = resolve_profile("balanced", usual, given)
        assert few.settings == {} and few.notes == (
            "So few steps leave nothing to skip, so --profile balanced computes all of them.",
        )
    assert resolve_profile("exact", DISTILLED).notes == ()
    with pytest.raises(SettingsError, match=r"no profile 'fats'; did you mean 'fast'"):
        resolve_profile("fats", USUAL)
    assert resolve_profile("fast", USUAL).settings == resolve_profile("balanced", USUAL).settings
    assert [name for name, profile in PROFILES.items() if profile.compile] == ["fast", "turbo"]


@pytest.mark.parametrize(
    ("file", "steps", "shift", "scheduler"),
    [
        (LIGHTX2V, 4, 5.0, "lcm"),
        ("lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors", 4, 5.0, "lcm"),
        ("wan21-lightx2v-i2v-14b-480p-cfg-step-distill-rank8-bf16.safetensors", 4, 5.0, "lcm"),
        ("Wan_8-step_lora.safetensors", 8, None, None),
        ("2_steps.safetensors", 2, None, None),
    ],
)
def test_the_name_of_a_file_tells_its_schedule(
    file: str, steps: int, shift: float | None, scheduler: str | None, tmp_path: Path
) -> None:
    found = few_step_schedule(tmp_path / file)
    assert found is not None and found.scheduler == scheduler
    assert (found.settings["steps"], found.settings.get("sigma_shift")) == (steps, shift)
    assert found.settings["audio_guidance_scale"] == found.settings["prompt_guidance_scale"] == 1


@pytest.mark.parametrize("file", ["pytorch_lora_weights", "style_v1024", "footstepsounds", "stepwise"])
def test_other_names_tell_none(file: str, tmp_path: Path) -> None:
    assert few_step_schedule(tmp_path / f"{file}.safetensors") is None


def test_settings_beside_the_weights_come_first_and_damaged_ones_are_told(tmp_path: Path) -> None:
    beside = tmp_path / "defaults.json"
    beside.write_text('{"steps": 6, "sigma_shift": 3.0, "audio_guidance_scale": 2.0, "seed": 7}')
    found = few_step_schedule(tmp_path / LIGHTX2V)
    assert found is not None and found.describe() == "6 steps, shift 3" and found.scheduler is None
    assert "seed" not in found.settings
    beside.write_text("{}")
    with pytest.raises(SettingsError, match=r"defaults\.json' should say how .* names no whole number of steps"):
        few_step_schedule(tmp_path / LIGHTX2V)


def test_turbo_says_what_it_follows(tmp_path: Path) -> None:
    plain, named = tmp_path / "plain.safetensors", tmp_path / LIGHTX2V
    with pytest.raises(SettingsError, match="needs a LoRA that was distilled for it; give one with --lora FILE"):
        resolve_profile("turbo", USUAL)
    (note,) = resolve_profile("turbo", USUAL, {"steps": 6}, (plain, named)).notes
    assert note == (
        f"The LoRA '{LIGHTX2V}' is sampled in 4 steps without guidance, shift 5, scheduler lcm, as its name says, but for steps, which "
        "you gave."
    )
    (note,) = resolve_profile("turbo", USUAL, {}, (plain,)).notes
    assert note.startswith("Neither the folder nor the name of 'plain.safetensors' says how it is sampled: 4 steps")
    distilled = resolve_profile("turbo", DISTILLED)
    assert distilled.settings == {} and distilled.notes == (
        "This model is distilled itself, so --profile turbo is its default: 4 steps without guidance.",
    )
    (note,) = resolve_profile("exact", USUAL, {}, (named,)).notes
    assert note.endswith("as its name says; --profile turbo follows that.")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in LightX2V's layout: Wan's own names with down, up and alpha."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    for block in range(2):
        for part in ("self_attn.q", "self_attn.v", "cross_attn.o"):
            name = f"diffusion_model.blocks.{block}.{part}"
            weights[f"{name}.lora_down.weight"] = torch.randn(2, 24, generator=generator)
            weights[f"{name}.lora_up.weight"] = torch.randn(24, 2, generator=generator)
            weights[f"{name}.alpha"] = torch.tensor(2.0)
    file = tmp_path_factory.mktemp("lora") / LIGHTX2V
    save_file(weights, file)
    return file


def generated(folder: Path, capsys: pytest.CaptureFixture[str], model: Path, *words: str) -> dict[str, Any]:
    Image.fromarray(portrait()).save(folder / "face.png")
    write_video(folder / "voice.mp4", [portrait(64)] * 10, 25, speech(0.4), overwrite=True)
    given = {"image": "face.png", "audio": "voice.mp4", "output": "out.mp4"}
    files = [word for name, file in given.items() for word in (f"--{name}", str(folder / file))]
    assert main(["generate", "--model", str(model), *files, "--json", "--overwrite", "--device", "cpu", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_turbo_follows_a_file_of_lightx2v(lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    wan_pipeline(defaults={"steps": 12, "sigma_shift": 3.0}).save_pretrained(tmp_path / "model")
    words = ("--profile", "turbo", "--lora", str(lora))
    facts = generated(tmp_path, capsys, tmp_path / "model", *words)
    settings = facts["settings"]
    assert (settings["steps"], settings["sigma_shift"], settings["prompt_guidance_scale"]) == (4, 5.0, 1.0)
    assert any("4 steps without guidance, shift 5, scheduler lcm, as its name says." in note for note in facts["notes"])
    given = generated(tmp_path, capsys, tmp_path / "model", *words, "--steps", "2", "--sigma-shift", "4")["settings"]
    assert (given["steps"], given["sigma_shift"], given["audio_guidance_scale"]) == (2, 4.0, 1.0)
    for profile, steps, passes, cache in (("balanced", 12, 24, "taylorseer"), ("turbo", 4, 4, "none")):
        assert main(["info", "--plan", "--model", str(tmp_path / "model"), "--profile", profile, "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert (plan["steps"], plan["passes"], plan["cache"]) == (steps, passes, cache)


def test_the_file_of_lightx2v_acts_under_its_scheduler(lora: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    plain = latents(wan_pipeline(scheduler=FlowMatchLCMScheduler()), steps=4)
    added = wan_pipeline(scheduler=FlowMatchLCMScheduler())
    added.load_lora_weights(str(lora.parent), weight_name=lora.name)
    assert apart(latents(added, steps=4), plain) > 0.01


def test_turbo_on_a_distilled_model_is_its_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    defaults = {"steps": 3, "prompt_guidance_scale": 1.0, "audio_guidance_scale": 1.0}
    embedded_pipeline(defaults=defaults).save_pretrained(tmp_path / "model")
    facts = generated(tmp_path, capsys, tmp_path / "model", "--profile", "turbo")
    assert facts["settings"]["steps"] == 3
    assert any("is distilled itself, so --profile turbo is its default: 3 steps" in note for note in facts["notes"])
