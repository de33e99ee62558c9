"""Training the lip-sync network: windows, loss, loop, figures, and the command on raw videos."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fantasytalking.cli.__main__ import main
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.perception.lip_sync import (
    MAX_OFFSET,
    MOUTH_REACH,
    SPEECH_REACH,
    LipSync,
    LipSyncNetwork,
    SyncCurve,
)
from fantasytalking.perception.mouth_view import CROP_HEIGHT, CROP_WIDTH, SHAPE_DIM, MouthView, see_mouth
from fantasytalking.perception.sync_judgement import Alignment, judge
from fantasytalking.training.embedded.linear_sync import fit_ridge
from fantasytalking.training.lip_sync.align_clips import cross_align, deal, reference_offset
from fantasytalking.training.lip_sync.lip_sync_data import (
    MouthClip,
    SyncWindows,
    make_clip,
    mirror_index,
    mirror_signs,
    moved,
)
from fantasytalking.training.lip_sync.lip_sync_figures import (
    ClipMeasure,
    area_under_curve,
    correlation_cost,
    distance_cost,
    figures,
)
from fantasytalking.training.lip_sync.lip_sync_objective import (
    LipSyncConfig,
    LipSyncObjective,
    LipSyncRecipe,
    ScaledNetwork,
    averaged_network,
    lip_sync_trainer,
    new_network,
    sync_loss,
)
from fantasytalking.training.lip_sync.lip_sync_recipes import LIP_SYNC_RECIPES, Variation
from fantasytalking.training.lip_sync.train_lip_sync import (
    average_face,
    require_length,
    training_clips,
    validation_table,
)
from fantasytalking.training.trainer.config import Schedule
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.run_folder import RunFolder
from tests.cli.test_train import make_video
from tests.training.synthetic import make_track, open_mouth, own_mesh, tracks

PLAIN = Variation(*[0.0] * 11)
CONFIG = replace(
    LIP_SYNC_RECIPES["lip-sync"].train,
    stages=(Schedule("lip-sync", 16, 2e-3, warmup=5, final_fraction=0.02),),
    batch=4,
    window=8,
    log_every=8,
    generated_weight=0.0,
    tensorboard=False,
)
TINY = LipSyncRecipe(CONFIG, align_steps=1)


@cache
def views() -> dict[str, MouthView]:
    """Of the made-up tracks: the true shape, and grey crops that get darker as the mouth opens."""
    made = {}
    for track in tracks():
        shape = see_mouth(np.zeros((len(track.points), 64, 64, 3), np.uint8), track.points, None, average_face()).shape
        level = np.clip(128 - 20 * shape[:, -3], 0, 255).astype(np.uint8)
        crops = np.broadcast_to(level[:, None, None], (len(level), CROP_HEIGHT, CROP_WIDTH)).copy()
        made[track.info.file] = MouthView(shape, crops)
    return made


def windows(variation: Variation | None = None, window: int = 8) -> SyncWindows:
    clips = [make_clip(t, views()[t.info.file]) for t in tracks()]
    return SyncWindows(clips, window, 0.0, variation or Variation(), CONFIG.batch)


def test_clips_as_long_as_is_asked_for_and_the_window_that_is_advised_are_trained_on() -> None:
    """Before, 20 frames passed for windows of 17, and the run ended when the networks that align clips were trained."""
    whole = make_clip(tracks()[0], views()["clip0.mp4"])

    def cut(frames: int) -> list[MouthClip]:
        return [
            replace(whole, shape=whole.shape[:frames], crops=whole.crops[:frames], speech=whole.speech[: 2 * frames])
        ]

    def trains(frames: int, window: int) -> None:
        require_length(cut(frames), replace(CONFIG, window=window), Path("videos"))
        made = SyncWindows(cut(frames), window, 0.0, Variation(), CONFIG.batch)
        assert len(made.draw(2, np.random.default_rng(0)).shape) == 2

    with pytest.raises(InputError, match="add longer clips, or give") as caught:
        trains(20, 17)
    asked = re.search(r"as long as ([\d.]+) s; .* --train.window of at most (\d+)", str(caught.value))
    assert asked is not None
    trains(round(25 * float(asked[1])), 17)
    trains(20, int(asked[2]))
    with pytest.raises(InputError, match="add longer clips"):
        trains(20, int(asked[2]) + 1)


def test_a_batch_holds_mouth_and_speech_of_the_same_moment() -> None:
    frames = 60
    track = make_track("a", "someone", frames=frames)
    ramp = np.arange(frames, dtype=np.float32)
    shape = np.repeat(ramp[:, None], SHAPE_DIM, 1)
    crops = np.broadcast_to((4 * ramp)[:, None, None].astype(np.uint8), (frames, CROP_HEIGHT, CROP_WIDTH)).copy()
    speech = np.repeat(np.arange(2 * frames, dtype=np.float32)[:, None] / 2, 384, 1)
    clip = make_clip(replace(track, speech=speech.astype(np.float16)), MouthView(shape, crops))
    for variation in (PLAIN, replace(PLAIN, stretch=1.0, tempo=0.1)):
        batch = SyncWindows([clip], 8, 0.0, variation).draw(16, np.random.default_rng(0))
        assert batch.shape.shape == (16, 8 + 2 * MOUTH_REACH, SHAPE_DIM)
        assert batch.speech.shape == (16, 2 * (8 + 2 * MAX_OFFSET + 2 * SPEECH_REACH), 384)
        assert batch.inside.shape == (16, 8 + 2 * MAX_OFFSET)
        scale = batch.shape[:, MOUTH_REACH : MOUTH_REACH + 8, 0] / 1.0
        heard = batch.speech[:, ::2, 0][:, SPEECH_REACH + MAX_OFFSET : SPEECH_REACH + MAX_OFFSET + 8]
        ratio = scale / heard.clamp_min(1)
        assert (ratio.std(1) / ratio.mean(1))[heard.min(1).values > 2].max() < 0.02  # one clip-wide gain only
    middle = batch.pixels[:, MOUTH_REACH, 24, 36] * (crops[::1].astype(np.float32).std() + 4) + crops.mean()
    assert np.corrcoef(middle.numpy(), heard[:, 0].numpy())[0, 1] > 0.99


def test_speech_beyond_the_clip_is_marked() -> None:
    batch = windows(PLAIN).draw(64, np.random.default_rng(1))
    assert batch.inside[:, MAX_OFFSET : MAX_OFFSET + 8].all()
    assert not batch.inside.all()


def test_a_mirrored_shape_is_that_of_the_mirrored_mesh() -> None:
    face, axis = average_face(), np.array([-1, 1, 1], np.float32)
    mesh = np.repeat(face[None], 4, 0)
    mesh[1:] += 0.02 * np.random.default_rng(0).standard_normal((3, 468, 3)).astype(np.float32)
    wide = torch.from_numpy(open_mouth(face, np.array([0.08], np.float32))[0])  # no two points in one place
    mirrored = mesh[:, torch.cdist(wide * torch.from_numpy(axis), wide).argmin(1).numpy()] * axis
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    plain, other = (see_mouth(frames, m, None, face).shape for m in (mesh, mirrored))
    swapped = torch.from_numpy(plain)[:, mirror_index()] * mirror_signs()
    assert np.abs(swapped.numpy() - other).max() < 0.02


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(0)), dim=-1)


def mean_loss(
    mouth: torch.Tensor,
    speech: torch.Tensor,
    inside: torch.Tensor,
    scale: torch.Tensor,
    frames: int,
    smoothing: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and accuracy over all mouths."""
    loss, accuracy = sync_loss(mouth, speech, inside, scale, frames, smoothing, torch.arange(len(mouth)))
    return loss.mean(), accuracy.mean()


