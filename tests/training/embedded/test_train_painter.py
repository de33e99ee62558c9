"""Training the mouth painter."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.autoencoder.mouth_crops import CROP, crop_transform, draw_lips, lips_in_crop, take_crop
from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.data.motion_dataset import PreparedTrack
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.media.video import write_video
from fantasytalking.training.embedded.mouth_pairs import MouthPair, MouthPairs, clip_pairs, collect_pairs, frames_in
from fantasytalking.training.embedded.train_painter import (
    MouthPainting,
    PainterBatch,
    PainterConfig,
    PairDraw,
    PairSource,
    painter_batch,
    painter_config,
    painter_loss,
    train_painter,
)
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.run_folder import RunFolder
from tests.media.files import frame_numbers, numbered_frames
from tests.pipeline.tiny_pipeline import portrait
from tests.training.synthetic import open_mouth, own_mesh


@cache
def pairs() -> MouthPairs:
    """Four pairs of the example portrait: the warp lacks what the target has, a dark open mouth."""
    mesh = open_mouth(own_mesh(), np.array([0.08], np.float32))[0]
    transform = crop_transform(mesh)
    crop, lips = take_crop(portrait(), transform), lips_in_crop(mesh, transform)
    target = crop.copy()
    target[draw_lips(lips, (CROP, CROP), CROP)[0] > 128] = 20
    return MouthPairs.of([MouthPair(crop, crop, target, lips, lips, 1.0)] * 4)


def painter() -> MouthPainter:
    torch.manual_seed(0)
    return MouthPainter((8, 8))


def as_they_are(some: MouthPairs, count: int) -> PainterBatch:
    """The first pairs, without variation."""
    one, zero = np.ones((3, 1, 1), np.float32), np.zeros((3, 1, 1), np.float32)
    return painter_batch(some, [PairDraw(i, False, one, zero) for i in range(count)])


def train(net: MouthPainter, folder: Path, steps: int, batch: int, **changes: object) -> MouthPainter:
    """Train on `pairs`."""
    config = replace(painter_config(steps, batch, 3e-3), tensorboard=False, **changes)  # type: ignore[arg-type]
    return train_painter(net, pairs(), config, RunFolder(folder))


def track(name: str, first: int, frames: int) -> PreparedTrack:
    points = torch.from_numpy(open_mouth(own_mesh(), np.linspace(0, 0.08, frames).astype(np.float32)))
    return PreparedTrack(name, "someone", "real", points, torch.zeros(2 * frames, 4), torch.zeros(4), first)


def test_pictures_are_taken_from_the_frames_that_the_mesh_belongs_to(tmp_path: Path) -> None:
    """A clip that was put in step begins later in the video than at its first frame."""
    write_video(tmp_path / "a.mp4", numbered_frames(16, 192, 192), 25, preset="ultrafast")
    rows = list(clip_pairs(frames_in(tmp_path), track("a.mp4", 5, 11), 24, np.random.default_rng(0)))
    assert len(rows) == 24
    _, portraits, targets, lips, own_lips, _ = (np.stack(column) for column in zip(*rows, strict=True))
    assert portraits.shape == (24, CROP, CROP, 3)
    assert lips.shape == own_lips.shape == (24, 2, 20, 2)
    references, shown = frame_numbers(portraits), frame_numbers(targets)
    assert min(*references, *shown) >= 5
    assert max(*references, *shown) <= 15
    # the most open and the most closed quarter
    assert min(shown[::4]) >= 14 and max(shown[1::4]) <= 6
    assert sum(number >= 14 for number in references) == sum(number <= 6 for number in references) == 12


def test_every_identity_gives_as_many_pairs(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"{name}.mp4", numbered_frames(8, 192, 192), 25, preset="ultrafast")
    tracks = [track("a.mp4", 0, 8), track("b.mp4", 0, 8), track("c.mp4", 0, 8)]
    tracks[2].identity = "other"
    collected = collect_pairs(frames_in(tmp_path), tracks, 8)
    assert len(collected) == 16
    collected.save(tmp_path / "pairs.npz")
    back = MouthPairs.load(tmp_path / "pairs.npz")
    assert all(np.array_equal(getattr(back, n), value) for n, value in vars(collected).items())
    assert not list(tmp_path.glob("*.part"))


def test_without_tracks_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no face track"):
        collect_pairs(frames_in(tmp_path), [], 8)


def test_inputs_and_target_are_mirrored_and_recoloured_alike() -> None:
    same = replace(pairs(), warped=pairs().target, portrait=pairs().target)
    plain = as_they_are(same, 4).inputs
    for seed in range(4):
        draws = [draw._replace(pair=i) for i, draw in enumerate(PairSource(same, 4, seed).plan(0))]
        inputs, target = painter_batch(same, draws)
        assert torch.allclose(inputs[:, :3], target, atol=1e-6)
        assert torch.allclose(inputs[:, 3:6], target, atol=1e-6)
        assert torch.equal(inputs[:, 6:], plain[:, 6:]) or torch.equal(inputs[:, 6:], plain[:, 6:].flip(-1))
        assert inputs[:, :6].abs().max() <= 1


def test_a_perfect_blend_costs_nothing_and_only_the_mouth_counts() -> None:
    inputs, target = as_they_are(pairs(), 2)
    region = inputs[:, 9:10]

    def copy(picture: torch.Tensor) -> torch.nn.Module:
        class Copy(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                return picture, (x[:, 9:10] > 0).float()

        return Copy()

    loss, blend = painter_loss(copy(target), inputs, target, None)
    assert loss.shape == (2,)
    assert blend.shape == target.shape
    assert loss.max() < 1e-6
    elsewhere = target + 0.5 * (region == 0)
    assert torch.allclose(painter_loss(copy(target), inputs, elsewhere, None)[0], loss, atol=0.05)
    assert painter_loss(copy(inputs[:, :3]), inputs, target, None)[0].min() > 0.01


def same(a: MouthPainter, b: MouthPainter) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_it_learns_and_a_finished_run_is_taken_from_its_checkpoint(tmp_path: Path) -> None:
    inputs, target = as_they_are(pairs(), 4)
    net = painter()
    with torch.no_grad():
        before = painter_loss(net, inputs, target, None)[0].mean()
    train(net, tmp_path, 60, 1)
    with torch.no_grad():
        assert painter_loss(net, inputs, target, None)[0].mean() < 0.97 * before
    again = painter()
    train(again, tmp_path, 60, 1)
    assert same(net, again)
    assert [r["step"] for r in RunFolder(tmp_path).records()] == [1, 2, 5, 10, 20, 50]
    assert not list(tmp_path.glob(".*"))


def test_a_run_in_two_parts_equals_a_run_in_one_and_takes_no_other_settings(tmp_path: Path) -> None:
    whole = train(painter(), tmp_path / "one", 6, 2)
    config = replace(painter_config(6, 2, 3e-3), tensorboard=False)

    def part(config: PainterConfig, data: str = "a") -> Trainer:
        source = PairSource(pairs(), config.batch, config.seed, data)
        return Trainer(painter(), source, MouthPainting(), config, RunFolder(tmp_path / "two"))

    assert part(config).train(until=4) == 4
    second = part(config)
    assert second.step == 4 and second.train() == 6
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in second.averaged().state_dict().items())
    with pytest.raises(SettingsError, match=r"other settings \(batch: 2 there, 3 now\)"):
        part(replace(config, batch=3))
    with pytest.raises(SettingsError, match=r"other settings \(data: checksum a there, b now\)"):
        part(config, "b")
    assert part(replace(config, log_every=1, accumulate=2)).step == 6


def test_parts_of_a_batch_are_varied_as_the_whole(tmp_path: Path) -> None:
    made = PairSource(pairs(), 4, 3)
    objective = MouthPainting()
    whole = objective.prepare(made, 5, range(4))
    some = objective.prepare(made, 5, [3, 1])
    assert torch.equal(some.inputs, whole.inputs[[3, 1]])
    assert torch.equal(some.target, whole.target[[3, 1]])
