"""I3D's module with a small torchscript of the same signature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fantasytalking.errors import CheckpointError, ImageError
from fantasytalking.evaluation.networks.i3d import load
from tests.evaluation.networks.random_weights import pictures


class Small(nn.Module):
    """Says how it was called: mean of each channel, of the first frame's corner, and the three flags."""

    def forward(self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = True) -> Tensor:
        flags = torch.tensor([float(rescale), float(resize), float(return_features)]).repeat(x.size(0), 1)
        return torch.cat([x.mean([2, 3, 4]), x[:, :, 0, 0, 0], flags, x.new_zeros([x.size(0), 391])], 1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "i3d.pt"
    torch.jit.script(Small()).save(str(path))
    return path


def test_clips_go_in_between_minus_one_and_one_channels_before_time(file: Path) -> None:
    clips = np.stack([pictures(10, 224, 224, seed) for seed in (1, 2, 3)])
    clips[0, 0, 0, 0] = (0, 127, 255)
    found = load(file).features(clips, batch=2)
    assert found.shape == (3, 400) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, :3], clips.mean((1, 2, 3)) / 127.5 - 1, atol=1e-4)
    np.testing.assert_allclose(found[0, 3:6], [-1, 127 / 127.5 - 1, 1], atol=1e-6)


def test_features_are_asked_for_and_resizing_only_where_needed(file: Path) -> None:
    network = load(file)
    assert network.features(pictures(10, 224, 224)[None])[0, 6:9].tolist() == [0, 0, 1]
    assert network.features(pictures(10, 64, 96)[None])[0, 6:9].tolist() == [0, 1, 1]


def test_other_files_and_clips_are_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("nothing")
    with pytest.raises(CheckpointError, match="torchscript"):
        load(tmp_path / "text.pt")
    with pytest.raises(ImageError, match="at least 10 frames, not 9"):
        load(file).features(pictures(9, 224, 224)[None])
    with pytest.raises(ImageError, match="N, T, H, W, 3"):
        load(file).features(pictures(10, 224, 224))
