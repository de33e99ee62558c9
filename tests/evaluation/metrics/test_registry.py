"""Standard networks where their weights are, labelled proxies elsewhere, and never the one for the other."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch

from fantasytalking.cli.__main__ import main
from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.evaluation.evaluate import EvaluationOptions, evaluate
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.registry import (
    ALL,
    METRICS,
    Choice,
    MetricEntry,
    build,
    choose,
    lacking,
    metrics_help,
)
from fantasytalking.evaluation.networks import metric_weights
from fantasytalking.evaluation.networks.inception import Inception
from fantasytalking.evaluation.networks.syncnet import SyncNetwork
from fantasytalking.pipeline.progress import Progress
from tests.evaluation.conftest import SMALL
from tests.evaluation.networks.random_weights import randomise

DOCS = Path(__file__).resolve().parents[3] / "docs"


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
    ours = {"mouth", "sharpness", "articulation", "blinks", "head", "face", "theval"}
    assert {c.name for c in choices if c.standard} == ours
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


def test_every_metric_knows_its_own_name_and_fills_the_figures_of_its_line() -> None:
    for name, entry in METRICS.items():
        metric = build(Choice(name, False, "cpu"))
        assert metric.name == name
        named = {column.key: column.stands_for or column.label for column in metric.columns}
        # ASE alone has no proxy; the offset of sync is no published figure
        ours = {("sync_offset", "sync-proxy |offset|"), ("sync_lag", "sync-proxy offset")}
        assert named.items() - ours <= dict(entry.figures).items()
        assert entry.figures.keys() - named.keys() <= {"ase"}


def test_a_new_metric_is_a_module_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module elsewhere is named with dots; one in the folder of metrics by its file name alone."""
    module = types.ModuleType("length_of_clips")

    class Length(Metric):
        name = "length"

        def __init__(self) -> None:
            self.columns = (
                metric_column("length", "frames", "neither", 0, "Frames of the clip, at the protocol's rate."),
            )

        def measure(self, clip: Footage, reference: Footage) -> Measurement:
            return Measurement({"frames": float(len(clip.frames))})

    module.standard = lambda device: Length()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "elsewhere.length_of_clips", module)
    monkeypatch.setitem(METRICS, "length", MetricEntry("elsewhere.length_of_clips", {"frames": "frames"}, "length"))
    choices, notes = choose(("length",), "auto", "cpu")
    assert notes == [] and build(choices[0]).columns[0].label == "frames"
    assert "length (frames)" in metrics_help()


def test_the_help_of_the_commands_names_every_metric(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "benchmark"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert metrics_help() in shown


def test_the_page_has_a_row_for_every_metric_and_names_its_columns() -> None:
    page = (DOCS / "evaluation.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|([^|]*)\|", page, re.MULTILINE)
    assert [row[0] for row in rows] == list(METRICS)
    for name, standard, proxy, better in rows:
        assert standard.strip() == ", ".join(METRICS[name].figures.values())
        columns = [c for c in build(Choice(name, False, "cpu")).columns if c.key in METRICS[name].figures]
        assert proxy.strip() == ", ".join(c.label for c in columns if c.proxy)
        assert all(column.better in better for column in columns)


def test_the_page_of_benchmarks_lists_every_column_that_an_expectation_may_name() -> None:
    page = (DOCS / "benchmark.md").read_text()
    listed = page.split("`column` is a key of the report's columns: ")[1].split(".\n")[0]
    assert re.findall(r"`(\w+)`", listed) == [
        *(key for entry in METRICS.values() for key in entry.figures),
        *("sync_offset", "sync_lag"),
    ]


def test_the_page_of_networks_lists_every_file_of_weights_and_what_reads_it() -> None:
    page = (DOCS / "metric-networks.md").read_text()
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == list(metric_weights.WEIGHTS)
    for entry in METRICS.values():
        for key in entry.weights:
            assert set(metric_weights.WEIGHTS[key].needed_by.split(", ")) & set(entry.figures.values())


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
    protocol = dataclasses.replace(SMALL, max_seconds=1.2, min_track=20, max_offset=5)
    options = EvaluationOptions(protocol, ("fid", "sync", "fvd"), "auto", (), 1, "cpu", media=False)
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
