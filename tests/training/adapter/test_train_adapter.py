"""Training the adapter on a frozen backbone: the right things train, by the right formula, and runs go on where they stopped."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from fantasytalking.checkpoints import load_transformer
from fantasytalking.checkpoints.adapter_layouts import part_of
from fantasytalking.cli.__main__ import main
from fantasytalking.data.latent_dataset import LatentDataset, Window
from fantasytalking.data.prepared_set import PreparedSet
from fantasytalking.errors import CheckpointError, InputError, OutputError, SettingsError
from fantasytalking.training.adapter.adapter_recipes import ADAPTER_14B, ADAPTER_TINY, LORA_TINY, AdapterRecipe
from fantasytalking.training.adapter.export_run import export_run
from fantasytalking.training.adapter.train_adapter import (
    adapter_source,
    adapter_trainer,
    build_model,
    check_model,
    train_adapter,
)
from fantasytalking.training.lora import LoraSettings
from fantasytalking.training.trainer.config import StageSchedule
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.stages import ETA
from tests.acceleration.parallel_runs import in_processes
from tests.cli.test_train import follow
from tests.pipeline.tiny_pipeline import transformer, wan_pipeline
from tests.training.latent_set import made_up, write_set
from tests.training.plain_wan import adamw_step, clip_factor, plain_velocity

RATE = 1e-4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder with audio, without identity and motion: like the released model."""
    folder = tmp_path_factory.mktemp("base") / "pipeline"
    wan_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = {f"square{i}": made_up(13, seed=i) for i in range(3)} | {
        f"tall{i}": made_up(9, 64, 48, seed=i) for i in range(2)
    }
    return write_set(tmp_path_factory.mktemp("data") / "set", wan_pipeline(), clips)


def short(recipe: AdapterRecipe = ADAPTER_TINY, clip: int = 0, frame: int = 1, rate: float = RATE) -> AdapterRecipe:
    counts: dict[Literal["clip", "frame"], int] = {"clip": clip, "frame": frame}
    stages = tuple(StageSchedule(name, n, rate, warmup=1, final_fraction=1.0) for name, n in counts.items() if n)
    return replace(recipe, train=replace(recipe.train, stages=stages, tensorboard=False, log_every=1))


def values(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.engine.bare_model.named_parameters()}


@pytest.mark.parametrize("stage", ["clip", "frame"])
def test_one_step_equals_a_step_written_out(base: Path, data: Path, tmp_path: Path, stage: str) -> None:
    recipe = short(clip=int(stage == "clip"), frame=int(stage == "frame"))
    # whatever the seed, both losses of stage 2 shall occur: with these draws one sample has p above eta and one below
    recipe = replace(recipe, train=replace(recipe.train, seed=_seed_of_both_losses(recipe)))
    trainer = adapter_trainer(recipe, data, tmp_path / "run", base)
    before = values(trainer)
    names = list(trainer.engine.trainable())
    prepared = trainer.prepare(0)
    batch, draws = prepared.samples, prepared.draws
    weights = {name: value.clone().requires_grad_(name in names) for name, value in before.items()}

    s = draws.sigma.view(-1, 1, 1, 1, 1)
    noise = draws.noise(batch.latents.shape[1:])
    noisy = (1 - s) * batch.latents + s * noise
    velocity = plain_velocity(
        trainer.engine.bare_model, weights, torch.cat([noisy, batch.condition], 1), draws.sigma, batch.conditions
    )
    error = (velocity - (noise - batch.latents)) ** 2
    mask = batch.lip_mask
    lips = (mask * error).sum((1, 2, 3, 4)) / (mask.sum((1, 2, 3, 4)) * error.shape[1])
    whole = error.mean((1, 2, 3, 4))
    assert len(whole) == 2 and {bool(p > ETA) for p in draws.lips} == {True, False}
    loss = (torch.where(draws.lips > ETA, lips, whole) if stage == "frame" else whole).mean()
    gradients = torch.autograd.grad(loss, [weights[name] for name in names], allow_unused=True)
    shrink = clip_factor(gradients, recipe.train.clip_norm)
    assert trainer.train() == 1

    after = values(trainer)
    record = json.loads((tmp_path / "run" / "transformer" / "log.jsonl").read_text().splitlines()[0])
    assert record["loss"] == pytest.approx(loss.item(), abs=1e-6)
    wanted = {name: before[name] for name in names}
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is not None:
            decay = recipe.train.weight_decay if before[name].ndim > 1 else 0.0
            wanted[name] = adamw_step(before[name], gradient * shrink, RATE, decay)
    torch.testing.assert_close({name: after[name] for name in names}, wanted, rtol=0, atol=1e-6)
    moved = [name for name in names if not torch.equal(after[name], before[name])]
    assert {part_of(name) for name in moved} == {"audio", "identity", "motion"}


