"""What is measured once before training: tracks put in step, codec, intensities, splits kept apart."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.conditioning.conditions import replace as conditioned
from fantasytalking.data.face_tracks import save_track
from fantasytalking.data.motion_dataset import prepare
from fantasytalking.data.samples import collate
from fantasytalking.errors import InputError
from fantasytalking.training.embedded.embedded_recipes import TINY_TRANSFORMER
from fantasytalking.training.embedded.mouth_validation import (
    Validation,
    even_windows,
    opening_correlation,
    openings,
    sample_latents,
)
from fantasytalking.training.embedded.train_embedded import load_start, make_trainer, window_source
from fantasytalking.training.embedded.training_tracks import load_material, without_leaks
from fantasytalking.training.trainer.callbacks import Validate
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.training.synthetic import make_track, tracks, write_cache


def test_a_person_of_the_validation_split_is_not_trained_on_under_another_name() -> None:
    train = list(tracks())
    held_out = make_track("held", "stranger", split="val")
    clone = replace(train[0], embedding=held_out.embedding)
    noise = np.random.default_rng(0).standard_normal(192).astype(np.float32)
    near = held_out.embedding + 0.05 * noise
    alike = replace(train[1], embedding=near / np.linalg.norm(near))
    assert without_leaks([*train, clone, alike], [held_out]) == train
    assert without_leaks([*train, clone], []) == [*train, clone]


def test_material_is_measured_once_and_kept(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "tracks")
    material = load_material(cache, coefficients=8)
    assert (len(material.train), len(material.val)) == (8, 2)
    assert material.speech_dim == 384
    report = json.loads((cache / "sync.json").read_text())
    assert report.keys() == {f"clip{i}.mp4" for i in range(8)}
    assert all(row["keep"] and row["offset"] == 0 for row in report.values())
    stored = (cache / "codec.bin").read_bytes()
    again = load_material(cache, coefficients=8)
    assert (cache / "codec.bin").read_bytes() == stored
    assert torch.equal(again.codec.basis, material.codec.basis)
    assert torch.equal(again.intensity.percentiles, material.intensity.percentiles)
    assert not list(cache.glob("*.part"))


def test_late_clips_are_put_in_step_and_unsteady_ones_left_out(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "tracks", validation=False)
    save_track(make_track("late", "person1", seed=60, lag=5), cache / "late.safetensors")
    lost = make_track("lost", "person2", seed=61)
    save_track(replace(lost, scores=np.zeros_like(lost.scores)), cache / "lost.safetensors")
    names = {track.name: track for track in load_material(cache, coefficients=8).train}
    assert "lost.mp4" not in names
    assert abs(names["late.mp4"].first - 5) <= 1
    assert names["clip0.mp4"].first == 0


def test_a_cache_without_training_tracks_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.joinpath("tracks").mkdir()
    with pytest.raises(
        InputError, match="no face track of the training split; give it clips of split train with a face"
    ):
        load_material(tmp_path / "tracks")
    add(tmp_path / "tracks", "a", "b")
    assert len(load_material(tmp_path / "tracks", coefficients=8).train) == 2


def add(cache: Path, *people: str) -> None:
    """Follow an advice: clips of the training split in which the mouth follows the speech, one of each person."""
    for number, person in enumerate(people):
        save_track(make_track(f"new{number}", person, seed=number), cache / f"new{number}.safetensors")


def test_splits_of_one_person_are_one_sentence(tmp_path: Path) -> None:
    cache = tmp_path / "tracks"
    cache.mkdir()
    for name, split in (("a", "train"), ("b", "val")):
        save_track(make_track(name, "same", split=split), cache / f"{name}.safetensors")
    with pytest.raises(InputError, match="give the two splits different people"):
        load_material(cache)
    add(cache, "other")
    assert [track.identity for track in load_material(cache, coefficients=8).train] == ["other"]


def test_clips_that_all_lose_the_face_are_one_sentence(tmp_path: Path) -> None:
    cache = tmp_path / "tracks"
    cache.mkdir()
    track = make_track("a", "a")
    save_track(replace(track, scores=np.zeros_like(track.scores)), cache / "a.safetensors")
    with pytest.raises(
        InputError, match=r"In none of the 1 training clips .*sync.json for .* add clips that are in sync"
    ):
        load_material(cache, coefficients=8)
    add(cache, "b", "c")
    assert {track.identity for track in load_material(cache, coefficients=8).train} == {"b", "c"}


def validation_of(trainer: Trainer) -> Validation:
    """The validation among the callbacks of a trainer."""
    (found,) = (one.figures for one in trainer.callbacks if isinstance(one, Validate))
    assert isinstance(found, Validation)
    return found


def test_validation_compares_own_with_exchanged_speech(tmp_path: Path) -> None:
    material = load_material(write_cache(tmp_path / "tracks"))
    trainer = make_trainer(material, TINY_TRANSFORMER, tmp_path / "run")
    samples = validation_of(trainer).windows
    assert len(samples) == 6  # three of each held-out track
    true = torch.stack([sample.latents for sample in samples])
    curves = openings(material.codec, true)
    assert curves.shape == (6, 9)
    assert torch.allclose(opening_correlation(3 * curves + 1, curves), torch.ones(6), atol=1e-3)
    assert torch.allclose(opening_correlation(-curves, curves), -torch.ones(6), atol=1e-3)
    assert torch.equal(opening_correlation(torch.ones_like(curves), curves), torch.zeros(6))
    model = trainer.averaged()
    audio = [sample.audio for sample in samples if sample.audio is not None]
    one, two, other = (
        sample_latents(model, samples, audio, replace(validation_of(trainer).settings, steps=2, seed=seed))
        for seed in (0, 0, 1)
    )
    assert one.shape == true.shape
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_validation_samples_by_the_formula_with_the_shift_and_identity_scale_of_the_run(tmp_path: Path) -> None:
    """v(silent) + g (v(speech) - v(silent)), g 1 on the channels of head pose; Euler steps over shifted noise levels."""
    material = load_material(write_cache(tmp_path / "tracks"))
    config = replace(TINY_TRANSFORMER, shift=2.0, identity_scale=0.8)
    validate = validation_of(make_trainer(material, config, tmp_path / "run"))
    samples = validate.windows
    audio = [sample.audio for sample in samples if sample.audio is not None]
    model = FantasyTalkingTransformer3DModel(**config.model).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # a fresh model hears and sees nothing
            if parameter.count_nonzero() == 0:
                parameter.normal_(std=0.1)
    settings = replace(validate.settings, steps=3)
    made = sample_latents(model, samples, audio, settings, material.codec.audio_channels)

    batch = collate(samples, "frame", 0.8, torch.ones(len(samples), 3))
    heard = conditioned(batch.conditions, motion=torch.full((len(samples), 2), 0.5))
    channels = torch.tensor([2.0] * 8 + [1.0] * 8).view(1, 16, 1, 1, 1)
    u = torch.linspace(1, 0, 4)
    sigmas = 2 * u / (1 + u)
    latents = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for now, after in itertools.pairwise(sigmas):
            inputs, times = torch.cat([latents, batch.condition], 1), (1000 * now).expand(len(samples))
            silent = model(inputs, times, conditioned(heard, audio=None)).sample
            guided = silent + channels * (model(inputs, times, heard).sample - silent)
            latents = latents + (after - now) * guided
    torch.testing.assert_close(made, latents, atol=1e-4, rtol=1e-4)
    other = sample_latents(model, samples, audio, replace(settings, identity_scale=0.1), material.codec.audio_channels)
    assert not torch.allclose(made, other, atol=1e-3)


def test_a_model_without_identity_module_is_trained_and_validated_without_it(tmp_path: Path) -> None:
    material = load_material(write_cache(tmp_path / "tracks"))
    without = {k: v for k, v in TINY_TRANSFORMER.model.items() if not k.startswith("identity")}
    trainer = make_trainer(material, replace(TINY_TRANSFORMER, model=without), tmp_path / "run")
    assert trainer.prepare(0).samples.conditions.identity is None
    assert trainer.train(until=2) == 2
    figures = validation_of(trainer)(trainer.averaged())
    assert set(figures) == {"r", "r_shuffled", "spread", "closed", "expression", "head"}
    assert 0 <= figures["closed"] <= 1 and figures["spread"] > 0
    usual = make_trainer(material, TINY_TRANSFORMER, tmp_path / "usual")
    assert usual.prepare(0).samples.conditions.identity is not None


def test_validation_windows_are_spread_over_the_track() -> None:
    from tests.data.test_motion_dataset import dataset

    windows = even_windows(dataset())
    assert len(windows) == 3 * len(tracks())
    starts = {int(sample.name.rpartition("@")[2]) for sample in windows}
    assert min(starts) == 0
    assert max(starts) == 100 - 9 - 1
    track = dataset().people.groups["person0"][0]
    assert torch.equal(windows[0].latents, dataset().window(track, 0, 9).latents)


def test_window_lengths_that_no_clip_reaches_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    material = load_material(write_cache(tmp_path / "tracks"))
    config = replace(TINY_TRANSFORMER, frames=(9, 9, 9001), batch_tokens=2251)
    source = window_source(material, config)
    assert source.frames == (9, 9)
    assert "no clip is long enough for windows of 9001 frames" in capsys.readouterr().err
    with pytest.raises(InputError, match="at least 9001 frames long, but no usable clip"):
        window_source(material, replace(config, frames=(9001,)))


def test_clips_as_long_as_is_asked_for_and_shorter_windows_are_trained_on(tmp_path: Path) -> None:
    material = load_material(write_cache(tmp_path / "tracks"))
    config = replace(TINY_TRANSFORMER, frames=(97,), batch_tokens=25)
    with pytest.raises(InputError, match=r"add longer clips, or give shorter windows with --train\.frames") as caught:
        window_source(material, config)
    asked = re.search(r"no usable clip reaches ([\d.]+) s", str(caught.value))
    assert asked is not None
    for frames, enough in ((round(25 * float(asked[1])) - 1, False), (round(25 * float(asked[1])), True)):
        longer = replace(material, train=[prepare(make_track("longer", "one", frames=frames))])
        with nullcontext() if enough else pytest.raises(InputError, match="add longer clips"):
            window_source(longer, config).sample(97, np.random.default_rng(0))
    window_source(material, replace(config, frames=(89,)))


def test_training_goes_on_from_a_finished_model(tmp_path: Path) -> None:
    material = load_material(write_cache(tmp_path / "tracks"), load_start("embedded").vae.codec)
    start = load_start("embedded")
    config = replace(TINY_TRANSFORMER, model=start.transformer.plain_config(), frames=(9,), batch_tokens=6)
    before = {k: v.clone() for k, v in start.transformer.float().state_dict().items()}
    trainer = make_trainer(material, config, tmp_path / "run", start.transformer)
    assert all(torch.equal(v, before[k]) for k, v in trainer.engine.bare_model.state_dict().items())
    trainer.train(until=1)
    changed = [k for k, v in trainer.engine.bare_model.state_dict().items() if not torch.equal(v, before[k])]
    assert len(changed) > 0.9 * len(before)
