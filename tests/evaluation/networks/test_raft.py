"""RAFT's module with a stand-in of the same signature; torchvision's own network is looked at where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fantasytalking.errors import InputError, MissingDependencyError
from fantasytalking.evaluation.networks.raft import Raft, build, load
from tests.evaluation.networks.random_weights import pictures


class Difference(torch.nn.Module):
    """Flow: the difference of the first two channels; refuses what RAFT refuses."""

    def forward(self, first: Tensor, second: Tensor, num_flow_updates: int) -> list[Tensor]:
        assert num_flow_updates == 12
        assert first.shape[-1] % 8 == 0 and first.shape[-2] % 8 == 0 and min(first.shape[-2:]) >= 128
        assert first.abs().max() <= 1
        return [torch.zeros_like(first[:, :2]), (second - first)[:, :2]]


@pytest.mark.parametrize("size", [(128, 136), (61, 203)])
def test_flows_go_from_each_frame_to_the_next_at_the_pictures_own_size(size: tuple[int, int]) -> None:
    frames = pictures(4, *size)
    flows = list(Raft(Difference(), torch.device("cpu")).flows(frames))
    assert len(flows) == 3 and flows[0].shape == (*size, 2) and flows[0].dtype == np.float32
    expected = (frames[2].astype(np.float32) - frames[1])[..., :2] / 127.5
    np.testing.assert_allclose(flows[1], expected, atol=1e-5)


def test_one_frame_has_no_flow() -> None:
    with pytest.raises(InputError, match="two frames"):
        next(Raft(Difference(), torch.device("cpu")).flows(pictures(1, 32, 32)))


def test_without_torchvision_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", None)
    with pytest.raises(MissingDependencyError, match="pip install torchvision"):
        load()


def test_torchvisions_network_is_loaded_with_a_files_weights(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="needed only for SD and BD with RAFT")
    torch.manual_seed(0)
    torch.save(build().state_dict(), tmp_path / "raft.pth")
    assert next(load(tmp_path / "raft.pth").flows(pictures(2, 128, 128))).shape == (128, 128, 2)
