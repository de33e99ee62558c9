"""`fantasytalking train`: the commands of docs/training.md on a folder of made-up videos, and what it says to bad input."""

from __future__ import annotations

import json
import re
import shlex
import shutil
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
from fantasytalking.errors import SettingsError
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
    """What the page assumes: a folder `videos` with a catalogue, and `examples` beside it."""
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
    (made / "examples").mkdir()
    Image.fromarray(portrait()).save(made / "examples" / "portrait.png")
    with wave.open(str(made / "examples" / "speech.wav"), "wb") as sound:
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
def test_the_model_of_the_try_out_is_distilled(trained: Path) -> None:
    page = (PAGE.parent / "distillation.md").read_text()
    block = next(text for text in page.split("```bash\n") if text.startswith("fantasytalking train distil-tiny"))
    with chdir(trained):
        for line in block.split("```")[0].splitlines():
            assert main(shlex.split(line)[1:]) == 0
    defaults = json.loads((trained / "runs" / "tryout-few-steps" / "model" / "model_index.json").read_text())[
        "defaults"
    ]
    assert defaults["steps"] == 4
    assert probe_video(trained / "few-steps.mp4").has_audio


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


def follow(words: list[str], sentence: str) -> list[str]:
    """The same command with the options that an error about divergence advises, word by word."""
    advice = sentence.rpartition("give the same command with ")[2].removesuffix(".")
    return words + advice[advice.index("--") :].split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wild", "part"),
    [
        (("--train.stages.1.learning-rate", "1e30"), "transformer"),
        (("--painter-learning-rate", "1e30", "--painter-steps", "4"), "painter"),
    ],
)
def test_the_advice_after_divergence_trains_on(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wild: tuple[str, ...], part: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "runs" / "tryout" / "tracks", run / "tracks")
    words = ["tiny", "--data", str(trained / "videos"), "--output", str(run), "--train.checkpoint-minutes", "0", *wild]
    sentence = refused(capsys, *words)
    assert f"Training in {run / part} diverged after step" in sentence
    assert main(["train", *follow(words, sentence)]) == 0
    assert FantasyTalkingPipeline.from_pretrained(run / "model")
    start = json.loads((run / part / "starts.jsonl").read_text().splitlines()[-1])
    assert (start["step"] > 0) == bool(start["changed"])


@pytest.mark.slow
def test_another_start_pairs_or_painter_is_another_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained / "runs" / "tryout"
    words = ("tiny", "--data", trained / "videos", "--output", run)
    assert "begun with --pairs-per-identity 4, but now it is 5" in refused(capsys, *words, "--pairs-per-identity", 5)
    assert "begun with --painter-steps 2, but now it is 3" in refused(capsys, *words, "--painter-steps", 3)
    assert "begun with --start" in refused(capsys, *words, "--start", "embedded", "--painter-steps", 2)
    assert "stages.1.steps: 4 there, 5 now" in refused(capsys, *words, "--train.stages.1.steps", 5)
    longer = ("--train.stages.1.steps", "5", "--train.allow-changes")
    assert main(["train", *map(str, words), *longer]) == 0
    assert "goes on from step 8 with changes (stages.1.steps: 4 there, 5 now)" in capsys.readouterr().err
    assert main(["train", *map(str, words), *longer[:2]]) == 0
    assert "has all its 9 steps and is not trained further" in capsys.readouterr().err