def _seed_of_both_losses(recipe: AdapterRecipe) -> int:
    from fantasytalking.training.trainer.random_draws import StepDraws

    def both(seed: int) -> bool:
        lips = StepDraws.draw(seed, 0, 2, 5.0, recipe.train.dropout)
        return {bool(p > ETA) for p in lips.lips} == {True, False} and bool(lips.kept.all())

    return next(seed for seed in range(1000) if both(seed))


def test_only_the_adapter_trains_and_all_of_it(base: Path, data: Path, tmp_path: Path) -> None:
    trainer = adapter_trainer(short(clip=1, frame=2, rate=1e-2), data, tmp_path, base)
    before = values(trainer)
    assert trainer.train() == 3
    after = values(trainer)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    adapter = {name for name in after if part_of(name) is not None}
    assert {part_of(name) for name in adapter} == {"audio", "identity", "motion"}
    assert moved == adapter


def test_missing_parts_start_without_effect_and_at_the_widths_of_the_data(data: Path, tmp_path: Path) -> None:
    plain = transformer(audio_feature_dim=768, audio_dim=None)
    plain.save_pretrained(tmp_path / "wan")
    model = build_model(tmp_path / "wan", ADAPTER_TINY, PreparedSet.open(data)).eval()
    assert (model.config.audio_feature_dim, model.config.audio_dim, model.config.identity_feature_dim) == (16, 20, 192)
    assert model.config.motion and model.config.identity_layers == 1
    dataset = LatentDataset(PreparedSet.open(data))
    sample = dataset.draw(dataset_key(dataset), np.random.default_rng(0))
    from fantasytalking.data.samples import collate

    batch = collate([sample], "frame", 0.5, torch.ones(1, 3))
    inputs = torch.cat([batch.latents, batch.condition], 1)
    with torch.no_grad():
        ours = model(inputs, torch.tensor([500.0]), batch.conditions).sample
        bare = replace(batch.conditions, audio=None, identity=None, motion=None)
        theirs = plain(inputs, torch.tensor([500.0]), bare).sample
    assert torch.equal(ours, theirs)


def dataset_key(dataset: LatentDataset) -> Window:
    return adapter_source(ADAPTER_TINY, dataset).plan(0)[0]


def test_a_batch_has_one_size_and_an_epoch_shows_every_clip(data: Path) -> None:
    dataset = LatentDataset(PreparedSet.open(data))
    recipe = replace(ADAPTER_TINY, train=replace(ADAPTER_TINY.train, frames=(9, 5)))
    source, again = adapter_source(recipe, dataset), adapter_source(recipe, dataset)
    assert recipe.batch == 2 and source.order.batches == 2
    plans = [source.plan(step) for step in range(40)]
    assert [again.plan(step) for step in reversed(range(40))] == plans[::-1]
    assert {window.frames for plan in plans for window in plan} == {2, 3}
    for plan in plans:
        assert len(plan) == 2 and len({(dataset.sizes[w.clip], w.frames) for w in plan}) == 1
    # a batch of three squares is one full batch and one that waits
    assert {w.clip for plan in plans for w in plan} == {0, 1, 2, 3, 4}
    alone = adapter_source(replace(recipe, train=replace(recipe.train, batch_tokens=300)), dataset)
    assert sorted(len(alone.plan(step)) for step in range(2)) == [2, 3]


