"""Several processes, parts and precisions: the same run in every case."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fantasytalking.errors import SettingsError
from fantasytalking.training.trainer.batches import shares
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.run_folder import RunFolder
from fantasytalking.training.trainer.stored_checkpoint import Stored, load_ema
from tests.training.tiny_run import CONFIG, new_model, trainer

ROOT = Path(__file__).resolve().parents[2]
START = 9
"""Seed of a model that a run starts from."""
STEPS, STOP = 12, 5
"""Steps of a run, half of them in each stage, and a step of the first stage after which some are stopped."""
SHORT = CONFIG.scaled_to(STEPS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process, and of two; `sharded` is validated while it trains."""
    folder = tmp_path_factory.mktemp("runs")
    trainer(folder / "one", SHORT).train()
    trainer(folder / "wider", SHORT).train(until=STOP)
    jobs: list[list[Any]] = [
        ["sharded", {"fsdp": True, "validate_every": 3}, 0],
        # with all its checkpoints, as `narrower` begins with the first
        ["resumed", {"fsdp": True, "keep": STEPS}, STOP],
        ["resumed", {"fsdp": True, "keep": STEPS, "accumulate": 1}, 0],
        ["wider", {"fsdp": True}, 0],
        ["replicas", {"accumulate": 2}, 0],
        ["half", {"fsdp": True, "mixed_precision": "bf16", "gradient_checkpointing": True}, 4],
        ["started", {"fsdp": True, "validate_every": 3}, 4, START],
    ]
    for _, changes, *_ in jobs:
        changes["steps"] = STEPS
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "-m",
            "tests.training.tiny_run",
            json.dumps([[str(folder / name), *rest] for name, *rest in jobs]),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.copytree(folder / "resumed", folder / "narrower")
    for later in RunFolder(folder / "narrower").checkpoints()[1:]:
        shutil.rmtree(later)
    continued = trainer(folder / "narrower", SHORT)
    assert continued.step == STOP
    continued.train()
    trainer(folder / "started-alone", SHORT, new_model(replace(CONFIG, seed=START))).train(until=4)
    return folder


def losses(run: Path) -> list[dict[str, Any]]:
    """Log lines without the times."""
    names = ("step", "stage", "loss", "lips", "rest", "norm", "levels")
    return [{name: r[name] for name in names} for r in RunFolder(run).records() if "validation" not in r]


def state(run: Path) -> dict[str, torch.Tensor]:
    latest = RunFolder(run).latest()
    assert latest is not None
    with Stored(latest) as stored:
        return {key: stored.whole(key) for key in stored.places}


def assert_close(a: Path, b: Path) -> None:
    """All losses and final weights within 1e-5; of a million weights ten may differ by ten times as much, as processors round otherwise."""
    one, two = losses(a), losses(b)
    assert [row["step"] for row in one] == [row["step"] for row in two] == list(range(1, STEPS + 1))
    for x, y in zip(one, two, strict=True):
        assert x["stage"] == y["stage"]
        assert [x[k] for k in ("loss", "lips", "rest", "norm")] == pytest.approx(
            [y[k] for k in ("loss", "lips", "rest", "norm")], abs=1e-5
        )
        assert x["levels"] == [None if v is None else pytest.approx(v, abs=1e-5) for v in y["levels"]]
    first, second = state(a), state(b)
    assert first.keys() == second.keys()
    apart = differences(first, second)
    assert float((apart > 1e-5).float().mean()) <= 1e-5
    assert float(apart.max()) <= 1e-4


