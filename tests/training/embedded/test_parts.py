"""Parts of a run that are done in copies of its folder, without the videos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fantasytalking import FantasyTalkingPipeline
from fantasytalking.cli.__main__ import main
from fantasytalking.errors import CheckpointError, InputError, SettingsError
from fantasytalking.media.video import write_video
from fantasytalking.training.embedded.embedded_recipes import RECIPES, EmbeddedRecipe
from fantasytalking.training.embedded.train_embedded import train_embedded
from tests.pipeline.tiny_pipeline import portrait
from tests.training.synthetic import tracks, write_cache

PEOPLE = 3


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos and, beside it, `tracks`: what measuring them would give."""
    made = tmp_path_factory.mktemp("parts") / "videos"
    made.mkdir()
    rows = []
    for track in tracks()[:PEOPLE]:
        write_video(made / track.info.file, np.repeat(portrait()[None], 100, 0), 25, preset="ultrafast")
        rows.append({"file": track.info.file, "identity": track.info.identity, "kind": "real", "split": "train"})
    (made / "catalogue.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    cache = write_cache(made.parent / "tracks", validation=False)
    for path in cache.glob("*.safetensors"):
        if int(path.stem.removeprefix("clip")) >= PEOPLE:
            path.unlink()
    return made


def run_folder(videos: Path, name: str) -> Path:
    """A run folder whose videos are measured already."""
    shutil.copytree(videos.parent / "tracks", videos.parent / name / "tracks")
    return videos.parent / name


def train(part: Literal["all", "measure", "painter", "transformer"], data: Path, run: Path, **changes: Any) -> Path:
    recipe: EmbeddedRecipe = replace(RECIPES["tiny"], part=part, **changes)
    return train_embedded(recipe, data, run)


def weights(model: Path, part: str) -> dict[str, torch.Tensor]:
    (file,) = (model / part).glob("*.safetensors")
    return load_file(file)


@pytest.fixture(scope="module")
def parted(videos: Path) -> Iterator[Path]:
    """measure, then painter and transformer each in a copy of the run folder, where there are no videos; then merged, and all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run = run_folder(videos, "parted")
    assert train("measure", videos, run) == run
    assert not (run / "painter").exists() and not (run / "transformer").exists() and not (run / "model").exists()
    gone = videos.parent / "gone"
    parts: tuple[Literal["painter", "transformer"], ...] = ("painter", "transformer")
    for part in parts:
        copy = videos.parent / f"copy-{part}"
        shutil.copytree(run, copy)
        for track in (copy / "tracks").glob("*.safetensors"):
            track.unlink()
        assert train(part, gone, copy) == copy / part
        assert not (copy / "model").exists()
    for part in parts:
        shutil.copytree(videos.parent / f"copy-{part}" / part, run / part)
    before = {path: path.stat().st_mtime_ns for path in run.glob("*/step-*/*")}
    assert before
    assert train("all", videos, run) == run / "model"
    assert {path: path.stat().st_mtime_ns for path in run.glob("*/step-*/*")} == before  # nothing is trained again
    yield run
    torch.set_num_threads(threads)


def test_parts_of_different_machines_become_a_model(parted: Path) -> None:
    pipeline = FantasyTalkingPipeline.from_pretrained(parted / "model")
    assert pipeline.transformer.config.motion
    assert (parted / "tracks" / "material.bin").is_file()
    phases = [json.loads(line)["phase"] for line in (parted / "phases.jsonl").read_text().splitlines()]
    assert phases[:3] == ["tracks", "codec", "pairs"] and phases[-2:] == ["calibration", "export"]


def test_one_run_gives_the_same_model_but_for_the_half_precision_of_what_was_packed(parted: Path, videos: Path) -> None:
    whole = train("all", videos, run_folder(videos, "whole"))
    painters = [weights(model, "vae") for model in (whole, parted / "model")]
    assert painters[0].keys() == painters[1].keys()
    fitted = {"codec.opening_knots", "codec.pose_gain"}  # depend on the transformer
    for name, value in painters[0].items():
        if name not in fitted:
            assert torch.equal(value, painters[1][name]), name
    one, other = (weights(model, "transformer") for model in (whole, parted / "model"))
    assert one.keys() == other.keys()
    apart = torch.cat([(one[name].float() - other[name].float()).abs().flatten() for name in one])
    assert apart.max() < 5e-3 and apart.mean() < 1e-4
    percentiles = [(model / "motion_percentiles.json").read_text() for model in (whole, parted / "model")]
    assert percentiles[0] == percentiles[1]


def test_a_transformer_of_other_settings_is_refused_in_a_sentence(parted: Path, videos: Path) -> None:
    config = replace(RECIPES["tiny"].train, shift=2.0)
    with pytest.raises(
        SettingsError, match=r"shift: 3.0 there, 2.0 now\); give the same ones, or another --output"
    ) as caught:
        train("all", videos, parted, train=config)
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError, match="begun with --painter-steps 2, but now it is 3"):
        train("painter", videos, parted, painter_steps=3)
    with pytest.raises(SettingsError, match=r"begun with --opening-weight 0.5, but now it is 1.0"):
        train("transformer", videos, parted, opening_weight=1.0)
    often = replace(RECIPES["tiny"].train, log_every=1)  # may change
    assert train("all", videos, parted, train=often) == parted / "model"


@pytest.mark.parametrize("part", ["painter", "transformer"])
def test_a_part_before_measure_is_one_sentence(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "tiny", "--part", part, "--data", str(tmp_path / "gone"), "--output", str(tmp_path / "run")]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "run the part measure of this run first" in shown.err and "Traceback" not in shown.err
    assert shown.out == ""


def test_wrong_parts_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "tiny", "--data", str(tmp_path / "gone"), "--output", str(tmp_path / "run")]
    for more, sentence in (
        (["--part", "paint"], "--part must be all, measure, painter or transformer, but 'paint' was given"),
        (
            ["--part", "painter", "--painter-steps", "0", "--start", "embedded"],
            "The part painter trains the mouth painter",
        ),
        (["--part", "measure"], "There is no folder"),
    ):
        assert main([*words, *more]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_lost_pairs_and_material_are_asked_for(parted: Path, videos: Path) -> None:
    copy = videos.parent / "copy-lost"
    (copy / "tracks").mkdir(parents=True)
    shutil.copy(parted / "tracks" / "material.json", copy / "tracks")
    with pytest.raises(
        InputError, match=r"There are no pairs .*run the part measure of this run first, or copy them here"
    ):
        train("painter", videos, copy)
    with pytest.raises(InputError, match=r"no packed material .*or copy its run folder here"):
        train("transformer", videos, copy)
    for name in ("mouth_pairs.npz", "tracks/material.bin"):  # the advice, followed
        shutil.copy(parted / name, copy / name)
    assert train("painter", videos, copy) == copy / "painter"
    assert train("transformer", videos, copy) == copy / "transformer"


def test_a_transformer_that_was_copied_in_part_is_one_sentence(parted: Path, videos: Path) -> None:
    copy = videos.parent / "copy-damaged"
    shutil.copytree(parted, copy)
    (file,) = (copy / "transformer" / "averaged").glob("*.safetensors")
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], None):
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"averaged cannot be read .*; copy it here again, or delete"
        ) as caught:
            train("all", videos, copy)
        assert "\n" not in str(caught.value)
    shutil.rmtree(file.parent)  # the advice, followed: the checkpoint of the run is there
    assert train("all", videos, copy) == copy / "model"
