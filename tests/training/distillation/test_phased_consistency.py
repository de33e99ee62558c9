"""Few-step distillation: targets equal the pipeline's sampling, the student learns them, runs go on where they were stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fantasytalking import FantasyTalkingPipeline
from fantasytalking.cli.__main__ import main
from fantasytalking.cli.train import main as train_command
from fantasytalking.conditioning.audio_windows import window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions
from fantasytalking.data.condition_dropout import Dropout
from fantasytalking.data.samples import Sample
from fantasytalking.errors import CheckpointError, InputError, SettingsError
from fantasytalking.guidance import GuidancePlan, pass_weights
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.guidance_passes import Guidance
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.noise_schedule import make_schedule
from fantasytalking.pipeline.sampling import denoise
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.training.distillation.distil_adapter import distil_adapter
from fantasytalking.training.distillation.distil_embedded import distil_embedded
from fantasytalking.training.distillation.distillation_objective import Distillation
from fantasytalking.training.distillation.distillation_recipes import (
    DISTIL_14B,
    DISTIL_EMBEDDED,
    DISTIL_RECIPES,
    DistillConfig,
)
from fantasytalking.training.distillation.distillation_trainer import frozen, make_distiller
from fantasytalking.training.distillation.phased_consistency import (
    GuidedTeacher,
    Phases,
    Starts,
    own_way,
    rows,
    target_point,
)
from fantasytalking.training.lora import LORA_FILE, LoraSettings
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.random_draws import StepDraws
from fantasytalking.training.trainer.run_folder import RunFolder
from tests.pipeline.tiny_pipeline import (
    WIDTH,
    embedded_pipeline,
    portrait,
    scheduler,
    speech,
    transformer,
    wan_pipeline,
)
from tests.test_docs import blocks
from tests.training.latent_set import WINDOW, made_up, write_set
from tests.training.synthetic import FACE_DIM, SPEECH_DIM, write_cache

SHAPE = (16, 3, 4, 4)
FRAMES, TOKENS = 9, 20
CONFIG = DistillConfig(
    train=TrainConfig(
        stages=(StageSchedule("frame", 6, 1e-3, warmup=1),),
        frames=(9,),
        batch_tokens=12,
        dropout=Dropout(0.0, 0.0, 0.0),
        weight_decay=0.0,
        log_every=2,
        validate_every=10**6,
        tensorboard=False,
    ),
    audio_guidance_scale=2.5,
)


def teacher_model() -> Any:
    return transformer(image_dim=None, added_kv_proj_dim=None)


def make_sample(seed: int) -> Sample:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    mask = torch.zeros(1, *SHAPE[1:])
    mask[:, :, 2:, 1:3] = 1
    return Sample(normal(*SHAPE), normal(20, *SHAPE[1:]), mask, normal(5, WIDTH), normal(TOKENS, WIDTH))


@dataclass(frozen=True)
class FewSamples:
    """Batches of four out of a few samples."""

    count: int = 4

    def plan(self, step: int) -> list[int]:
        return [(4 * step + i) % self.count for i in range(4)]

    def sample(self, key: int, rng: np.random.Generator) -> Sample:
        return make_sample(key)


def starts_of(samples: list[Sample], noisy: torch.Tensor, u: torch.Tensor, phase: torch.Tensor) -> Starts:
    features = [s.audio for s in samples if s.audio is not None]
    ranges = window_ranges(TOKENS, FRAMES).expand(len(samples), -1, -1)
    audio = AudioCondition(torch.stack(features), ranges)
    conditions = Conditions(text=torch.stack([s.text for s in samples]), audio=audio)
    return Starts(noisy, u.double(), phase, torch.stack([s.condition for s in samples]), conditions)


def noise_of(count: int = 1, seed: int = 9) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def sampled(
    model: Any, starts: Starts, noise: torch.Tensor, channels: torch.Tensor | None = None, words: Any = None, **how: Any
) -> torch.Tensor:
    """What the pipeline makes of each sample."""
    made = []
    for i in range(len(noise)):
        index = torch.tensor([i])
        settings = GenerationSettings(sigma_shift=3.0, **how)
        guidance = Guidance.of_settings(settings, rows(starts.conditions, index), words, channels)
        schedule = make_schedule(scheduler(), settings, noise.device)
        with torch.no_grad():
            made.append(denoise(model, schedule, noise[i : i + 1], starts.condition[i : i + 1], guidance))
    return torch.cat(made)


def through_all_phases(starts: Starts, teacher: GuidedTeacher, phases: Phases, solver_steps: int) -> torch.Tensor:
    """The targets of phase after phase, each from where the last one landed."""
    x = starts.noisy
    for k in range(phases.count):
        phase = torch.full_like(starts.phase, k)
        here = replace(starts, noisy=x, u=phases.start(phase), phase=phase)
        x = target_point(here, teacher, phases, solver_steps, solver_steps, teacher.network)
    return x


def test_the_phases_are_the_steps_of_the_pipeline() -> None:
    for shift in (3.0, 5.0):
        schedule = make_schedule(scheduler(), GenerationSettings(steps=4, sigma_shift=shift), torch.device("cpu"))
        torch.testing.assert_close(Phases(4, shift).boundaries.float(), schedule.sigmas, atol=1e-6, rtol=0)


def test_start_points_lie_in_their_phase() -> None:
    phases = Phases(4, 3.0)
    sigma = torch.tensor([1.0, 0.95, 0.9, 0.76, 0.6, 0.5, 0.01])
    u, phase = phases.of(sigma)
    torch.testing.assert_close(phases.sigma(u).float(), sigma)
    assert phase.tolist() == [0, 0, 1, 1, 2, 3, 3]
    inside, same = phases.place(sigma, torch.zeros(7, dtype=torch.bool))
    assert torch.equal(phase, same)
    assert bool(((inside > phases.end(phase)) & (inside <= phases.start(phase))).all())
    at_start, _ = phases.place(sigma, torch.ones(7, dtype=torch.bool))
    torch.testing.assert_close(phases.sigma(at_start), phases.boundaries[phase])


@pytest.mark.parametrize("channels", [None, (1.0,) * 8 + (0.0,) * 8])
def test_the_target_is_the_pipelines_guided_sampling(channels: tuple[float, ...] | None) -> None:
    model, noise = teacher_model(), noise_of(2)
    starts = starts_of([make_sample(0), make_sample(1)], noise, torch.ones(2), torch.zeros(2, dtype=torch.int64))
    by_channel = None if channels is None else torch.tensor(channels)
    teacher = GuidedTeacher(frozen(model), GuidancePlan(1.0, 2.5, has_negative=False), by_channel)
    made = through_all_phases(starts, teacher, Phases(4, 3.0), 3)
    expected = sampled(model, starts, noise, by_channel, steps=12, prompt_guidance_scale=1.0, audio_guidance_scale=2.5)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
    other = sampled(model, starts, noise, steps=12, prompt_guidance_scale=1.0, audio_guidance_scale=1.0)
    assert not torch.allclose(made, other, atol=1e-3)


def test_prompt_guidance_is_folded_in_by_the_released_formula() -> None:
    model, noise = teacher_model(), noise_of()
    words = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(8))
    starts = starts_of([make_sample(0)], noise, torch.ones(1), torch.zeros(1, dtype=torch.int64))
    teacher = GuidedTeacher(frozen(model), GuidancePlan(4.0, 2.5), None, words)
    made = through_all_phases(starts, teacher, Phases(2, 3.0), 2)
    how = {"steps": 4, "prompt_guidance_scale": 4.0, "audio_guidance_scale": 2.5}
    torch.testing.assert_close(made, sampled(model, starts, noise, None, words[None], **how), atol=1e-5, rtol=1e-5)


def test_where_the_teacher_stops_early_the_averaged_student_makes_the_rest() -> None:
    """One substep of four from the phase's start; from its last quarter the teacher gets to the end alone."""
    model, phases, shape = teacher_model(), Phases(4, 3.0), (2, *SHAPE)
    phase = torch.tensor([1, 1])
    u = torch.tensor([0.75, 0.5 + 0.25 / 8], dtype=torch.float64)
    starts = starts_of([make_sample(0), make_sample(1)], noise_of(2), u, phase)
    teacher = GuidedTeacher(frozen(model), GuidancePlan(1.0, 2.5, has_negative=False))
    asked: list[torch.Tensor] = []

    def student(hidden: torch.Tensor, timestep: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        asked.append(timestep)
        return torch.full((len(hidden), *SHAPE), 7.0)

    landing = target_point(starts, teacher, phases, 4, 1, student)
    assert landing.shape == shape
    between, end = (phases.sigma(torch.tensor(x, dtype=torch.float64)) for x in (0.75 - 0.25 / 4, 0.5))
    assert len(asked) == 1
    torch.testing.assert_close(asked[0], 1000 * between.float()[None])
    with torch.no_grad():
        guided = teacher.velocity(starts)(starts.noisy, phases.sigma(u))
    first = starts.noisy[0] + (between - phases.sigma(u[0])).float() * guided[0] + (end - between).float() * 7.0
    last = starts.noisy[1] + (end - phases.sigma(u[1])).float() * guided[1]
    torch.testing.assert_close(landing, torch.stack([first, last]), atol=1e-5, rtol=1e-5)
    exact = target_point(starts, teacher, phases, 4, 4, student)
    assert len(asked) == 1
    torch.testing.assert_close(exact[1], landing[1])
    assert not torch.allclose(exact[0], landing[0])


def test_what_the_teacher_is_told_besides_a_batch_follows_to_the_device() -> None:
    given = torch.zeros(1, WIDTH), torch.ones(16)
    teacher = GuidedTeacher(frozen(teacher_model()), GuidancePlan(4.0, 2.5), given[1], given[0])
    there = teacher.to(torch.device("meta"))
    assert there.negative_text is not None and there.negative_text.device.type == "meta"
    assert there.channels is not None and there.channels.device.type == "meta"


def test_own_way_is_the_students_sampling_up_to_the_phase() -> None:
    model, phases, noise = teacher_model(), Phases(4, 3.0), noise_of(3)
    phase = torch.tensor([2, 0, 1])
    starts = starts_of([make_sample(i) for i in range(3)], torch.zeros_like(noise), torch.zeros(3), phase)
    stopped = own_way(noise, starts, phases, frozen(model))
    assert torch.equal(stopped[1], noise[1])
    for i, steps in ((0, 2), (2, 1)):
        x = noise[i : i + 1]
        for now, after in zip(phases.boundaries[:steps], phases.boundaries[1:], strict=False):
            hidden = torch.cat([x, starts.condition[i : i + 1]], 1)
            with torch.no_grad():
                velocity = model(hidden, 1000 * now.float()[None], rows(starts.conditions, torch.tensor([i]))).sample
            x = x + (after - now).float() * velocity
        torch.testing.assert_close(stopped[i : i + 1], x, atol=1e-5, rtol=1e-5)


def hold_noise(noise: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every start point come from the same noise [1, C, f, h, w]."""
    monkeypatch.setattr(StepDraws, "noise", lambda draws, shape: noise.expand(len(draws.rows), *shape).clone())


def test_a_student_lands_in_four_single_passes_where_the_guided_teacher_does_in_twelve_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, noise = teacher_model(), noise_of()
    schedule = StageSchedule("frame", 80, 4e-3, warmup=5, final_fraction=0.05)
    train = replace(CONFIG.train, stages=(schedule,), ema=0.9, log_every=1000)
    config = replace(CONFIG, train=train, on_policy=1.0, lip_weight=0.0)
    distiller = make_distiller(config, model, FewSamples(1), tmp_path)
    hold_noise(noise, monkeypatch)
    starts = starts_of([make_sample(0)], noise, torch.ones(1), torch.zeros(1, dtype=torch.int64))
    goal = sampled(model, starts, noise, steps=12, prompt_guidance_scale=1.0, audio_guidance_scale=2.5)
    few: dict[str, Any] = {"steps": 4, "prompt_guidance_scale": 1.0, "audio_guidance_scale": 1.0}
    assert len(pass_weights(1.0, 1.0)) == 1
    before = (sampled(distiller.averaged(), starts, noise, **few) - goal).norm()
    guided = (sampled(model, starts, noise, **{**few, "audio_guidance_scale": 2.5}) - goal).norm()
    distiller.train()
    after = (sampled(distiller.averaged(), starts, noise, **few) - goal).norm()
    assert after < 0.1 * before
    assert after < guided


def stored(run: Path) -> dict[str, torch.Tensor]:
    """Weights, averages and optimiser of a run's newest checkpoint."""
    latest = RunFolder(run).latest()
    assert latest is not None
    return {k: v for file in sorted(latest.glob("*.safetensors")) for k, v in load_file(file).items()}


def distiller_of(config: DistillConfig, run: Path) -> Trainer:
    return make_distiller(config, teacher_model(), FewSamples(), run)


@pytest.mark.parametrize("substeps", [1, 3])
def test_a_run_in_two_parts_equals_a_run_in_one(tmp_path: Path, substeps: int) -> None:
    config = replace(CONFIG, substeps=substeps, at_start=0.5)
    assert distiller_of(config, tmp_path / "one").train() == 6
    assert distiller_of(config, tmp_path / "two").train(until=4) == 4
    continued = distiller_of(config, tmp_path / "two")
    assert continued.step == 4
    assert continued.train() == 6
    one, two = stored(tmp_path / "one"), stored(tmp_path / "two")
    assert one.keys() == two.keys()
    assert not [name for name in one if not torch.equal(one[name], two[name])]
    start = teacher_model().state_dict()["proj_out.weight"]
    assert not torch.equal(one["model.proj_out.weight"], start)
    assert not torch.equal(one["model.proj_out.weight"], one["ema.proj_out.weight"])


def test_a_batch_cut_into_parts_gives_the_same_step(tmp_path: Path) -> None:
    whole, parts = (
        distiller_of(replace(CONFIG, train=replace(CONFIG.train, accumulate=n)), tmp_path / str(n)) for n in (1, 3)
    )
    for one in (whole, parts):
        one.train(until=1)
    a, b = whole.engine.trainable(), parts.engine.trainable()
    # AdamW's first step is the gradient's sign; where the gradient is nothing but rounding, it differs
    apart = torch.cat([(a[name] - b[name]).abs().flatten() for name in a])
    assert float((apart > 1e-5).float().mean()) < 0.01


def drawn(distiller: Trainer, step: int, index: Sequence[int] = range(4)) -> tuple[Starts, torch.Tensor]:
    batch = distiller.prepare(step, index)
    return batch.starts, batch.own


def test_start_points_are_a_pure_function_of_seed_step_and_sample(tmp_path: Path) -> None:
    config = replace(CONFIG, at_start=0.5)
    a, b = distiller_of(config, tmp_path / "a"), distiller_of(config, tmp_path / "b")
    other = distiller_of(replace(config, train=replace(config.train, seed=1)), tmp_path / "c")
    drawn(b, 0)
    for step in (3, 0):
        (x, own), (y, same) = drawn(a, step), drawn(b, step)
        assert torch.equal(x.noisy, y.noisy)
        assert torch.equal(x.u, y.u)
        assert torch.equal(own, same)
    assert not torch.equal(drawn(a, 0)[0].noisy, drawn(other, 0)[0].noisy)
    # samples keep their draws in whatever part of the batch they are
    assert torch.equal(drawn(a, 5)[0].noisy[1:3], drawn(a, 5, [1, 2])[0].noisy)
    # strata of the noise level: every phase has its share
    phases = torch.cat([drawn(a, step)[0].phase for step in range(50)])
    assert torch.bincount(phases).tolist() == [50] * 4


def test_shares_of_start_points_are_what_was_asked_for(tmp_path: Path) -> None:
    distiller = distiller_of(replace(CONFIG, at_start=0.5, on_policy=0.3), tmp_path)
    assert isinstance(distiller.objective, Distillation)
    phases = distiller.objective.phases
    every = [drawn(distiller, step) for step in range(100)]
    own = torch.cat([o[s.phase > 0] for s, o in every]).float().mean()
    begins = torch.cat([(s.u == phases.start(s.phase))[~o] for s, o in every]).float().mean()
    assert 0.2 < own < 0.4
    assert 0.4 < begins < 0.6
    assert not any(bool(o[s.phase == 0].any()) for s, o in every)


def test_losses_are_logged_and_the_method_is_kept(tmp_path: Path) -> None:
    distiller_of(CONFIG, tmp_path).train()
    records = RunFolder(tmp_path).records()
    assert [r["step"] for r in records] == [1, 2, 4, 6]
    assert all(len(r["levels"]) == 4 and r["loss"] > 0 for r in records)
    assert json.loads((tmp_path / "distillation.json").read_text())["student_steps"] == 4


def test_the_lip_weight_moves_the_loss_towards_the_lips(tmp_path: Path) -> None:
    plain, lips = (distiller_of(replace(CONFIG, lip_weight=w), tmp_path / str(w)).losses(0) for w in (0.0, 3.0))
    share = 1 / 4  # of the mask
    assert torch.allclose(plain.total, share * plain.parts["lips"] + (1 - share) * plain.parts["rest"], rtol=1e-4)
    expected = (4 * share * lips.parts["lips"] + (1 - share) * lips.parts["rest"]) / (4 * share + 1 - share)
    assert torch.allclose(lips.total, expected, rtol=1e-4)
    huber = distiller_of(replace(CONFIG, huber=0.1, lip_weight=0.0), tmp_path / "huber").losses(0)
    assert bool((huber.total < plain.total.sqrt()).all())


LORA = replace(
    CONFIG,
    substeps=1,
    prompt_guidance_scale=5.0,
    audio_guidance_scale=5.0,
    on_policy=0.0,
    huber=0.03,
    lora=LoraSettings(rank=4, alpha=4),
)


def test_lora_beside_a_frozen_backbone_is_distilled_resumed_and_loaded(tmp_path: Path) -> None:
    model = teacher_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    whole = distil_adapter(LORA, model, FewSamples(), tmp_path / "one")
    assert any("audio_v_proj.lora_A" in k for k in model.state_dict())
    distiller = make_distiller(LORA, teacher_model(), FewSamples(), tmp_path / "two" / "student", negative_text=zeros())
    named = dict(distiller.engine.bare_model.named_parameters())
    assert set(distiller.engine.trainable()) == {name for name in named if "lora" in name}
    distiller.train(until=3)
    continued = distil_adapter(LORA, teacher_model(), FewSamples(), tmp_path / "two")
    a, b = (load_file(folder / "pytorch_lora_weights.safetensors") for folder in (whole, continued))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert json.loads((whole / "defaults.json").read_text())["steps"] == 4

    fresh = teacher_model()
    assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items())
    inputs = torch.cat([noise_of(), make_sample(0).condition[None]], 1), torch.tensor([900.0])
    told = starts_of([make_sample(0)], noise_of(), torch.ones(1), torch.zeros(1, dtype=torch.int64)).conditions
    with torch.no_grad():
        alone = fresh(*inputs, told).sample
        embedded_pipeline(transformer=fresh).load_lora_weights(str(whole))
        added = fresh(*inputs, told).sample
        model.disable_adapters()
        assert torch.equal(model(*inputs, told).sample, alone)
    assert not torch.allclose(added, alone, atol=1e-5)


def zeros() -> torch.Tensor:
    return torch.zeros(1, WIDTH)


def test_the_recipe_of_the_released_size_folds_both_guidances_in() -> None:
    assert (DISTIL_14B.audio_guidance_scale, DISTIL_14B.prompt_guidance_scale) == (5.0, 5.0)
    assert DISTIL_14B.substeps < DISTIL_14B.solver_steps
    assert DISTIL_14B.lora is not None
    assert DISTIL_EMBEDDED.substeps >= DISTIL_EMBEDDED.solver_steps


@pytest.fixture(scope="module")
def small_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model with a tiny transformer."""
    folder = tmp_path_factory.mktemp("teacher") / "model"
    packaged = embedded_folder()
    shutil.copytree(packaged, folder, ignore=shutil.ignore_patterns("transformer", "example"))
    model = transformer(
        image_dim=None,
        added_kv_proj_dim=None,
        audio_feature_dim=SPEECH_DIM,
        identity_feature_dim=FACE_DIM,
        identity_dim=16,
        identity_tokens=2,
        motion=True,
    )
    model.half().save_pretrained(folder / "transformer")
    return folder


@pytest.fixture(scope="module")
def track_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("run") / "tracks")


def test_a_model_folder_becomes_one_of_four_steps(small_teacher: Path, track_folder: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(track_folder.parent), "--output", str(tmp_path), "--teacher", str(small_teacher)]
    arguments += ["--on-policy", "0.7"]
    assert train_command(["distil-tiny", *arguments]) == 0
    made = tmp_path / "model"
    student, teacher = (FantasyTalkingPipeline.from_pretrained(str(f)) for f in (made, small_teacher))
    settings = student.settings()
    assert (settings.steps, settings.audio_guidance_scale, settings.prompt_guidance_scale) == (4, 1.0, 1.0)
    assert settings.sigma_shift == teacher.settings().sigma_shift
    changed = student.transformer.state_dict()["proj_out.weight"] - teacher.transformer.state_dict()["proj_out.weight"]
    assert 0 < changed.norm() < 1
    for name in ("motion_percentiles.json", "audio_encoder/config.json"):
        assert (made / name).read_bytes() == (small_teacher / name).read_bytes()
    own, before = (json.loads((folder / "vae/config.json").read_text()) for folder in (made, small_teacher))
    gains = {"face_gains", "body_gains"}
    assert {key for key in own if own[key] != before[key]} <= gains
    # a student follows the intensities in its own way
    assert all(len(own[key]) == 11 and min(own[key]) > 0 for key in gains)
    records = RunFolder(tmp_path / "student").records()
    assert {"r", "r_shuffled", "spread", "closed", "expression", "head"} == next(
        r["validation"] for r in records if "validation" in r
    ).keys()
    assert not list(tmp_path.glob(".*"))
    # a finished run gives the same model again
    weights = next((made / "transformer").glob("*.safetensors")).read_bytes()
    assert json.loads((made / "distillation.json").read_text())["on_policy"] == 0.7
    recipe = replace(DISTIL_RECIPES["distil-tiny"], on_policy=0.7)
    assert distil_embedded(recipe, small_teacher, track_folder, tmp_path) == made
    assert next((made / "transformer").glob("*.safetensors")).read_bytes() == weights


def test_the_python_example_distils(
    small_teacher: Path, track_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/tryout").symlink_to(track_folder.parent)
    (track_folder.parent / "model").symlink_to(small_teacher)
    example = next(block for block in blocks("python") if block.page == "docs/distillation.md")
    found: dict[str, Any] = {}
    exec(example.body, found)
    assert found["model"] == Path("runs/two-steps/model")
    assert json.loads((found["model"] / "model_index.json").read_text())["defaults"]["steps"] == 2


def test_a_prepared_set_becomes_few_step_lora_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = wan_pipeline()
    pipeline.save_pretrained(tmp_path / "teacher")
    clips = {f"clip{i}": made_up(WINDOW, seed=i) for i in range(2)}
    data = write_set(tmp_path / "set", pipeline, clips)
    places = ["--data", str(data), "--output", str(tmp_path / "run"), "--teacher", str(tmp_path / "teacher")]
    assert train_command(["distil-lora-tiny", *places]) == 0
    made = capsys.readouterr().out.splitlines()[-1]
    assert made == str(tmp_path / "run" / "lora")
    before = {k: v.clone() for k, v in pipeline.transformer.state_dict().items()}
    pipeline.load_lora_weights(made)
    loaded = dict(pipeline.transformer.named_parameters())
    up = [v for k, v in loaded.items() if "lora_B" in k]
    assert any("audio_v_proj" in k for k in loaded if "lora_B" in k)
    assert any(bool(v.count_nonzero()) for v in up)
    assert torch.equal(loaded["blocks.0.attn1.to_q.base_layer.weight"], before["blocks.0.attn1.to_q.weight"])
    Image.fromarray(portrait()).save(tmp_path / "face.png")
    write_video(tmp_path / "voice.mp4", [portrait(64)] * 10, 25, speech(0.4))
    lent = ["--image", str(tmp_path / "face.png"), "--audio", str(tmp_path / "voice.mp4"), "--profile", "turbo"]
    lent += ["--model", str(tmp_path / "teacher"), "--lora", str(Path(made) / LORA_FILE), "--device", "cpu", "--json"]
    assert main(["generate", *lent, "--output", str(tmp_path / "out.mp4")]) == 0
    facts = json.loads(capsys.readouterr().out)
    told = json.loads((Path(made) / "defaults.json").read_text())
    assert told["steps"] == 4 and {name: facts["settings"][name] for name in told} == told
    assert any(
        "4 steps without guidance, shift" in note and "defaults.json in its folder" in note for note in facts["notes"]
    )


def test_a_run_is_not_continued_with_another_method(tmp_path: Path) -> None:
    distiller_of(CONFIG, tmp_path).train(until=2)
    longer = replace(CONFIG, train=replace(CONFIG.train, log_every=1))
    assert distiller_of(longer, tmp_path).step == 2
    with pytest.raises(SettingsError, match=r"begun with audio_guidance_scale = 2.5, but now it is 3.0"):
        distiller_of(replace(CONFIG, audio_guidance_scale=3.0), tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"student_steps": 0}, "student_steps must be a whole number of at least 1, but 0 was given"),
        ({"substeps": -1}, "substeps must be a whole number of at least 1"),
        ({"at_start": 1.5}, "at_start must be a number from 0 to 1, but 1.5 was given"),
        ({"lip_weight": -1.0}, "lip_weight must be a number of at least 0"),
        ({"train": replace(CONFIG.train, stages=(StageSchedule("clip", 2, 1e-3),))}, "one stage, of the kind 'frame'"),
    ],
)
def test_a_bad_configuration_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        replace(CONFIG, **change)


def test_guidance_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError,
        match="guidance_channels must be 16 numbers, one for each latent channel of the model, but 3 were given",
    ):
        distiller_of(replace(CONFIG, guidance_channels=(1.0, 0.0, 1.0)), tmp_path)
    with pytest.raises(SettingsError, match=r"guidance of 5 needs .*; give them, or set prompt_guidance_scale to 1"):
        distiller_of(replace(CONFIG, prompt_guidance_scale=5.0), tmp_path)
    distiller_of(replace(CONFIG, prompt_guidance_scale=1.0), tmp_path / "one")
    uneven = replace(LORA, guidance_channels=(0.0,) * 16)
    with pytest.raises(
        SettingsError, match=r"equal prompt and audio scales \(5\) .* differ, or leave guidance_channels out"
    ):
        make_distiller(uneven, teacher_model(), FewSamples(), tmp_path, negative_text=zeros())
    for number, advised in enumerate(
        (replace(uneven, prompt_guidance_scale=4.0), replace(uneven, guidance_channels=None))
    ):
        make_distiller(advised, teacher_model(), FewSamples(), tmp_path / str(number), negative_text=zeros())
    with pytest.raises(SettingsError, match="no layer whose name ends in one of nothing"):
        distiller_of(replace(CONFIG, lora=LoraSettings(targets=("nothing",))), tmp_path)
    with pytest.raises(SettingsError, match="the configuration has no lora"):
        distil_adapter(CONFIG, teacher_model(), FewSamples(), tmp_path)


def test_data_and_teachers_of_another_kind_are_one_sentence(small_teacher: Path, tmp_path: Path) -> None:
    config = DISTIL_RECIPES["distil-tiny"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no training data for this recipe; --data must be a prepared set"):
        distil_embedded(config, small_teacher, tmp_path / "empty", tmp_path / "run")
    (tmp_path / "empty" / "clip.safetensors").touch()
    wan_pipeline().save_pretrained(tmp_path / "wan")
    with pytest.raises(CheckpointError, match=r"no mesh autoencoder, .* use the recipe distil-14b"):
        distil_embedded(config, tmp_path / "wan", tmp_path / "empty", tmp_path / "run")
    assert DISTIL_RECIPES["distil-14b"].lora is not None  # trained like distil-lora-tiny above
    with pytest.raises(CheckpointError, match="There is no model"):
        distil_embedded(config, tmp_path / "nowhere", tmp_path / "empty", tmp_path / "run")
    with pytest.raises(SettingsError, match="'fantasytalking train distil' needs --teacher"):
        train_command(["distil", "--data", str(tmp_path), "--output", str(tmp_path / "run")])
