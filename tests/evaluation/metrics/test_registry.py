"""Standard networks where their weights are, labelled proxies elsewhere, and never the one for the other."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.evaluation.evaluate import Options, evaluate
from fantasytalking.evaluation.metrics.registry import ALL, METRICS, Choice, build, choose, lacking
from fantasytalking.evaluation.networks import metric_weights
from fantasytalking.evaluation.networks.inception import Inception
from fantasytalking.evaluation.networks.syncnet import SyncNetwork
from fantasytalking.pipeline.progress import Progress
from tests.evaluation.conftest import SMALL
from tests.evaluation.networks.random_weights import randomise


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("FANTASYTALKING_CACHE", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


def put(cache: Path, monkeypatch: pytest.MonkeyPatch, key: str, network: torch.nn.Module) -> str:
    """Random weights in the place of the published ones, listed under their own digest."""
    entry = metric_weights.WEIGHTS[key]
    assert isinstance(entry, metric_weights.WeightFile)
    path = cache / entry.filename
    torch.save(randomise(network).state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(
        metric_weights.WEIGHTS, key, dataclasses.replace(entry, sha256=sha256, size=path.stat().st_size)
    )
    return sha256


def test_without_weights_everything_but_arithmetic_is_a_proxy_and_the_note_says_what_is_missing(cache: Path) -> None:
    choices, notes = choose(ALL, "auto", "cpu")
    assert {c.name for c in choices if c.standard} == {"mouth", "sharpness"}
    (note,) = notes
    assert "pt_inception-2015-12-05" in note and "syncnet_v2.model" in note and "--fetch" in note
    assert choose(("mouth",), "auto", "cpu") == ([Choice("mouth", True, "cpu")], [])
    assert choose(ALL, "proxy", "cpu")[1] == []


def test_what_is_there_is_used_and_nothing_else(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache, monkeypatch, "inception", Inception())
    choices, notes = choose(("fid", "fvd"), "auto", "cpu")
    assert [c.standard for c in choices] == [True, False]
    assert "i3d" in notes[0] and "inception" not in notes[0]
    assert lacking("fid") == []


def test_other_weights_than_listed_are_refused(cache: Path) -> None:
    (cache / "pt_inception-2015-12-05-6726825d.pth").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="pt_inception"):
        choose(("fid",), "auto", "cpu")


def test_the_standard_implementation_says_which_command_fetches_what_it_lacks(cache: Path) -> None:
    for name in ("fid", "fvd", "sync", "es", "idc", "aesthetic"):
        with pytest.raises(CheckpointError, match="fetch them with"):
            build(Choice(name, True, "cpu"))


def test_an_unknown_metric_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(SettingsError, match="did you mean 'mouth'"):
        choose(("muoth",), "auto", "cpu")


def test_every_metric_has_one_file_and_different_columns() -> None:
    assert len({entry.module for entry in METRICS.values()}) == len(METRICS)
    keys = [column.key for name in ALL for column in build(Choice(name, False, "cpu")).columns]
    assert len(keys) == len(set(keys))


@pytest.mark.slow
def test_standard_and_proxy_stand_in_one_report_under_their_own_names(
    cache: Path, talking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are random: the numbers mean nothing, but the way to them is the real one."""
    digests = {
        "inception": put(cache, monkeypatch, "inception", Inception()),
        "syncnet": put(cache, monkeypatch, "syncnet", SyncNetwork()),
    }
    for folder in ("real", "made"):
        (tmp_path / folder).mkdir()
    shutil.copy(talking / "calm.mp4", tmp_path / "real" / "a.mp4")
    shutil.copy(talking / "lively.mp4", tmp_path / "made" / "a.mp4")
    protocol = dataclasses.replace(SMALL, max_seconds=2.2)
    options = Options(protocol, ("fid", "sync", "fvd"), "auto", (), 1, "cpu", media=False)
    found = evaluate({"ours": tmp_path / "made"}, tmp_path / "real", tmp_path / "report", options, Progress())
    columns = {column.key: column for column in found.columns}
    assert [columns[k].label for k in ("fid", "sync_c", "sync_d", "fvd")] == [
        "FID",
        "Sync-C",
        "Sync-D",
        "FD-video-mobilenet",
    ]
    assert columns["fid"].weights == {"inception": digests["inception"]} and not columns["fid"].proxy
    assert columns["sync_c"].weights == {"syncnet": digests["syncnet"]}
    cells = found.methods[1].summary
    assert all(cells[key].value is not None for key in columns), found.problems
    assert found.methods[0].summary["fid"].value == pytest.approx(0, abs=1e-3)
    assert cells["fid"].value > 0  # type: ignore[operator]