def test_the_loss_is_small_where_mouth_and_speech_agree_and_one_frame_late_costs() -> None:
    speech = unit(4, 8 + 2 * MAX_OFFSET, 32)
    inside, scale = torch.ones(4, 8 + 2 * MAX_OFFSET, dtype=torch.bool), torch.tensor(20.0)
    right, accuracy = mean_loss(speech[:, MAX_OFFSET : MAX_OFFSET + 8], speech, inside, scale, 4)
    late, none = mean_loss(speech[:, MAX_OFFSET - 1 : MAX_OFFSET + 7], speech, inside, scale, 4)
    assert right < 0.01
    assert accuracy == 1
    assert late > 5
    assert none == 0
    unrelated, _ = mean_loss(unit(4, 8, 32), 0 * speech, inside, scale, 4)
    assert float(unrelated) == pytest.approx(np.log(2 * MAX_OFFSET + 1 + 3), rel=1e-4)


def test_frames_outside_the_clip_are_no_negatives() -> None:
    speech = unit(2, 8 + 2 * MAX_OFFSET, 32)
    inside = torch.zeros(2, 8 + 2 * MAX_OFFSET, dtype=torch.bool)
    inside[:, MAX_OFFSET : MAX_OFFSET + 8] = True
    loss, accuracy = mean_loss(unit(2, 8, 32), 0 * speech, inside, torch.tensor(20.0), 8, smoothing=0.1)
    assert float(loss) == pytest.approx(0.9 * np.log(2), rel=1e-4)
    assert accuracy == 1


