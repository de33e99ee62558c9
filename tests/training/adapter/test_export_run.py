"""A trained run in every layout: what is loaded back by the library's own loaders computes what was trained."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from examples.tiny_base import main as tiny_base
from fantasytalking.checkpoints import load_adapter, load_transformer
from fantasytalking.checkpoints.detect_layout import detect_layout
from fantasytalking.cli.__main__ import main as command
from fantasytalking.data.latent_dataset import LatentDataset
from fantasytalking.data.samples import Batch, collate
from fantasytalking.errors import CheckpointError, OutputError, SettingsError
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.training.adapter.adapter_recipes import ADAPTER_TINY, LORA_TINY
from fantasytalking.training.adapter.export_run import export_run
from fantasytalking.training.adapter.train_adapter import adapter_trainer
from fantasytalking.training.trainer.config import StageSchedule
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.pipeline.tiny_pipeline import portrait, speech, wan_pipeline
from tests.test_docs import blocks
from tests.training.latent_set import made_up, write_set

FULL = torch.float32


@dataclass
class Trained:
    """Two runs on one base and what their averaged models compute."""

    base: Path
    data: Path
    adapter: Path
    lora: Path
    batch: Batch
    velocity: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    pipeline = wan_pipeline()
    pipeline.save_pretrained(folder / "base")
    data = write_set(folder / "set", pipeline, {"a": made_up(9, seed=1), "b": made_up(9, seed=2)})
    velocity = {}
    for name, recipe in (("adapter", ADAPTER_TINY), ("lora", LORA_TINY)):
        stages = (StageSchedule("frame", 3, 1e-2, warmup=1),)
        recipe = replace(recipe, train=replace(recipe.train, stages=stages, tensorboard=False))
        trainer = adapter_trainer(recipe, data, folder / name, folder / "base")
        dataset = trainer.source.dataset  # type: ignore[attr-defined]
        batch = batch_of(dataset)
        trainer.train()
        velocity[name] = run_model(trainer.averaged(), batch)
    assert not torch.allclose(velocity["adapter"], velocity["lora"], rtol=1e-3, atol=1e-3)
    return Trained(folder / "base", data, folder / "adapter", folder / "lora", batch, velocity)


def batch_of(dataset: LatentDataset) -> Batch:
    from fantasytalking.data.latent_dataset import Window

    sample = dataset.draw(Window(0, 3), np.random.default_rng(0))
    return collate([sample], "frame", 0.5, torch.ones(1, 3))


@torch.no_grad()
def run_model(model: FantasyTalkingTransformer3DModel, batch: Batch, audio_only: bool = False) -> torch.Tensor:
    told = replace(batch.conditions, identity=None, motion=None) if audio_only else batch.conditions
    return model(torch.cat([batch.latents, batch.condition], 1), torch.tensor([400.0]), told).sample


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=2e-6 * float(b.abs().max()))


@pytest.mark.parametrize("name", ["adapter", "lora"])
def test_the_pipeline_folder_computes_what_was_trained_and_generates(
    trained: Trained, tmp_path: Path, name: str
) -> None:
    run = getattr(trained, name)
    made = export_run(run, tmp_path / "model", "pipeline", dtype=FULL, max_shard_bytes=40_000)
    assert made.notes == () and len(list((made.path / "transformer").glob("*.safetensors"))) > 2
    pipeline = FantasyTalkingPipeline.from_pretrained(made.path)
    same(run_model(pipeline.transformer, trained.batch), trained.velocity[name])
    percentiles = json.loads((made.path / "motion_percentiles.json").read_text())
    assert percentiles == json.loads((trained.data / "manifest.json").read_text())["percentiles"]
    video = pipeline(portrait(96), speech(0.3), steps=1, identity_scale=0.0)
    assert video.frames.shape[1:] == (64, 64, 3)


def test_the_transformer_alone_is_a_folder_of_diffusers(trained: Trained, tmp_path: Path) -> None:
    made = export_run(trained.lora, tmp_path / "transformer", "transformer", dtype=FULL)
    assert detect_layout(made.path) == "fantasytalking"
    same(
        run_model(FantasyTalkingTransformer3DModel.from_pretrained(made.path), trained.batch), trained.velocity["lora"]
    )


def test_the_model_layout_has_every_trained_part(trained: Trained, tmp_path: Path) -> None:
    made = export_run(trained.adapter, tmp_path / "adapter.safetensors", "model", dtype=FULL)
    assert made.notes == () and detect_layout(made.path) == "adapter-model"
    model = load_transformer(trained.base, FULL, adapter=made.path)
    same(run_model(model, trained.batch), trained.velocity["adapter"])


@pytest.mark.parametrize("layout", ["released", "safetensors", "comfyui"])
def test_published_layouts_hold_the_audio_part_and_say_what_is_left_out(
    trained: Trained, tmp_path: Path, layout: str
) -> None:
    file = tmp_path / ("adapter.ckpt" if layout == "released" else "adapter.safetensors")
    made = export_run(trained.adapter, file, layout, dtype=FULL)  # type: ignore[arg-type]
    assert detect_layout(file) == f"adapter-{layout}"
    assert len(made.notes) == 1 and "identity, motion are left out" in made.notes[0]
    whole = export_run(trained.adapter, tmp_path / "whole.safetensors", "model", dtype=FULL).path
    expected = run_model(load_transformer(trained.base, FULL, adapter=whole), trained.batch, audio_only=True)
    loaded = load_transformer(trained.base, FULL)
    load_adapter(loaded, file)
    same(run_model(loaded, trained.batch, audio_only=True), expected)
    if layout == "released":
        content = torch.load(file, weights_only=True)
        assert content.keys() == {"proj_model", "audio_processor"}
        names = {"k_proj", "v_proj"}
        assert content["audio_processor"].keys() == {
            f"blocks.{n}.cross_attn.processor.{name}.weight" for n in range(2) for name in names
        }


def test_lora_is_loaded_by_the_pipeline_beside_the_adapter(trained: Trained, tmp_path: Path) -> None:
    folder = export_run(trained.lora, tmp_path / "lora", "lora", dtype=FULL).path
    adapter = export_run(trained.lora, tmp_path / "adapter.safetensors", "model", dtype=FULL)
    assert "--layout lora" in adapter.notes[0]
    pipeline = FantasyTalkingPipeline.from_pretrained(
        trained.base, transformer=load_transformer(trained.base, FULL, adapter=adapter.path)
    )
    without = run_model(pipeline.transformer, trained.batch)
    pipeline.load_lora_weights(folder)
    same(run_model(pipeline.transformer, trained.batch), trained.velocity["lora"])
    assert not torch.allclose(without, trained.velocity["lora"], rtol=1e-3, atol=1e-3)


def test_wans_own_layout_holds_the_backbone_with_lora_merged(trained: Trained, tmp_path: Path) -> None:
    made = export_run(trained.lora, tmp_path / "wan", "wan-original", dtype=FULL)
    assert detect_layout(made.path) == "wan-original" and "--layout model" in made.notes[0]
    adapter = export_run(trained.lora, tmp_path / "adapter.safetensors", "model", dtype=FULL).path
    heads = {"num_attention_heads": 2}
    model = load_transformer(made.path, FULL, adapter=adapter, config=heads)
    same(run_model(model, trained.batch), trained.velocity["lora"])
    with pytest.raises(SettingsError, match=r"trained no LoRA.*Wan's own"):
        export_run(trained.adapter, tmp_path / "none", "wan-original")
    with pytest.raises(
        SettingsError, match="trained no LoRA; its adapter is exported with --layout model, released, safe"
    ):
        export_run(trained.adapter, tmp_path / "none", "lora")
    assert not (tmp_path / "none").exists() and not list(tmp_path.glob(".*"))


def test_half_precision_keeps_norms_and_the_time_embedding_whole(trained: Trained, tmp_path: Path) -> None:
    weights = load_file(
        export_run(trained.adapter, tmp_path / "t", "transformer").path / "diffusion_pytorch_model.safetensors"
    )
    assert weights["blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16
    assert weights["blocks.0.attn2.processor.audio_v_proj.weight"].dtype == torch.bfloat16
    assert weights["condition_embedder.time_embedder.linear_1.weight"].dtype == torch.float32


def test_a_base_that_is_a_transformer_alone_takes_the_other_parts_from_a_pipeline(
    trained: Trained, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    description = json.loads((trained.adapter / "adapter.json").read_text())
    (run / "adapter.json").write_text(json.dumps(description | {"base": str(trained.base / "transformer")}))
    (run / "transformer").symlink_to(trained.adapter / "transformer")
    with pytest.raises(CheckpointError, match=r"no pipeline folder.*--pipeline"):
        export_run(run, tmp_path / "model", "pipeline")
    made = export_run(run, tmp_path / "model", "pipeline", pipeline=trained.base, dtype=FULL)
    pipeline = FantasyTalkingPipeline.from_pretrained(made.path)
    same(run_model(pipeline.transformer, trained.batch), trained.velocity["adapter"])


def test_another_base_a_taken_name_and_no_run_are_refused(trained: Trained, tmp_path: Path) -> None:
    other = copy.deepcopy(wan_pipeline().transformer)
    other.proj_out.weight.data.add_(1)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="is not the model that"):
        export_run(trained.adapter, tmp_path / "t", "transformer", base=tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"not there any more.*--base"):
        export_run(trained.adapter, tmp_path / "t", "transformer", base=tmp_path / "gone")
    (tmp_path / "elsewhere").symlink_to(trained.base)
    words = ["export", str(trained.adapter), str(tmp_path / "moved"), "--layout", "transformer"]
    assert command([*words, "--base", str(tmp_path / "elsewhere")]) == 0
    with pytest.raises(OutputError, match="exists already"):
        export_run(trained.adapter, tmp_path / "other", "transformer")
    with pytest.raises(CheckpointError, match="holds no finished run; give the --output folder"):
        export_run(tmp_path, tmp_path / "t", "pipeline")


def test_a_run_of_the_embedded_model_has_its_folder_exported(tmp_path: Path) -> None:
    from fantasytalking.pipeline.model_names import embedded_folder

    run = tmp_path / "run"
    run.mkdir()
    (run / "model").symlink_to(embedded_folder())
    made = export_run(run, tmp_path / "model", "pipeline")
    FantasyTalkingPipeline.from_pretrained(made.path)
    with pytest.raises(SettingsError, match=r"trained whole.*no released layout; .* --layout pipeline or transformer"):
        export_run(run, tmp_path / "a.ckpt", "released")
    export_run(run, tmp_path / "transformer", "transformer")
    with pytest.raises(OutputError, match=r"exists already; give another name, or --overwrite"):
        export_run(run, tmp_path / "transformer", "transformer")
    export_run(run, tmp_path / "transformer", "transformer", overwrite=True)


def test_the_command_prints_the_path_and_the_note(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "fantasytalking_model.ckpt"
    words = ["export", str(trained.adapter), str(target), "--layout", "released"]
    assert command(words) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == str(target) and "note: The layout released" in captured.err
    assert command(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert command([*words, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layout"] == "released"


@pytest.mark.slow
def test_the_commands_of_the_page_train_and_export(
    talking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "tests/training/adapter/test_export_run.py::test_the_commands_of_the_page_train_and_export"
    (block,) = [block for block in blocks("bash") if block.tested_by == own]
    (tmp_path / "videos").symlink_to(talking)
    monkeypatch.chdir(tmp_path)
    for words in block.commands():
        if words[0] == "python":
            assert tiny_base(words[2:]) == 0
        else:
            # without Ray, and with fewer looks
            quick = ["--workers", "0", "--sync", "off", "--body-every", "1"] if words[1] == "prepare" else []
            assert command([*words[1:], *quick]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "tiny-lora"
    pipeline = FantasyTalkingPipeline.from_pretrained("tiny-lora")
    assert pipeline.transformer.config.motion and pipeline.transformer.config.identity_feature_dim == 192