def one_row(folder: Path) -> Path:
    """A data folder whose catalogue names one clip that does not exist."""
    data = folder / "data"
    data.mkdir()
    (data / "catalogue.jsonl").write_text('{"file": "a.mp4", "identity": "a", "kind": "real", "split": "train"}\n')
    return data


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one sentence that a call of `train` ends with."""
    assert main(["train", *map(str, words)]) == 2
    shown = capsys.readouterr()
    sentence = shown.err.strip().splitlines()[-1]
    assert sentence.startswith("error: ")
    assert "Traceback" not in shown.err
    return sentence


def test_a_run_gets_a_folder_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model = one_row(tmp_path), tmp_path / "model"
    model.mkdir()
    for output in (data, data / "run", data / "deep" / "run"):
        assert "lies in the data folder" in refused(capsys, "tiny", "--data", data, "--output", output)
        assert "lies in the data folder" in refused(capsys, "lip-sync", "--data", data, "--output", output)
    for option, recipe in (("start", "tiny"), ("teacher", "distil-tiny"), ("base", "adapter-tiny")):
        for output in (model, model / "run", tmp_path):
            words = (recipe, "--data", tmp_path / "gone", f"--{option}", model, "--output", output)
            assert f"'{model}', which --{option} names, lie in each other" in refused(capsys, *words)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["catalogue.jsonl", "data", "model"]


def test_an_unknown_recipe_offers_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--data", tmp_path, "--output", tmp_path / "run")
    assert "no recipe 'embeded'; did you mean 'embedded'?" in refused(capsys, "embeded", *options)
    assert "the recipes are embedded, tiny" in refused(capsys, "zzz", *options)


def test_numbers_below_one_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("tiny", "--data", tmp_path, "--output", tmp_path / "run")
    assert "--steps must be at least 1, but 0 was given" in refused(capsys, *options, "--steps", 0)
    assert "--steps must be at least 2, one for each stage of the recipe, but 1" in refused(
        capsys, *options, "--steps", 1
    )
    for threads in (0, 10**9):
        sentence = f"--threads must be at least 1 and at most 1024, but {threads} was given"
        assert sentence in refused(capsys, *options, "--threads", threads)
    assert "mouth painter needs at least 1 step, but has 0" in refused(capsys, *options, "--painter-steps", 0)


def test_data_of_no_kind_are_refused_with_every_kind_and_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for data, beginning in (("nowhere", "There is no folder"), ("data", "The folder")):
        sentence = refused(capsys, "tiny", "--data", tmp_path / data, "--output", tmp_path / "run")
        assert sentence.startswith(f"error: {beginning} '{tmp_path / data}'")
        assert (
            "'fantasytalking prepare VIDEOS --output SET' makes one" in sentence
            and "catalogue.jsonl (one line" in sentence
        )
    assert "prepare" not in refused(capsys, "lip-sync", "--data", tmp_path / "data", "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rows", ["", '{"file": "gone.mp4", "identity": "a", "kind": "real", "split": "train"}\n'])
def test_data_without_a_usable_clip_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "catalogue.jsonl").write_text(rows)
    sentence = refused(capsys, "tiny", "--data", tmp_path / "data", "--output", tmp_path / "run")
    assert ("left_out.json" in sentence) if rows else ("is empty" in sentence)


def test_a_model_that_does_not_fit_is_told_with_the_option_as_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("tiny", "--data", one_row(tmp_path), "--output", tmp_path / "run", "--train.model.patch-size")
    for patch in ((1, 3, 3), (1, 4, 4)):
        assert "error: --train.model.patch-size must divide the latents of 6 x 4" in refused(capsys, *words, *patch)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = one_row(tmp_path)
    (tmp_path / "file").write_text("in the way")
    sentence = refused(capsys, "tiny", "--data", data, "--output", tmp_path / "file" / "run")
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
        (("tiny", "--train.frames", "74"), "--train.frames: The number of frames must be a multiple of 4 plus 1, but it is 74; use 73"),
        (("tiny", "--train.frames", "abc"), "--train.frames: Could not find valid parse for arguments: ['abc']"),
        (("tiny", "--train.stages.0.learning-rate", "nan"), "learning-rate must be a number of at least 0, but 'nan' was given"),
        (("tiny", "--train.stages.0.learning-rate", "inf"), "learning-rate must be a number of at least 0, but 'inf' was given"),
        (("tiny", "--train.accumulate", "999"), "--train.accumulate must not exceed the 2 samples of the largest batch, but 999"),
        (("tiny", "--train.batch-tokens", "2"), "--train.batch-tokens must be at least 3, the latent frames of a window of 9"),
        (("tiny", "--train.model.attention-head-dim", "7"), "attention-head-dim must be an even number of at least 2, but '7' was given"),
        (("tiny", "--train.model.ffn-dim", "0"), "--train.model.ffn-dim must be a whole number of at least 1"),
        (("tiny", "--train.model.num-layers", "0"), "--train.model.num-layers must be a whole number of at least 1"),
        (("tiny", "--train.model.patch-size", "1", "0", "2"), "--train.model.patch-size[1] cannot be 0"),
        (("tiny", "--train.model.identity-dim", "none"), "--train.model.identity-dim and identity_feature_dim must both be given"),
        (("tiny", "--painter-batch", "0"), "--painter-batch must be a whole number of at least 1"),
        (("tiny", "--painter-learning-rate", "nan"), "--painter-learning-rate must be a number of at least 0"),
        (("lora-tiny", "--base", "b", "--lora.rank", "0"), "--lora.rank must be a whole number of at least 1"),
        (("lora-tiny", "--base", "b", "--train.accumulate", "3"), "--train.accumulate must not exceed the 2 clips of a batch"),
        (("adapter-tiny", "--base", "b", "--parts.audio-dim", "0"), "--parts.audio-dim must be a whole number of at least 1"),
        (("distil-tiny", "--teacher", "t", "--guidance-channels", "nan"), "--guidance-channels[0] "),
        (("distil-tiny", "--teacher", "t", "--train.stages.0.stage", "clip"), "has one stage, of the kind 'frame'"),
        (("lip-sync", "--train.window", "9999"), "--train.window must be a whole number from 1 to 2000"),
        (("lip-sync", "--train.accumulate", "33"), "--train.accumulate must not exceed the 32 samples"),
        (("lip-sync", "--train.variation.shape-only", "0.9"), "--train.variation.shape-only and pixels_only must not exceed 1"),
        (("lip-sync", "--train.batch", "0"), "--train.batch must be a whole number of at least 2"),
        (("lip-sync", "--train.variation.mirror", "7"), "--train.variation.mirror must be a number from 0 to 1"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_one_sentence_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    told = refused(capsys, *words, "--data", tmp_path, "--output", tmp_path / "run")
    assert sentence in told
    assert not (tmp_path / "run").exists()
    given = [part for word in words[1:] for part in word.split("=")]
    given = as_advised(given, told)
    try:
        options_of(words[0], *given)
    except SettingsError as error:  # windows that are longer need larger batches
        options_of(words[0], *as_advised(given, str(error)))


OTHER_ADVICE = {
    "--train.frames": ("9",),  # whole numbers, says the help that it names
    "--train.model.patch-size": ("1", "1", "2"),
    "--train.model.identity-dim": ("none", "--train.model.identity-feature-dim", "none"),
    "--train.variation.shape-only": ("0.75",),
}
"""Option -> accepted values, where the sentence gives a rule and no value."""
ADVISED = re.compile(r"did you mean '(\w+)'|give at most (\d+)|; use (\d+)|must be at least (\d+),|of the kind '(\w+)'")


def as_advised(words: list[str], sentence: str) -> list[str]:
    """The words with what a refusal advises for the option that it is about, which is the last one if it names none."""
    named = re.search(r"--[a-z][\w.-]*\w", sentence)
    option = next(word for word in reversed(words) if word.startswith("--")) if named is None else named[0]
    place = words.index(option) if option in words else len(words)
    end = next((i for i in range(place + 1, len(words)) if words[i].startswith("--")), len(words))
    rest = words[:place] + words[end:]
    if "; leave it out for" in sentence:
        return rest
    found = ADVISED.search(sentence)
    return [*rest, option, *(OTHER_ADVICE[option] if found is None else [one for one in found.groups() if one])]


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


def test_a_missing_option_is_told_with_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refused(capsys, "tiny", "--output", "run")
    assert (
        "needs --data. --data is a prepared set, as 'fantasytalking prepare VIDEOS --output SET' makes it, or a"
        in sentence
    )
    assert "needs --output and --base" in refused(capsys, "adapter-tiny", "--data", "set")
    # a misspelt option is the reason why one is missing
    assert "no option --dta; did you mean --data?" in refused(capsys, "tiny", "--dta", "set", "--output", "run")
