"""The training loop: reproducible, resumable after kill -9, and loud when it goes wrong."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.data.condition_dropout import Dropout
from fantasytalking.errors import CheckpointError, InputError, ResourceError, SettingsError
from fantasytalking.training.embedded.embedded_recipes import TINY_TRANSFORMER
from fantasytalking.training.embedded.train_embedded import fresh_transformer, make_trainer, window_source
from fantasytalking.training.embedded.training_tracks import Material, load_material
from fantasytalking.training.flow_matching import FlowMatching
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig, load_config
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.run_folder import RunFolder
from fantasytalking.training.trainer.sources import WindowSource
from fantasytalking.training.trainer.stored_checkpoint import Stored, load_ema
from tests.training.synthetic import write_cache

ROOT = Path(__file__).resolve().parents[3]
CONFIG = replace(TINY_TRANSFORMER, log_every=1)
ONLY = "rank-00000-of-00001.safetensors"


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("material") / "tracks")


@pytest.fixture(scope="module")
def material(cache_folder: Path) -> Material:
    return load_material(cache_folder)


def steps(clip: int, frame: int, rate: float = 1e-3) -> tuple[StageSchedule, ...]:
    return StageSchedule("clip", clip, rate, warmup=1), StageSchedule("frame", frame, rate, warmup=1)


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Everything that a run's newest checkpoint holds, as flat tensors."""
    latest = RunFolder(run).latest()
    assert latest is not None
    with Stored(latest) as stored:
        return {key: stored.whole(key) for key in stored.places}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]


def test_a_batch_is_a_pure_function_of_seed_and_step(material: Material, tmp_path: Path) -> None:
    a, b = (make_trainer(material, CONFIG, tmp_path / name) for name in "ab")
    other = make_trainer(material, replace(CONFIG, seed=1), tmp_path / "c")
    b.prepare(0)  # what was drawn before does not matter
    torch.manual_seed(123)
    for step in (5, 0):
        x, y = a.prepare(step).samples, b.prepare(step).samples
        assert torch.equal(x.latents, y.latents)
        assert torch.equal(x.condition, y.condition)
        assert x.conditions.audio is not None and y.conditions.audio is not None
        assert torch.equal(x.conditions.audio.features, y.conditions.audio.features)
        assert torch.equal(a.losses(step).total, b.losses(step).total)
    first = a.prepare(0).samples.latents
    assert not torch.equal(first, a.prepare(1).samples.latents)
    assert not torch.equal(first, other.prepare(0).samples.latents)


def test_both_stages_run_and_are_logged(material: Material, tmp_path: Path) -> None:
    trainer = make_trainer(material, replace(CONFIG, stages=steps(2, 2), validate_every=4), tmp_path)
    clip, frame = (trainer.prepare(step).samples.conditions.audio for step in (0, 3))
    assert clip is not None and clip.ranges is None
    assert frame is not None and frame.ranges is not None
    assert trainer.train() == 4
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["stage"] for r in records if "stage" in r] == ["clip", "clip", "frame", "frame"]
    figures = next(r["validation"] for r in records if "validation" in r)
    assert figures.keys() == {"r", "r_shuffled", "spread", "closed", "expression", "head"}
    assert load_config(TrainConfig, tmp_path / "config.json") == trainer.config


def test_a_run_in_two_parts_equals_a_run_in_one(material: Material, tmp_path: Path) -> None:
    config = replace(CONFIG, stages=steps(3, 3))
    assert make_trainer(material, config, tmp_path / "one").train() == 6
    assert make_trainer(material, config, tmp_path / "two").train(until=4) == 4
    continued = make_trainer(material, config, tmp_path / "two")
    assert continued.step == 4
    assert continued.train() == 6
    assert_equal(weights(tmp_path / "one"), weights(tmp_path / "two"))


KILLED = """
import sys, torch
from pathlib import Path
from fantasytalking.system.startup import importing_frameworks
with importing_frameworks():
    from fantasytalking.training.trainer.config import TrainConfig, load_config
    from fantasytalking.training.embedded.train_embedded import fresh_transformer, make_trainer, window_source
    from fantasytalking.training.embedded.training_tracks import load_material
torch.set_num_threads(1)
cache, run, config = map(Path, sys.argv[1:])
make_trainer(load_material(cache), load_config(TrainConfig, config), run).train()
"""