def test_a_run_in_two_parts_equals_a_run_in_one(base: Path, data: Path, tmp_path: Path) -> None:
    recipe = short(LORA_TINY, 1, 3, 1e-3)
    one = adapter_trainer(recipe, data, tmp_path / "one", base)
    assert one.train() == 4
    assert adapter_trainer(recipe, data, tmp_path / "two", base).train(until=2) == 2
    two = adapter_trainer(recipe, data, tmp_path / "two", base)
    assert two.step == 2 and two.train() == 4
    a, b = values(one), values(two)
    assert not [name for name in a if not torch.equal(a[name], b[name])]
    lora = [name for name in one.engine.trainable() if ".lora_" in name]
    assert len(lora) == 2 * 2 * (2 * 4 + 2 + 2)  # down and up, 2 blocks, 4 of each attention, image, ffn
    assert all(bool(a[name].any()) for name in lora)


def test_bf16_keeps_what_trains_in_float32_and_the_backbone_in_bf16(base: Path, data: Path, tmp_path: Path) -> None:
    recipe = short(LORA_TINY)
    trainer = adapter_trainer(
        replace(recipe, train=replace(recipe.train, mixed_precision="bf16")), data, tmp_path, base
    )
    kinds: dict[torch.dtype, set[str]] = {}
    for name, p in trainer.engine.bare_model.named_parameters():
        kind = "trained" if p.requires_grad else "table" if "scale_shift" in name else name.split(".")[-2]
        kinds.setdefault(p.dtype, set()).add(kind)
    assert "trained" in kinds[torch.float32] and "base_layer" in kinds[torch.bfloat16]
    assert "trained" not in kinds[torch.bfloat16] and "linear_1" in kinds[torch.float32]
    assert trainer.train() == 1


def test_the_recipe_of_the_paper_has_the_papers_numbers() -> None:
    train = ADAPTER_14B.train
    assert [(s.stage, s.steps, s.learning_rate) for s in train.stages] == [
        ("clip", 80_000, 1e-4),
        ("frame", 20_000, 1e-4),
    ]
    assert ADAPTER_14B.batch == 64 and max(train.frames) == 81
    assert (train.dropout.reference, train.dropout.audio, train.dropout.text) == (0.1, 0.1, 0.1)
    assert (train.identity_scale, ETA, train.shift) == (0.5, 0.2, 5.0)
    assert train.mixed_precision == "bf16" and train.gradient_checkpointing and train.fsdp


def test_a_set_for_another_model_and_another_base_are_refused(base: Path, data: Path, tmp_path: Path) -> None:
    transformer(text_dim=24).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="text embeddings of width 16, but the base model wants 24"):
        adapter_trainer(short(), data, tmp_path / "run", tmp_path / "other")
    adapter_trainer(short(), data, tmp_path / "run", base)
    changed = load_transformer(base, torch.float32)
    changed.proj_out.weight.data.add_(1)
    changed.save_pretrained(tmp_path / "changed")
    with pytest.raises(SettingsError, match=r"begun with another base .*; give the same base and recipe to go on, or"):
        adapter_trainer(short(), data, tmp_path / "run", tmp_path / "changed")
    adapter_trainer(short(), data, tmp_path / "run", base)
    adapter_trainer(short(), data, tmp_path / "other-run", tmp_path / "changed")
    with pytest.raises(CheckpointError, match="nothing-here"):
        adapter_trainer(short(), data, tmp_path / "new", tmp_path / "nothing-here")


def test_a_finished_run_leaves_its_adapter(base: Path, data: Path, tmp_path: Path) -> None:
    made = train_adapter(short(LORA_TINY, rate=1e-2), data, tmp_path, base)
    assert (
        made == tmp_path / "adapter.safetensors" and (tmp_path / "lora" / "pytorch_lora_weights.safetensors").is_file()
    )
    made_of = {"adapter.json", "adapter.safetensors", "lora", "phases.jsonl", "transformer", "verified.json"}
    assert {path.name for path in tmp_path.iterdir()} == made_of
    model = load_transformer(base, torch.float32, adapter=made)
    assert model.config.motion and model.config.identity_dim == 16


