"""`fantasytalking train`: the commands of docs/training.md on a folder of made-up videos, and what it says to bad input."""

from __future__ import annotations

import json
import shlex
import wave
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fantasytalking import FantasyTalkingPipeline
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.cli.__main__ import main
from fantasytalking.cli.train import FAMILIES, Family, _parse
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import probe_video, write_video
from fantasytalking.training.embedded.embedded_recipes import RECIPES
from tests.pipeline.tiny_pipeline import EXAMPLE, portrait, speech
from tests.training.synthetic import open_mouth, own_mesh, smooth_noise, turn_head

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
SECONDS = 2.0


def fenced(language: str, containing: str) -> str:
    """The page's first fenced block of a language that contains some words."""
    parts = PAGE.read_text().split(f"```{language}\n")[1:]
    return next(text for text in (part.split("```")[0] for part in parts) if containing in text)


def make_video(path: Path, start: float, seed: int) -> None:
    """The example portrait, its jaw following the loudness of a piece of the example speech, its head swaying."""
    sound = load_audio(EXAMPLE / "speech.wav", start=start, seconds=SECONDS)
    frames = round(SECONDS * 25)
    pieces = np.array_split(sound.samples, frames)
    level = np.sqrt([np.mean(piece**2) for piece in pieces])
    opening = (0.09 * level / level.max()).astype(np.float32)
    rng = np.random.default_rng(seed)
    vectors = 0.03 * np.stack([smooth_noise(frames, rng, 8) for _ in range(3)], 1)
    sway = np.stack([smooth_noise(frames, rng, 8) for _ in range(2)], 1)
    meshes = turn_head(open_mouth(own_mesh(), opening), vectors, sway, np.ones(frames, np.float32))
    warper = PortraitWarper(portrait(), own_mesh())
    write_video(
        path, (warper(mesh) for mesh in meshes), 25, Audio(sound.samples, sound.sample_rate), preset="ultrafast"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page assumes: a folder `videos` with a catalogue, and portrait.jpg and speech.wav beside it."""
    made = tmp_path_factory.mktemp("training")
    videos = made / "videos"
    videos.mkdir()
    rows = []
    for number, start in enumerate((0.2, 2.2)):
        make_video(videos / f"{number}.mp4", start, number)
        rows.append({"file": f"{number}.mp4", "identity": f"person{number}", "kind": "real", "split": "train"})
    write_video(videos / "empty.mp4", np.full((5, 64, 64, 3), 90, np.uint8), 25, speech(0.2), preset="ultrafast")
    rows.append({"file": "empty.mp4", "identity": "nobody", "kind": "real", "split": "train"})
    (videos / "catalogue.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    Image.fromarray(portrait()).save(made / "portrait.jpg", quality=95)
    with wave.open(str(made / "speech.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes((speech(0.4).samples * 32767).astype("<i2").tobytes())
    return made


@pytest.fixture(scope="module")
def trained(folder: Path) -> Iterator[Path]:
    """The folder after the commands of the page's try-out."""
    threads = torch.get_num_threads()
    with chdir(folder):
        for line in fenced("bash", "train tiny").replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            assert words[0] == "fantasytalking"
            assert main(words[1:]) == 0
    yield folder
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_folder_of_videos_becomes_a_model_that_talks(trained: Path) -> None:
    made = probe_video(trained / "talking.mp4")
    assert made.has_audio
    assert made.seconds == pytest.approx(0.4, abs=float(1 / made.fps))
    assert (made.width, made.height) == (192, 192)
    pipeline = FantasyTalkingPipeline.from_pretrained(trained / "runs" / "tryout" / "model")
    assert pipeline.transformer.config.motion
    assert pipeline.vae.codec.coefficient_std.max() < 10
    percentiles = json.loads((trained / "runs" / "tryout" / "model" / "motion_percentiles.json").read_text())
    assert percentiles.keys() == {"w_face", "w_body"}


@pytest.mark.slow
def test_the_run_folder_holds_what_the_page_says(trained: Path) -> None:
    run = trained / "runs" / "tryout"
    lines = PAGE.read_text().split("## Files of a run")[1].split("\n## ")[0].splitlines()
    names = [line.split("|")[1].strip().strip("`") for line in lines if line.startswith("| `")]
    assert len(names) >= 8
    for name in names:
        assert list(run.glob(name)), f"the page promises {name}"
    assert json.loads((run / "tracks" / "left_out.json").read_text()).keys() == {"empty.mp4"}


@pytest.mark.slow
def test_the_command_given_again_repeats_nothing(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained / "runs" / "tryout"
    kept = [*run.glob("tracks/*.safetensors"), *run.glob("transformer/step-*/*"), run / "mouth_pairs.npz"]
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert len(before) >= 5
    assert main(["train", "tiny", "--data", str(trained / "videos"), "--output", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(run / "model"), "recipe": "tiny"}
    assert {path: path.stat().st_mtime_ns for path in kept} == before


@pytest.mark.slow
def test_the_python_example_trains_on(trained: Path) -> None:
    with chdir(trained):
        exec(compile(fenced("python", "train_embedded"), str(PAGE), "exec"), {})
    assert FantasyTalkingPipeline.from_pretrained(trained / "runs" / "python" / "model")


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one sentence that a call of `train` ends with."""
    assert main(["train", *map(str, words)]) == 2
    shown = capsys.readouterr()
    sentence = shown.err.strip().splitlines()[-1]
    assert sentence.startswith("error: ")
    assert "Traceback" not in shown.err
    return sentence


def test_an_unknown_recipe_offers_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--data", tmp_path, "--output", tmp_path / "run")
    assert "no recipe 'embeded'; did you mean 'embedded'?" in refused(capsys, "embeded", *options)
    assert "the recipes are embedded, tiny" in refused(capsys, "zzz", *options)


def test_numbers_below_one_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("tiny", "--data", tmp_path, "--output", tmp_path / "run")
    for name in ("steps", "threads"):
        assert f"--{name} must be at least 1, but 0 was given" in refused(capsys, *options, f"--{name}", 0)
    assert "mouth painter needs at least 1 step, but has 0" in refused(capsys, *options, "--painter-steps", 0)


def test_a_folder_without_a_catalogue_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refused(capsys, "tiny", "--data", tmp_path, "--output", tmp_path / "run")
    assert f"no catalogue at {tmp_path / 'catalogue.jsonl'}" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rows", ["", '{"file": "gone.mp4", "identity": "a", "kind": "real", "split": "train"}\n'])
def test_data_without_a_usable_clip_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str) -> None:
    (tmp_path / "catalogue.jsonl").write_text(rows)
    sentence = refused(capsys, "tiny", "--data", tmp_path, "--output", tmp_path / "run")
    assert ("left_out.json" in sentence) if rows else ("is empty" in sentence)


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "catalogue.jsonl").write_text('{"file": "a.mp4", "identity": "a", "kind": "real", "split": "train"}\n')
    (tmp_path / "file").write_text("in the way")
    sentence = refused(capsys, "tiny", "--data", tmp_path, "--output", tmp_path / "file" / "run")
    assert "run folder" in sentence
    assert "cannot be made" in sentence


def options_of(name: str, *words: str) -> Any:
    """What a call of a recipe would train with."""
    family = next(family for family in FAMILIES if name in family.names)
    return _parse(name, family, [*words, "--data", "d", "--output", "o"])


def test_every_field_of_a_recipe_is_an_option() -> None:
    given = options_of(
        "tiny",
        *(
            "--train.batch-tokens",
            "64",
            "--train.shift",
            "5",
            "--train.frames",
            "9",
            "13",
            "--train.fsdp",
        ),
        *("--train.stages.1.steps", "7", "--train.model.ffn-dim", "48", "--painter-steps", "3"),
    ).recipe
    plain = RECIPES["tiny"]
    frame = replace(plain.train.stages[1], steps=7)
    assert given == replace(
        plain,
        painter_steps=3,
        train=replace(
            plain.train,
            batch_tokens=64,
            shift=5.0,
            frames=(9, 13),
            fsdp=True,
            stages=(plain.train.stages[0], frame),
            model=plain.train.model | {"ffn_dim": 48},
        ),
    )
    assert options_of("adapter-tiny", "--base", "b", "--train.keep", "5").recipe.train.keep == 5
    assert options_of("lip-sync", "--train.variation.mirror", "0.1").recipe.train.variation.mirror == 0.1


def test_a_set_is_verified_unless_the_option_says_otherwise() -> None:
    for name, needed in (("tiny", ()), ("adapter-tiny", ("--base", "b")), ("distil", ("--teacher", "t"))):
        assert options_of(name, *needed).verify
        assert not options_of(name, *needed, "--no-verify").verify


def test_former_spellings_of_options_are_taken_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    assert options_of("tiny", "--transformer.batch-tokens=64").recipe.train.batch_tokens == 64
    assert "--transformer.batch-tokens is now --train.batch-tokens" in capsys.readouterr().err
    lip_sync = options_of("lip-sync", "--variation.mirror", "0.1", "--batch", "8").recipe.train
    assert (lip_sync.variation.mirror, lip_sync.batch) == (0.1, 8)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("tiny", "--train.stages.0.stage", "clipp"), "stage must be clip, frame or frame-unmasked, but 'clipp' was given"),
        (("tiny", "--train.shift", "-1"), "--train.shift must be a number from 0.1 to 100, but '-1' was given; leave it out for 3.0"),
        (("tiny", "--train.shift", "much"), "--train.shift must be a number from 0.1 to 100, but 'much' was given"),
        (("tiny", "--train.ema=2"), "--train.ema must be a number from 0 to 1, but '2' was given"),
        (("tiny", "--train.stages.1.learning-rate", "-0.1"), "learning-rate must be a number of at least 0, but '-0.1' was given"),
        (("tiny", "--train.prefetch", "-3"), "--train.prefetch must be a whole number of at least 0"),
        (("tiny", "--train.keep", "0"), "--train.keep must be a whole number of at least 1"),
        (("tiny", "--train.accumulate", "0"), "--train.accumulate must be a whole number of at least 1"),
        (("tiny", "--train.dropout.audio", "1.5"), "--train.dropout.audio must be a number from 0 to 1"),
        (("tiny", "--train.mixed-precision", "fp8"), "--train.mixed-precision must be no or bf16, but 'fp8' was given"),
        (("tiny", "--train.frames", "74"), "must be a multiple of 4 plus 1, but it is 74; use 73 or 77"),
        (("lip-sync", "--train.batch", "0"), "--train.batch must be a whole number of at least 2"),
        (("lip-sync", "--train.variation.mirror", "7"), "--train.variation.mirror must be a number from 0 to 1"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_one_sentence_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused(capsys, *words, "--data", tmp_path, "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_help_says_what_a_field_means_and_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "tiny", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Decay of the averaged weights per step" in shown
    assert "Accepts a number from 0 to 1" in shown


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: next(iter(family.names)))
def test_every_recipe_is_listed_and_unchanged_without_overrides(
    family: Family, capsys: pytest.CaptureFixture[str]
) -> None:
    assert family.names.keys() == family.recipes().keys()
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for name, recipe in family.recipes().items():
        assert f"  {name} " in shown
        needed = {"_OnBase": ("--base", "b"), "_OfTeacher": ("--teacher", "t")}.get(family.options.__name__, ())
        assert options_of(name, *needed).recipe == recipe


def test_a_mistyped_field_offers_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("tiny", "--data", tmp_path, "--output", tmp_path / "run")
    sentence = refused(capsys, *options, "--train.batch-token", 3)
    assert "no option --train.batch-token; did you mean --train.batch-tokens?" in sentence
    assert "Name a recipe before the options: embedded, " in refused(capsys, *options[1:])


def test_a_missing_option_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "tiny"])
    assert stopped.value.code == 2
    assert "--data" in capsys.readouterr().err