def test_training_lowers_the_loss_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    def trainer(folder: str) -> Trainer:
        return trainer_of(fresh_network(), windows(), tmp_path / folder)

    whole = trainer("whole")
    with torch.no_grad():
        before = np.mean([float(whole.losses(step).total.mean()) for step in (100, 101)])
    assert whole.train() == CONFIG.total_steps
    with torch.no_grad():
        after = np.mean([float(whole.losses(step).total.mean()) for step in (100, 101)])
    assert after < 0.9 * before
    assert trainer("parts").train(until=6) == 6
    second = trainer("parts")
    assert second.step == 6
    second.train()
    for name, value in whole.engine.bare_model.state_dict().items():
        assert torch.equal(value, second.engine.bare_model.state_dict()[name]), name
    assert isinstance(averaged_network(whole), LipSync)
    records = RunFolder(tmp_path / "parts").records()
    assert [r["step"] for r in records] == [1, 2, 5, 8, 16]
    assert all(set(r) >= {"loss", "accuracy", "norm"} for r in records)


def test_another_configuration_or_other_data_is_refused(tmp_path: Path) -> None:
    trainer_of(fresh_network(), windows(), tmp_path).train(until=1)
    for change, sentence in (
        ({"window": 9}, r"other settings \(window: 8 there, 9 now\)"),
        ({"variation": replace(Variation(), mirror=0.0)}, r"other settings \(variation.mirror: 0.5 there, 0.0 now\)"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            trainer_of(fresh_network(), windows(), tmp_path, **change)
    assert trainer_of(fresh_network(), windows(), tmp_path, log_every=1).step == 1
    known = windows()
    known.fingerprint = "a"
    trainer_of(fresh_network(), known, tmp_path)
    other = windows()
    other.fingerprint = "b"
    with pytest.raises(SettingsError, match="data: checksum a there, b now"):
        trainer_of(fresh_network(), other, tmp_path)


def test_sharded_weights_are_refused() -> None:
    engine = replace(Engine.create(fresh_network(), 1e-3, 0.0, 1.0), sharded=True)
    with pytest.raises(SettingsError, match="cannot spread its weights over processes"):
        LipSyncObjective(CONFIG).begin(engine, {})


def test_shares_of_a_batch_add_up_to_the_whole() -> None:
    """Every process compares its own mouths with the speech of all, so the number of processes changes no loss."""
    objective, network = LipSyncObjective(CONFIG), ScaledNetwork(fresh_network()).eval()
    source = windows()
    with torch.no_grad():
        whole = objective.losses(network, objective.prepare(source, 3, range(4)), 3)
        some = [objective.losses(network, objective.prepare(source, 3, rows), 3) for rows in ([0, 1], [2, 3])]
    for name in ("accuracy",):
        assert torch.equal(torch.cat([part.parts[name] for part in some]), whole.parts[name])
    torch.testing.assert_close(torch.cat([part.total for part in some]), whole.total)


def fresh_network() -> LipSyncNetwork:
    clips = [clip for group in windows().people.groups.values() for clip in group]
    return new_network(clips, average_face(), 0)


def trainer_of(network: LipSyncNetwork, source: SyncWindows, folder: Path, **changes: Any) -> Trainer:
    config: LipSyncConfig = replace(CONFIG, **changes)
    return lip_sync_trainer(network, source, config, RunFolder(folder))


def test_training_clips_are_put_in_step_and_strangers_to_the_validation_split(tmp_path: Path) -> None:
    late = make_track("late", "person0", seed=3, lag=5)
    leak = make_track("leak", "held", seed=9)
    held = make_track("held", "held", seed=10, split="val")
    given = {t.info.file: t for t in (*tracks(), late, leak, held)}
    seen = {
        name: views().get(name, MouthView(np.zeros((100, SHAPE_DIM), np.float32), np.zeros((100, 2, 2), np.uint8)))
        for name in given
    }
    clips, ridge = training_clips(given, seen, tmp_path / "sync.json")
    lengths = {clip.name: len(clip) for clip in clips}
    assert "leak.mp4" not in lengths
    assert "held.mp4" not in lengths
    assert lengths["clip0.mp4"] == 100
    assert abs(lengths["late.mp4"] - 95) <= 1
    assert len(ridge) == 7 * 384 + 1
    assert json.loads((tmp_path / "sync.json").read_text())["late.mp4"]["offset"] in (4, 5, 6)
    with pytest.raises(InputError, match="learns from real clips"):
        training_clips({"held": held}, seen, tmp_path / "sync.json")


def test_a_clip_is_moved_only_to_where_the_curve_is_clearly_lower() -> None:
    offsets, flat = np.arange(-15, 16), np.full(31, 1.4)

    def curve(at: int, value: float, zero: float = 1.4) -> SyncCurve:
        distances = flat.copy()
        distances[15], distances[15 + at] = zero, value
        return SyncCurve(offsets, distances)

    found = judge(curve(-3, 0.9))
    assert found == Alignment(-3, 0.9, 1.4, found.confidence) and found.confidence == pytest.approx(0.5)
    assert judge(curve(1, 0.9, zero=0.93)).offset == 0  # no clear difference
    assert judge(curve(4, 1.3)).offset == 0  # nothing stands out
    assert judge(curve(13, 0.9)).offset == 0  # too far to be believed


@pytest.mark.parametrize("lag", [3, -3])
def test_a_moved_clip_is_in_step(lag: int) -> None:
    plain = make_clip(tracks()[0], views()["clip0.mp4"])
    late = replace(plain, shape=plain.shape[10 - lag : 60 - lag], crops=plain.crops[10 - lag : 60 - lag])
    late = replace(late, speech=plain.speech[20:120])
    back = moved(late, lag)
    assert len(back) == 47
    first = 10 + max(0, -lag)
    assert torch.equal(back.shape, plain.shape[first : first + 47])
    assert torch.equal(back.speech, plain.speech[2 * first : 2 * (first + 47)])


def test_clips_are_judged_by_networks_of_other_people(tmp_path: Path) -> None:
    clips = [make_clip(t, views()[t.info.file]) for t in tracks()]
    folds = deal(clips, 3, seed=0)
    assert set.union(*folds) == {f"person{i}" for i in range(4)}
    assert sum(map(len, folds)) == 4
    aligned, found, judges = cross_align(clips, TINY, average_face(), tmp_path)
    assert set(found) == {clip.name for clip in clips}
    assert [len(a) for a in aligned] == [len(c) - abs(found[c.name].offset) for c in clips]
    assert len(judges) == 3
    assert abs(reference_offset(judges, clips[0])) <= MAX_OFFSET
    assert reference_offset([], clips[0]) == 0
    alone = [clip for clip in clips if clip.identity == "person0"]
    assert cross_align(alone, TINY, average_face(), tmp_path) == (alone, {}, [])


def events(count: int, seed: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_figures_are_one_for_a_perfect_measure_and_a_half_for_none() -> None:
    perfect, none = [], []
    for seed in range(6):
        shared, other = events(120, seed), events(120, 50 + seed)
        perfect.append(ClipMeasure("a", 120, distance_cost(shared, shared), distance_cost(shared, other)))
        none.append(ClipMeasure("b", 120, distance_cost(shared, other)))
    for row in figures(perfect, (10, 50, 0)):
        assert all(row[k] == 1 for k in ("pairwise", "shift_1", "shift_15", "within_1", "auc_shifted", "auc_foreign"))
    row = figures(none, (10,))[0]
    assert row["windows"] == 6 * 23
    assert row["pairwise"] == pytest.approx(0.5, abs=0.1)
    assert row["auc_shifted"] == pytest.approx(0.5, abs=0.1)
    assert np.isnan(row["auc_foreign"])


def test_a_constant_lag_is_no_success() -> None:
    shared = events(140, 1)
    late = [ClipMeasure("late", 120, distance_cost(shared[3:123], shared[:120]))]
    row = figures(late, (25,))[0]
    assert row["shift_3"] < 0.5  # it always loses against one of the two signs
    assert row["within_1"] == 0


def test_correlation_and_area_have_their_known_values() -> None:
    cost = correlation_cost(np.arange(9.0, dtype=np.float32), np.array([0, 1, 2, 1, 0, 0, 0, 0, 0], np.float32))
    assert cost(0, 3, 0) == pytest.approx(-1)
    assert cost(0, 3, 2) == pytest.approx(1)
    assert cost(0, 3, 5) == 0
    assert area_under_curve([2, 3], [1, 2]) == pytest.approx(0.875)
    assert np.isnan(area_under_curve([1.0], []))


def test_the_table_has_clips_in_step_and_as_they_were_published() -> None:
    late = [make_track(f"held{i}", f"stranger{i}", seed=50 + i, lag=4, split="val") for i in range(2)]
    blank = MouthView(np.zeros((100, SHAPE_DIM), np.float32), np.zeros((100, CROP_HEIGHT, CROP_WIDTH), np.uint8))
    pairs = [(track, make_clip(track, blank)) for track in late]
    network = LipSync(new_network([clip for _, clip in pairs], average_face(), 0))
    table = validation_table(network, pairs, fit_ridge(tracks()), {track.info.file: 4 for track in late})
    assert set(table) == {"real_in_step", "real_as_published", "clips"}
    put, found = (table[f"real_{state}"]["ridge"][-1] for state in ("in_step", "as_published"))  # whole clips
    assert (put["within_1"], found["within_1"]) == (1, 0)
    assert put["pairwise"] > 0.95 > found["pairwise"]
    row = table["clips"][0]
    assert (row["clip"], row["reference_offset"], row["ridge_correlation"] > 0.5) == ("held0.mp4", 4, True)
    assert set(row["offset_of_sound_moved_by"]) == {"-8", "-5", "-1", "1", "5", "8"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    rows = []
    for number, (start, split) in enumerate(((0.2, "train"), (2.2, "train"), (1.2, "val"))):
        make_video(folder / f"{number}.mp4", start, number)
        rows.append({"file": f"{number}.mp4", "identity": f"person{number}", "kind": "real", "split": split})
    rows[2]["split"] = "train"  # the one face of these videos cannot be in both splits
    (folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


@pytest.mark.slow
def test_the_command_makes_weights_from_raw_videos(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIP_SYNC_RECIPES, "lip-sync", TINY.scaled_to(2))
    run = tmp_path / "run"
    words = ["train", "lip-sync", "--data", str(videos), "--output", str(run), "--steps", "3"]
    assert main(words) == 0
    weights, shown = run / "lip_sync.safetensors", capsys.readouterr()
    assert shown.out == f"{weights}\n"
    assert (
        all(f"{name}: done in" in shown.err for name in ("face tracks", "mouths")) and "network: step 1 of" in shown.err
    )
    assert LipSync.from_file(weights).embed_speech(np.zeros((8, 384), np.float32)).shape == (4, 128)
    assert weights.stat().st_size < 4_000_000
    assert (run / "figures.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in [*run.glob("tracks/*.safetensors"), *run.glob("mouths/*")]}
    assert len(kept) == 6
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(weights), "recipe": "lip-sync"}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_the_network_has_no_mouth_painter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "lip-sync", "--data", str(tmp_path), "--output", str(tmp_path / "run"), "--painter-steps", "3"]
    assert main(words) == 2
    assert "leave --painter-steps out" in capsys.readouterr().err


def test_an_embedding_sees_its_own_few_frames_only() -> None:
    torch.manual_seed(0)
    network = LipSyncNetwork().eval()
    shape, pixels = torch.randn(1, 30, SHAPE_DIM), torch.randn(1, 30, 48, 72)
    with torch.no_grad():
        before = network.mouth(shape, pixels)
        shape[:, 20], pixels[:, 20] = 9, 9
        after = network.mouth(shape, pixels)
    changed = ((before - after).abs().amax((0, 2)) > 1e-5).nonzero().flatten() + MOUTH_REACH
    assert changed.min() == 20 - MOUTH_REACH
    assert changed.max() == 24
    assert own_mesh().shape == (468, 3)