def test_a_damaged_description_is_written_again_by_the_command_that_trained_the_run(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, the command ended with the very sentence that names it as the remedy."""
    recipe = short(ADAPTER_TINY)
    made = train_adapter(recipe, data, tmp_path / "run", base)
    before = made.read_bytes()
    description = tmp_path / "run" / "adapter.json"
    text = description.read_text()
    description.write_text(text[: len(text) // 2])
    with pytest.raises(CheckpointError, match="is damaged; give the command that trained the run again"):
        export_run(tmp_path / "run", tmp_path / "out.safetensors", "model")
    train_adapter(recipe, data, tmp_path / "run", base)
    assert f"note: {description} is damaged and is written again" in capsys.readouterr().err
    assert description.read_text() == text and made.read_bytes() == before
    assert export_run(tmp_path / "run", tmp_path / "out.safetensors", "model").path.is_file()


def command_of(rank: int, count: int, words: list[str]) -> tuple[int, str]:
    """Exit status and output of a command in one of several processes."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        return main(words), out.getvalue()


def test_two_processes_with_sharded_weights_of_two_types_equal_one(base: Path, data: Path, tmp_path: Path) -> None:
    recipe = replace(LORA_TINY, train=replace(LORA_TINY.train, mixed_precision="bf16", tensorboard=False)).scaled_to(2)
    recipe = replace(recipe, train=replace(recipe.train, log_every=1))
    adapter_trainer(recipe, data, tmp_path / "one", base).train()
    words = ["train", "lora-tiny", "--data", str(data), "--output", str(tmp_path / "two"), "--base", str(base)]
    words += ["--steps", "2", "--train.fsdp", "--train.mixed-precision", "bf16", "--train.log-every", "1"]
    # as torchrun starts them, which tests/training/test_processes.py does itself
    first, second = in_processes(2, command_of, words)
    assert (first[0], second) == (0, (0, ""))
    assert first[1].splitlines()[-1] == str(tmp_path / "two" / "adapter.safetensors")
    one, two = (
        [json.loads(line)["loss"] for line in (tmp_path / run / "transformer" / "log.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    )
    # where weights are sharded, norms and time embedding are gathered in bf16 too
    assert len(one) == 2 and two == pytest.approx(one, abs=3e-3)
    load_transformer(base, torch.float32, adapter=tmp_path / "two" / "adapter.safetensors")


def test_what_cannot_be_trained_is_told_before_weights_are_read(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = replace(LORA_TINY, lora=LoraSettings(rank=4, targets=("nothing",)))
    with pytest.raises(SettingsError, match="no layer whose name ends in one of nothing"):
        train_adapter(wrong, data, tmp_path / "run", base)
    with pytest.raises(OutputError, match="which --base names, lie in each other"):
        train_adapter(LORA_TINY, data, base / "run", base)
    with pytest.raises(OutputError, match="lies in the data folder"):
        train_adapter(LORA_TINY, data, data / "run", base)
    assert not any(tmp_path.iterdir()) and not (data / "run").exists()
    capsys.readouterr()
    long = replace(ADAPTER_TINY, train=replace(ADAPTER_TINY.train, frames=(17,)))
    check_model(base, long, PreparedSet.open(data))
    assert "have 9 frames, so longer ones (train.frames) are cut to that" in capsys.readouterr().err


def test_the_advice_after_divergence_trains_the_adapter_on(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["lora-tiny", "--data", str(data), "--base", str(base), "--output", str(tmp_path / "run")]
    words += [
        "--train.checkpoint-minutes",
        "0",
        "--train.stages.1.learning-rate",
        "1e30",
        "--train.stages.1.warmup",
        "0",
    ]
    assert main(["train", *words]) == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert "diverged after step 5" in sentence and "step-4, is from before" in sentence
    assert main(["train", *follow(words, sentence)]) == 0
    assert (tmp_path / "run" / "adapter.safetensors").is_file()
