"""`fantasytalking benchmark` and `manifest`: the commands of docs/benchmark.md on made-up footage, and what they say to bad input."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.evaluation.benchmark.benchmark_manifest import Same, save_manifest
from fantasytalking.evaluation.benchmark.parse_manifest import load_manifest, read_manifest
from fantasytalking.evaluation.pairing import GROUND_TRUTH
from fantasytalking.evaluation.results import load_report
from tests.evaluation.benchmark.samples import case, manifest, method, talking_video
from tests.pipeline.tiny_pipeline import embedded_pipeline

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmark.md"


def fenced(language: str, containing: str) -> str:
    """The page's first fenced block of a language that contains some words."""
    parts = PAGE.read_text().split(f"```{language}\n")[1:]
    return next(text for text in (part.split("```")[0] for part in parts) if containing in text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the page assumes: a folder `videos`; and a tiny model."""
    made = tmp_path_factory.mktemp("benchmark")
    for index in range(3):
        talking_video(made / "videos" / f"person{index}.mp4", 1.4, 200 + 100 * index)
    embedded_pipeline().save_pretrained(made / "runs" / "mine")
    with chdir(made):
        yield made


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code = main([*words, "--json"])
    result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == (2 if "error" in result else 0)
    return result


@pytest.mark.slow
def test_the_commands_of_the_page_make_a_manifest_and_run_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = fenced("bash", "--name my-clips").replace("\\\n", " ").splitlines()
    made, ran = (shlex.split(line)[1:] for line in commands)
    assert main(made) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "my-clips.json"
    assert len(load_manifest("my-clips.json").cases) == 3
    quick = ["--metrics", "mouth", "sharpness", "--baselines", "still", "--devices", "cpu", "--workers", "1"]
    assert main([*ran, *quick]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "runs/my-clips/report/report.html"
    report = load_report(Path("runs/my-clips/report"))
    assert [m.name for m in report.methods] == ["ground truth", "model-own-speech", "model-other-speech", "still image"]
    assert report.command.startswith("fantasytalking benchmark my-clips.json") and report.protocol["name"] == "small"
    again = answer(capsys, *ran, "--generate-only")
    assert (again["made"], again["kept"], again["left_out"]) == (0, 6, [])


def test_the_format_that_the_page_shows_can_be_read() -> None:
    shown = read_manifest(json.loads(fenced("json", '"schema"')), "The page")
    assert {m.speech for m in shown.methods} == {"own", "other"} and len(shown.expectations) == 2


def test_the_shipped_manifests_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert [m["name"] for m in answer(capsys, "benchmark", "--list")["manifests"]] == [
        "authors",
        "identity",
        "intensity",
        "stages",
        "training",
        "validation",
        "validation-tame",
        "validation-wild",
    ]
    main(["benchmark", "--list"])
    assert "validation-tame (6 cases; embedded, embedded-other-speech)" in capsys.readouterr().out


RUN = ("--data", "videos", "--output", "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("benchmark",), "lacks a manifest, --data, --output"),
        (("benchmark", "validation", *RUN, "--generate-only", "--score-only"), "exclude each other"),
        (("benchmark", "validation", *RUN, "--limit", "0"), "--limit must be at least 1"),
        (("benchmark", "validation", *RUN, "--models", "BOTH"), "--models takes NAME=FOLDER, but 'BOTH'"),
        (("benchmark", "validaton", *RUN), "did you mean 'validation'"),
        (("benchmark", "stages", *RUN), "pass --models BOTH=FOLDER CLIP_ONLY=FOLDER FRAME_ONLY=FOLDER"),
        (("benchmark", "validation", *RUN, "--methods", "mine"), "has no method 'mine'"),
        (("benchmark", "validation", *RUN, "--protocol", "mine"), "There is no protocol 'mine'"),
        (("benchmark", "validation", *RUN, "--devices", "cuda:99"), "There is no device 'cuda:99'"),
        (("benchmark", "validation", "--data", "gone", "--output", "out"), "The data folder 'gone' does not exist"),
        (("benchmark", "validation", "--output", "out"), "does not say where its footage is published"),
        (("benchmark", "authors", "--output", "out"), "pass --models MODEL=FOLDER"),
        (("benchmark", "validation", *RUN), "No case of 'validation' can be used"),
        (("manifest", "videos", "--output", "m.json", "--name", "a b"), "--name must be letters, digits"),
        (("manifest", "videos", "--output", "m.json", "--name", "a", "--seconds", "9"), "None of 3 videos can be used"),
        (("manifest", "gone", "--output", "m.json", "--name", "a"), "There is no video or folder 'gone'"),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = answer(capsys, *words)["error"]
    assert message in error["message"]
    assert not Path("m.json").exists()


@pytest.mark.parametrize(
    ("words", "message", "advised"),
    [
        (("--generate-only", "--score-only"), "exclude each other; leave both out", ()),
        (("--limit", "0"), "--limit must be at least 1", ("--limit", "1")),
        ((), "give it, or --list", ("--list",)),
    ],
)
def test_options_that_are_advised_are_taken(
    folder: Path, words: tuple[str, ...], message: str, advised: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("validation", *RUN) if words else ()
    assert message in answer(capsys, "benchmark", *place, *words)["error"]["message"]
    found = answer(capsys, "benchmark", *place, *advised)
    # what is refused now are the videos, which are not those of the manifest
    assert "manifests" in found or "No case of 'validation' can be used" in found["error"]["message"]


def test_models_that_are_asked_for_are_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = re.search(r"pass --models (.+=FOLDER)", answer(capsys, "benchmark", "stages", *RUN)["error"]["message"])
    assert asked is not None
    models = asked[1].replace("FOLDER", "runs/mine").split()
    found = answer(capsys, "benchmark", "stages", *RUN, "--models", *models)
    assert "No case of 'stages' can be used" in found["error"]["message"]


@pytest.mark.slow
def test_published_videos_are_fetched_made_again_and_compared_with_themselves(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANTASYTALKING_CACHE", str(folder / "cache"))
    files = [f"person{index}.mp4" for index in range(2)]
    cases = [case(folder / "videos", file, 0.8, settings={"seed": 0, "longest_side": 96}) for file in files]
    expected = (
        Same("as sharp", "sharpness", ("released", GROUND_TRUTH), 9.0),
        Same("as wide", "lip_spread", ("released", GROUND_TRUTH), "30 %"),
    )
    sources = {file: (folder / "videos" / file).as_uri() for file in files}
    made = manifest(
        *cases, methods=(method("released", model="$MODEL"),), expectations=expected, name="page", sources=sources
    )
    save_manifest(made, Path("page.json"))
    words = ("--models", "MODEL=runs/mine", "--metrics", "sharpness", "articulation", "--baselines", "none")
    found = answer(
        capsys, "benchmark", "page.json", "--output", "runs/page", *words, "--devices", "cpu", "--workers", "1"
    )
    assert (found["made"], found["left_out"]) == (2, [])
    assert sorted(file.name for file in Path("cache/footage/page").iterdir()) == files
    sharp, wide = found["trends"]
    assert sharp["expected"] == "|released - ground truth| <= 9" and sharp["clips"] == 2
    rows = found["methods"]
    gap = rows["released"]["sharpness"] - rows[GROUND_TRUTH]["sharpness"]
    assert sharp["difference"] == pytest.approx(gap, abs=1e-6), "the row of the real clips is the second"
    assert wide["column"] == "lip_spread" and wide["verdict"] != "not measured"