def test_a_run_that_is_killed_goes_on_to_the_same_weights(cache_folder: Path, tmp_path: Path) -> None:
    """All of it in processes of its own, as what other tests leave in one may change the last bit of a sum."""
    config = replace(CONFIG, stages=steps(5, 25), validate_every=1000)
    config.save(tmp_path / "usual.json")
    replace(config, checkpoint_minutes=0.0).save(tmp_path / "each-step.json")
    killed, straight = tmp_path / "killed", tmp_path / "straight"

    def command(run: Path, config: str = "usual.json") -> list[str]:
        return [sys.executable, "-c", KILLED, str(cache_folder), str(run), str(tmp_path / config)]

    with subprocess.Popen(command(killed, "each-step.json"), stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if ": step 7 of 30" in line:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    again, whole = (
        subprocess.run(command(run), stderr=subprocess.PIPE, text=True, cwd=ROOT, check=True).stderr
        for run in (killed, straight)
    )
    begun = re.search(r"training from step (\d+) to 30", again)
    assert begun is not None and 5 <= int(begun[1]) < 30 and "training from step 0 to 30" in whole
    assert_equal(weights(killed), weights(straight))


def test_a_half_written_checkpoint_does_not_exist(material: Material, tmp_path: Path) -> None:
    config = replace(CONFIG, stages=steps(2, 4))
    make_trainer(material, config, tmp_path).train(until=2)
    half = tmp_path / ".step-4.part"
    shutil.copytree(tmp_path / "step-2", half)
    (half / "meta.json").unlink()
    again = make_trainer(material, config, tmp_path)
    assert again.step == 2
    again.train(until=3)
    assert not half.exists()
    assert [p.name for p in RunFolder(tmp_path).checkpoints()] == ["step-2", "step-3"]


def test_only_the_newest_checkpoints_are_kept(material: Material, tmp_path: Path) -> None:
    trainer = make_trainer(material, replace(CONFIG, stages=steps(2, 3), keep=2), tmp_path)
    for step in range(1, 6):
        trainer.train(until=step)
    assert [p.name for p in RunFolder(tmp_path).checkpoints()] == ["step-4", "step-5"]


def test_a_finished_run_is_left_as_it_is(material: Material, tmp_path: Path) -> None:
    config = replace(CONFIG, stages=steps(1, 1))
    make_trainer(material, config, tmp_path).train()
    before = (tmp_path / "step-2" / ONLY).stat().st_mtime_ns
    assert make_trainer(material, config, tmp_path).train() == 2
    assert make_trainer(material, config, tmp_path).train(until=0) == 2
    assert (tmp_path / "step-2" / ONLY).stat().st_mtime_ns == before


@pytest.mark.parametrize("file", [ONLY, "meta.json"])
def test_a_damaged_checkpoint_is_named_and_the_advice_leads_on(material: Material, tmp_path: Path, file: str) -> None:
    config = replace(CONFIG, stages=steps(1, 1))
    make_trainer(material, config, tmp_path).train(until=1)
    make_trainer(material, config, tmp_path).train()
    for step, advice, left in ((2, "delete it, and step-1 is used", 1), (1, "delete it, and the run begins anew", 0)):
        path = tmp_path / f"step-{step}" / file
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(CheckpointError, match=rf"step-{step} cannot be continued: .*; {advice}\."):
            make_trainer(material, config, tmp_path)
        shutil.rmtree(path.parent)
        if left:
            assert make_trainer(material, config, tmp_path).step == left
    assert make_trainer(material, config, tmp_path).train() == 2


def test_a_checkpoint_of_another_model_is_refused(material: Material, tmp_path: Path) -> None:
    make_trainer(material, replace(CONFIG, stages=steps(1, 1)), tmp_path).train()
    wider = replace(CONFIG, stages=steps(1, 1), model=CONFIG.model | {"ffn_dim": 64})
    with pytest.raises(SettingsError, match=r"other settings \(model.ffn_dim: 32 there, 64 now\)"):
        make_trainer(material, wider, tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has the shape .* delete it, and the run begins anew"):
        make_trainer(material, wider, tmp_path)


def one_sample(material: Material, tmp_path: Path, **changes: object) -> Trainer:
    """A trainer that sees one window over and over, nothing dropped."""
    config = replace(CONFIG, dropout=Dropout(0.0, 0.0, 0.0), **changes)  # type: ignore[arg-type]
    sample = window_source(material, config).sample(9, np.random.default_rng(0))
    source = WindowSource({9: lambda rng: sample}, config.frames, config.batch_tokens)
    return Trainer(fresh_transformer(config), source, FlowMatching(config), config, RunFolder(tmp_path))


def test_the_loss_falls_on_a_single_sample(material: Material, tmp_path: Path) -> None:
    trainer = one_sample(material, tmp_path, stages=steps(80, 1, rate=1e-2), log_every=100)
    with torch.no_grad():
        before = trainer.losses(0).total.mean()
    trainer.train(until=80)
    with torch.no_grad():
        assert trainer.losses(0).total.mean() < 0.8 * before
    assert all(torch.isfinite(v).all() for v in trainer.ema.values())


def test_the_average_follows_the_weights(material: Material, tmp_path: Path) -> None:
    trainer = one_sample(material, tmp_path, stages=steps(30, 1, rate=3e-3), log_every=100)
    trainer.train(until=30)
    averaged = trainer.averaged().state_dict()
    now = trainer.engine.bare_model.state_dict()
    name = "proj_out.weight"
    fresh = make_trainer(material, CONFIG, tmp_path / "fresh").engine.bare_model.state_dict()
    apart = (averaged[name] - now[name]).norm()
    assert 0 < apart < (fresh[name] - now[name]).norm()


def test_gradient_checkpointing_changes_neither_loss_nor_gradient(material: Material, tmp_path: Path) -> None:
    results = []
    for name, on in (("off", False), ("on", True)):
        trainer = make_trainer(material, replace(CONFIG, gradient_checkpointing=on), tmp_path / name)
        trainer.engine.model.train()
        loss = trainer.losses(5).total.mean()
        loss.backward()
        gradients = {k: p.grad for k, p in trainer.engine.bare_model.named_parameters() if p.grad is not None}
        results.append((loss.detach(), gradients))
    assert torch.allclose(results[0][0], results[1][0], rtol=1e-6)
    assert results[0][1].keys() == results[1][1].keys()
    assert all(torch.allclose(g, results[1][1][k], atol=1e-7, rtol=1e-4) for k, g in results[0][1].items())


def test_a_loss_that_diverges_leaves_a_checkpoint_from_before(material: Material, tmp_path: Path) -> None:
    calm, wild = steps(4, 4)
    config = replace(CONFIG, stages=(calm, replace(wild, learning_rate=1e30, warmup=0)), checkpoint_minutes=0.0)
    with pytest.raises(ResourceError, match=r"diverged after step 5.* step-4, is from before.* a lower learning rate"):
        make_trainer(material, config, tmp_path).train()
    # the weights of step 5 are finite numbers, but their loss is not
    assert {path.name for path in tmp_path.glob("*step-*")} == {"step-4", "diverged-step-5"}
    lower = replace(config, stages=(calm, wild), allow_changes=True)
    trainer = make_trainer(material, lower, tmp_path)
    assert (trainer.step, trainer.train()) == (4, 8)
    assert all(torch.isfinite(p).all() for p in trainer.engine.bare_model.parameters())
    changed = json.loads((tmp_path / "starts.jsonl").read_text().splitlines()[-1])["changed"]
    assert changed[0].startswith("stages.1.learning_rate: 1e+30 there")


def test_loading_gives_back_the_step(material: Material, tmp_path: Path) -> None:
    trainer = make_trainer(material, replace(CONFIG, stages=steps(1, 2)), tmp_path)
    trainer.train()
    step, kept = trainer.checkpoints.load(tmp_path / "step-3")
    assert step == 3
    assert kept["interval"]["steps"] == 0  # log_every is 1
    stored = load_ema(RunFolder(tmp_path))
    assert stored.keys() == trainer.ema.keys()
    assert all(torch.equal(stored[name], value) for name, value in trainer.ema.items())


def test_windows_longer_than_every_clip_are_one_sentence(material: Material, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"at least 201 frames long, but no usable clip reaches 8.96 s"):
        make_trainer(material, replace(CONFIG, frames=(201,), batch_tokens=51), tmp_path)
