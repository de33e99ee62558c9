"""SyncNet at full size with random weights; the original's embeddings and curve agree (docs/metric-networks.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.errors import CheckpointError, InputError
from fantasytalking.evaluation.networks.syncnet import SyncNet, SyncNetwork, load, padded_curve
from fantasytalking.evaluation.networks.syncnet_crops import mesh_boxes, mouth_crops
from tests.evaluation.networks.random_weights import pictures, randomise

FRAMES = 12


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> SyncNet:
    path = tmp_path_factory.mktemp("weights") / "syncnet_v2.model"
    torch.save(randomise(SyncNetwork()).state_dict(), path)
    return load(path)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return pictures(FRAMES, 224, 224)


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(640 * FRAMES) * 0.1


def test_its_names_are_those_of_the_published_file() -> None:
    state = SyncNetwork().state_dict()
    shapes = {
        "netcnnaud.0.weight": (64, 1, 3, 3), "netcnnaud.18.weight": (512, 256, 5, 4), "netcnnaud.19.running_mean": (512,),
        "netfcaud.3.weight": (1024, 512), "netfclip.1.weight": (512,), "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.4.weight": (256, 96, 1, 5, 5), "netcnnlip.18.weight": (512, 256, 1, 6, 6),
    }  # fmt: skip
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    # the published file has 54.6 MB: these numbers and 0.05 MB of packing
    assert 54.4e6 < 4 * sum(value.numel() for value in state.values()) < 54.6e6


def test_five_frames_are_one_window_and_colours_go_in_as_opencv_reads_them(network: SyncNet, crops: np.ndarray) -> None:
    found = network.mouth(crops)
    assert found.shape == (FRAMES - 4, 1024)
    with torch.inference_mode():
        window = torch.from_numpy(crops[3:8, ..., ::-1].copy()).permute(3, 0, 1, 2)[None].float()
        np.testing.assert_allclose(network.network.mouth(window).numpy()[0], found[3], rtol=1e-3, atol=1e-2)


def test_a_fifth_of_a_second_is_one_window_of_speech(network: SyncNet, sound: np.ndarray) -> None:
    found = network.speech(sound)
    assert found.shape == (FRAMES - 4, 1024)
    moved = network.speech(sound[640:])
    # the first sample of a sound has no predecessor, so its first MFCC frame is another
    np.testing.assert_allclose(moved[1:6], found[2:7], rtol=1e-3, atol=1e-2)


def test_the_curve_is_the_originals_arithmetic_with_its_zeros_at_the_ends() -> None:
    rng = np.random.default_rng(1)
    mouth, speech = rng.standard_normal((2, 20, 8)).astype(np.float32)
    curve = padded_curve(mouth, speech, 3)
    expected = []
    for i in range(7):
        padded = np.concatenate([np.zeros((3, 8)), speech, np.zeros((3, 8))])[i : i + 20]
        expected.append(np.sqrt(((mouth - padded + 1e-6) ** 2).sum(1)).mean())
    np.testing.assert_allclose(curve.distances, expected[::-1], rtol=1e-6)
    assert curve.offsets.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert curve.distance == pytest.approx(min(expected), rel=1e-6)
    assert curve.confidence == pytest.approx(np.median(expected) - min(expected), rel=1e-6)


@pytest.mark.parametrize("late", [-7, 0, 4])
def test_the_offset_is_by_how_many_frames_the_face_lags(late: int) -> None:
    speech = np.random.default_rng(2).standard_normal((60, 16))
    assert padded_curve(np.roll(speech, late, axis=0), speech).offset == late


def test_a_clip_is_cropped_cut_to_the_stretch_with_a_face_and_measured(network: SyncNet, sound: np.ndarray) -> None:
    frames = pictures(FRAMES, 60, 80)
    meshes = np.tile(np.array([[20.0, 10, 0], [60, 10, 0], [60, 50, 0], [20, 50, 0]]), (FRAMES, 1, 1))
    run = slice(2, 11)
    curve = network.curve(frames, meshes, sound, run, 3)
    crops = mouth_crops(frames[run], mesh_boxes(meshes[run]))
    assert curve.offsets.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    same = network.crops_curve(crops, sound[2 * 640 : 11 * 640], 3)
    np.testing.assert_allclose(curve.distances, same.distances)
    mouth, speech = network.mouth(crops)[:-1], network.speech(sound[2 * 640 : 11 * 640])[:-1]
    np.testing.assert_allclose(curve.distances, padded_curve(mouth, speech, 3).distances, rtol=1e-4)


def test_the_crop_has_the_box_in_its_upper_middle_and_grey_outside() -> None:
    frames = np.zeros((13, 100, 100, 3), np.uint8)
    frames[:, 30:70, 30:70] = 255
    crop = mouth_crops(frames, np.tile([30.0, 30, 70, 70], (13, 1)))[6]
    inside = np.argwhere(crop[..., 0] > 128)
    # box of 40: rows 30..86, columns 22..78 of the picture, 4 pixels of the crop to one of it
    np.testing.assert_allclose([*inside.min(0), *inside.max(0)], [0, 32, 159, 191], atol=2)
    edge = mouth_crops(frames, np.tile([0.0, 60, 40, 100], (13, 1)))[6]
    assert (edge[:, :20] == 110).all() and (edge[170:] == 110).all()


def test_boxes_are_smoothed_over_13_frames() -> None:
    frames = pictures(27, 120, 120)
    steady = np.tile([30.0, 30, 70, 70], (27, 1))
    jump = steady.copy()
    jump[13] += 25
    np.testing.assert_array_equal(mouth_crops(frames, jump), mouth_crops(frames, steady))


def test_too_little_is_refused_with_what_is_needed(
    network: SyncNet, crops: np.ndarray, sound: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="at least 6 frames"):
        network.crops_curve(crops[:5], sound)
    with pytest.raises(InputError, match=r"0.2 s"):
        network.speech(sound[:3000])
    with pytest.raises(InputError, match="224 x 224"):
        network.mouth(pictures(6, 112, 112))
    with pytest.raises(InputError, match="at least 7"):
        mouth_crops(pictures(6, 50, 50), np.tile([10.0, 10, 40, 40], (6, 1)))
    torch.save({"netcnnaud.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "part.model")
    with pytest.raises(CheckpointError, match="does not fit SyncNetwork"):
        load(tmp_path / "part.model")