def differences(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> torch.Tensor:
    """Absolute differences of all weights and averages."""
    weights = [name for name in first if name.startswith(("model", "ema"))]
    return torch.cat([(first[name] - second[name]).abs().flatten() for name in weights])


@pytest.mark.slow
@pytest.mark.parametrize("other", ["sharded", "replicas", "narrower", "wider"])
def test_two_processes_match_one(runs: Path, other: str) -> None:
    """FSDP2 with validation, replicas, and a checkpoint of two processes continued by one and the other way round."""
    assert_close(runs / "one", runs / other)


@pytest.mark.slow
def test_two_processes_resume_to_the_very_same_losses_and_weights(runs: Path) -> None:
    assert losses(runs / "sharded") == losses(runs / "resumed")
    first, second = state(runs / "sharded"), state(runs / "resumed")
    assert first.keys() == second.keys()
    assert not [name for name in first if not torch.equal(first[name], second[name])]


@pytest.mark.slow
def test_a_sharded_model_is_validated_with_its_averages(runs: Path) -> None:
    """The weights' mean square is that of the averages, not of the weights, and training goes on with the weights (see above)."""
    alone = trainer(runs / "alone", SHORT)
    alone.train()
    expected = sum(float(value.square().sum()) for value in alone.ema.values())
    found = [r for r in RunFolder(runs / "sharded").records() if "validation" in r]
    assert [r["step"] for r in found] == [3, 6, 9, 12]
    assert found[-1]["validation"]["squares"] == pytest.approx(expected, rel=1e-5)
    now = sum(float(value.detach().square().sum()) for value in alone.engine.trainable().values())
    assert abs(now - expected) > 2e-4 * expected


@pytest.mark.slow
def test_a_run_of_sharded_weights_starts_from_a_given_model_and_gives_it_back_whole(runs: Path) -> None:
    sharded, alone = state(runs / "started"), state(runs / "started-alone")
    fresh = state(runs / "one")
    assert [r["loss"] for r in losses(runs / "started")] == pytest.approx(
        [r["loss"] for r in losses(runs / "started-alone")], abs=1e-5
    )
    # AdamW's first steps are the gradient's sign; where the gradient is nothing but rounding, they differ (0.4 % on one processor)
    assert float((differences(alone, sharded) > 1e-5).float().mean()) < 1e-2
    start = new_model(replace(CONFIG, seed=START)).state_dict()["proj_out.weight"]
    assert (
        (sharded["ema.proj_out.weight"] - start).abs().max() < 0.02 < (fresh["ema.proj_out.weight"] - start).abs().max()
    )
    # what `averaged` put together in both processes, see `tiny_run`
    for rank in range(2):
        whole = load_file(runs / "started" / f"averaged-{rank}.safetensors")
        assert whole.keys() == start_keys()
        for name, value in load_ema(RunFolder(runs / "started")).items():
            assert torch.equal(whole[name], value), name


def start_keys() -> set[str]:
    """Names of everything that a whole model keeps."""
    return set(new_model().state_dict())


@pytest.mark.slow
def test_each_process_writes_its_own_part(runs: Path) -> None:
    files = sorted((runs / "sharded" / f"step-{STEPS}").glob("*.safetensors"))
    whole = next((runs / "one" / f"step-{STEPS}").glob("*.safetensors")).stat().st_size
    assert len(files) == 2
    assert all(0.4 * whole < file.stat().st_size < 0.75 * whole for file in files)
    for name, value in load_ema(RunFolder(runs / "sharded")).items():
        assert torch.allclose(value, load_ema(RunFolder(runs / "one"))[name], atol=1e-5), name


@pytest.mark.slow
def test_shards_compute_in_bfloat16_and_keep_float32(runs: Path) -> None:
    exact, rounded = losses(runs / "one")[:4], losses(runs / "half")
    assert [r["loss"] for r in rounded] == pytest.approx([r["loss"] for r in exact], rel=0.03)
    assert [r["loss"] for r in rounded] != pytest.approx([r["loss"] for r in exact], rel=1e-4)
    assert {v.dtype for k, v in state(runs / "half").items() if k.startswith("model")} == {torch.float32}


def test_accumulation_changes_nothing(tmp_path: Path) -> None:
    trainer(tmp_path / "one", SHORT).train()
    trainer(tmp_path / "three", replace(SHORT, accumulate=3, prefetch=2)).train()
    assert_close(tmp_path / "one", tmp_path / "three")


def test_bfloat16_trains(tmp_path: Path) -> None:
    made = trainer(tmp_path, replace(CONFIG, mixed_precision="bf16"))
    before = {k: v.detach().clone() for k, v in made.engine.trainable().items()}
    made.train(until=2)
    after = made.engine.trainable()
    assert all(torch.isfinite(v).all() and v.dtype == torch.float32 for v in after.values())
    assert not torch.equal(before["proj_out.weight"], after["proj_out.weight"])


def test_the_8_bit_optimiser_trains_and_resumes_exactly(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    config = replace(CONFIG, optimizer="adamw-8bit")
    # only tensors of at least 4096 numbers get states of one byte
    wide = replace(config, model=CONFIG.model | {"ffn_dim": 192})
    trainer(tmp_path / "one", wide).train(until=6)
    trainer(tmp_path / "two", wide).train(until=4)
    trainer(tmp_path / "two", wide).train(until=6)
    assert losses(tmp_path / "one") == losses(tmp_path / "two")
    first, second = state(tmp_path / "one"), state(tmp_path / "two")
    assert torch.uint8 in {v.dtype for v in first.values()}
    assert not [name for name in first if not torch.equal(first[name], second[name])]


def test_the_8_bit_optimiser_learns(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    layer, x, y = torch.nn.Linear(64, 128), torch.randn(32, 64), torch.randn(32, 128)
    engine = Engine.create(layer, 1e-2, 0.0, 1.0, optimizer="adamw-8bit")
    first = (engine.model(x) - y).square().mean()
    for _ in range(30):
        engine.backward((engine.model(x) - y).square().mean())
        engine.update()
    assert (engine.model(x) - y).square().mean() < 0.7 * first


def test_an_unknown_optimiser_and_nothing_to_train_are_refused() -> None:
    with pytest.raises(SettingsError, match="no optimiser 'sgd'; the optimisers are adamw, adamw-8bit"):
        Engine.create(torch.nn.Linear(2, 2), 1e-2, 0.0, 1.0, optimizer="sgd")
    with pytest.raises(SettingsError, match="nothing to train"):
        Engine.create(torch.nn.Linear(2, 2).requires_grad_(False), 1e-2, 0.0, 1.0)


@pytest.mark.parametrize(("count", "processes", "accumulate"), [(5, 2, 1), (2, 3, 2), (1, 2, 3), (7, 1, 3), (9, 4, 2)])
def test_shares_cover_a_batch_once(count: int, processes: int, accumulate: int) -> None:
    dealt = [shares(count, processes, accumulate, rank) for rank in range(processes)]
    assert len({len(parts) for parts in dealt}) == 1
    assert sorted(row for parts in dealt for part in parts for row in part) == list(range(count))


def test_only_what_trains_is_averaged_and_kept(tmp_path: Path) -> None:
    from tests.tiny import tiny_transformer

    model = tiny_transformer()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("v_proj" in name)
    frozen = model.proj_out.weight.detach().clone()
    made = trainer(tmp_path, model=model)
    made.train(until=2)
    expected = {name for name, _ in model.named_parameters() if "v_proj" in name}
    assert made.ema.keys() == load_ema(RunFolder(tmp_path)).keys() == expected
    assert {k.split(".", 1)[1] for k in state(tmp_path) if k.startswith("model.")} == expected
    averaged = made.averaged()
    assert torch.equal(averaged.proj_out.weight, frozen)
    assert all(torch.equal(averaged.get_parameter(name), value) for name, value in made.ema.items())


def test_a_run_goes_on_from_the_checkpoint_before_a_part(tmp_path: Path) -> None:
    """A copy of half a checkpoint, as a killed run leaves it, is neither taken for one nor kept."""
    trainer(tmp_path).train(until=3)
    half = tmp_path / ".step-5.part"
    half.mkdir()
    shutil.copy(next((tmp_path / "step-3").glob("*.safetensors")), half / "rank-00000-of-00002.safetensors")
    assert trainer(tmp_path).step == 3
    assert not half.exists()
