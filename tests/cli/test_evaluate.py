"""`fantasytalking evaluate` and `compare` as a user types them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.cli.evaluate import named_folders
from fantasytalking.errors import SettingsError
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import read_frames, write_video
from tests.evaluation.benchmark.samples import talking_video

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 55
PAGE, README = ROOT / "docs" / "evaluation.md", ROOT / "README.md"


@pytest.fixture(scope="module")
def short(talking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginnings of the talking clips, as long as every metric needs them."""
    folder = tmp_path_factory.mktemp("short")
    for name in ("calm.mp4", "lively.mp4"):
        frames, rate = read_frames(talking / name, max_frames=FRAMES)
        sound = load_audio(talking / name)
        samples = sound.samples[: FRAMES * sound.sample_rate // 25]
        write_video(folder / name, frames, rate, Audio(samples, sound.sample_rate))
    return folder


@pytest.fixture
def here(short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `real`, `ours` and `elsewhere/videos`, entered."""
    for folder in ("real", "ours", "elsewhere/videos"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(short / "calm.mp4", tmp_path / "real" / "anna.mp4")
    shutil.copy(short / "lively.mp4", tmp_path / "ours" / "anna.mp4")
    shutil.copy(short / "calm.mp4", tmp_path / "elsewhere" / "videos" / "anna.mp4")
    (tmp_path / "notes.txt").write_text("a file")
    (tmp_path / "strange").mkdir()
    shutil.copy(short / "calm.mp4", tmp_path / "strange" / "berta.mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FANTASYTALKING_CACHE", str(tmp_path / "cache"))
    return tmp_path


def documented(command: str, page: Path = PAGE) -> list[list[str]]:
    """Words behind `fantasytalking` of a page's blocks that this file tests."""
    blocks = re.findall(r"tests/cli/test_evaluate\.py::\w+ -->\n```bash\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.strip().splitlines()]
    return [words[1:] for words in lines if words[1] == command]


def test_the_command_of_the_readme_writes_a_report(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = documented("evaluate", README)
    assert main([*words, "--metrics", "mouth", "sync", "--workers", "1", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "sync-proxy-C" in out and out.splitlines()[-1] == "report/report.html"
    assert (here / "report" / "report.html").stat().st_size > 20_000


@pytest.mark.slow
def test_the_commands_of_the_page_write_reports(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluations = documented("evaluate")
    assert len(evaluations) == 2
    for words in evaluations:
        assert main([*words, "--workers", "1", "--device", "cpu"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "report/report.html"
    table = json.loads((here / "report" / "report.json").read_text())
    assert [m["name"] for m in table["methods"]][:3] == ["ground truth", "ours", "other"]
    other = next(m for m in table["methods"] if m["name"] == "other")
    assert other["summary"]["mouth"]["value"] == pytest.approx(1)
    (here / "p.json").write_text('{"longest_side": 192, "max_seconds": 2}')
    words = ["evaluate", "--generated", "third=ours", "--reference", "real", "--output", "another/report"]
    assert (
        main([*words, "--protocol", "p.json", "--metrics", "mouth", "--workers", "1", "--device", "cpu", "--no-media"])
        == 0
    )
    capsys.readouterr()
    (compare,) = documented("compare")
    assert main(compare) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "both/report.html" and "third" in out and "error" not in err
    assert out.count("longest_side is 256 in one and 192 in the other") == 1
    assert "**" not in out.replace("**Best**", ""), "nothing is best across protocols"
    assert json.loads((here / "both" / "report.json").read_text())["protocol"]["name"] == "small and standard"
    assert "longest_side is 256 in one" in (here / "both" / "report.html").read_text()


def test_one_json_object_is_for_programs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "evaluate",
        "--generated",
        "ours",
        "again=ours",  # as the error about two folders of one name advises
        "--reference",
        "real",
        "--output",
        "report",
        "--metrics",
        "mouth",
        "--json",
    ]
    assert main([*words, "--protocol", "small", "--workers", "1", "--baselines", "none", "--no-media"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert set(found["methods"]) == {"ground truth", "ours", "again"} and found["problems"] == 0
    assert any("1 clip is few" in warning for warning in found["warnings"]) and "Traceback" not in err
    assert set(found["methods"]["ours"]) == {"mouth r"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--generated", "nowhere", "--reference", "real"], "The generated folder 'nowhere' does not exist"),
        (["--generated", "ours", "--reference", "real", "--metrics", "syn"], "did you mean 'sync'"),
        (["--generated", "ours", "--reference", "real", "--protocol", "big"], "There is no protocol 'big'"),
        (
            ["--generated", "ours", "--reference", "real", "--backend", "standard", "--metrics", "fid"],
            "fetch them with",
        ),
        (
            ["--generated", "ours", "ours", "--reference", "real"],
            "Two folders are called 'ours'; give each a name of its own as NAME=",
        ),
        (["--generated", "ours/anna.mp4", "--reference", "real"], "is a file; give the folder that holds it"),
        (["--generated", "ours", "--reference", "real", "--output", "real"], "among the reference clips"),
        (["--generated", "ours", "--reference", "real", "--output", "real/report"], "among the reference clips"),
        (["--generated", "ours", "--reference", "real", "--output", "ours/anna.mp4"], "is a file"),
        (["--generated", "ours", "--reference", "real", "--output", "notes.txt/x"], "as 'notes.txt' is a file"),
        (["--generated", "ours", "--reference", "real", "--baselines", "stil"], "did you mean 'still'"),
        (["--generated", "ground truth=ours", "--reference", "real"], "is the name of a row of its own"),
        (["--generated", "strange", "--reference", "real"], "No file in 'strange' has the name of a real clip"),
    ],
)
def test_bad_input_ends_in_one_sentence_and_exit_code_2(
    here: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = [] if "--output" in words else ["--output", "report"]
    assert main(["evaluate", *words, *output, "--device", "cpu"]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1
    assert not (here / "report" / "report.json").exists()


MISTAKES = """
evaluate --generated nowhere --reference real --output out
evaluate --generated ours --reference real --output out --metrics syn
evaluate --generated ours --reference real --output out --protocol big
evaluate --generated ours --reference real --output out --workers 0
evaluate --generated strange --reference real --output out
evaluate --generated ours --reference real --output ours
evaluate --generated ours --reference real --output out --backend standard --metrics fid
compare nowhere ours --output out
compare ours --output out
benchmark validaton --data real --output out
benchmark stages --data real --output out
benchmark validation --data nowhere --output out
benchmark validation --data real --output real
benchmark validation --data real --output out --metrics syn
benchmark training --data real --output out --methods embedded --models OLD=nowhere
manifest nowhere --output m.json --name m
manifest real --output m.json --name m --seconds 0
manifest real --output m.json --name m --model ''
manifest real --output m.json --name m --fps -1
"""


def test_mistakes_are_told_before_any_framework_is_loaded(here: Path) -> None:
    words = [shlex.split(line) for line in MISTAKES.strip().splitlines()]
    code = "import sys\nfrom fantasytalking.cli.__main__ import main\n"
    code += f"for words in {words!r}:\n    status = main(words)\n"
    code += "    assert status == 2, words\n    assert not {'torch', 'diffusers', 'cv2'} & set(sys.modules), words\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    assert not done.stdout and done.stderr.count("error: ") == len(done.stderr.splitlines()) == len(words)
    assert not (here / "out").exists() and not (here / "m.json").exists()


@pytest.mark.parametrize("command", ["evaluate", "compare", "benchmark", "manifest"])
def test_every_option_is_explained_by_a_sentence_and_none_is_a_double_negative(command: str) -> None:
    module = importlib.import_module(f"fantasytalking.cli.{command}")
    (options,) = [
        kind for kind in vars(module).values() if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
    ]
    for field in dataclasses.fields(options):
        assert not field.name.startswith(("no_", "not_", "without_")), field.name
    source = inspect.getsource(module)
    documented = re.findall(r'^    (\w+): [^\n]*\n    """(.*?)"""', source, re.DOTALL | re.MULTILINE)
    told = dict(documented)
    for field in dataclasses.fields(options):
        if field.name != "metrics":  # made from the table of metrics
            assert told[field.name].endswith("."), field.name


def test_weights_are_fetched_only_for_what_was_asked_and_named_with_their_licence_first(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = here / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("FANTASYTALKING_WEIGHTS_MIRROR", str(mirror))
    words = [
        "evaluate",
        "--generated",
        "ours",
        "--reference",
        "real",
        "--output",
        "report",
        "--fetch",
        "--metrics",
        "sync",
        "mouth",
    ]
    assert main([*words, "--device", "cpu"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "syncnet_v2.model" in lines[0] and "licence" in lines[0] and "inception" not in "".join(lines)
    (mirror / "syncnet_v2.model").write_bytes(b"something else")
    assert main([*words, "--device", "cpu"]) == 2
    assert "syncnet_v2.model" in capsys.readouterr().err
    assert not list((here / "cache").glob("syncnet_v2.model")), "a wrong file gets no name"


def test_a_method_of_which_nothing_can_be_measured_ends_in_exit_code_2_and_a_report(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "ours" / "anna.mp4").write_bytes(b"no video")
    words = ["evaluate", "--generated", "ours", "--reference", "real", "--output", "report", "--metrics", "mouth"]
    assert main([*words, "--workers", "1", "--device", "cpu", "--no-media"]) == 2
    assert "No clip of ours could be measured" in capsys.readouterr().err
    assert (here / "report" / "report.html").is_file()


def test_a_report_that_is_none_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "broken").mkdir()
    (here / "broken" / "report.json").write_text('{"schema": 1}')
    assert main(["compare", "broken", "broken", "--output", "both"]) == 2
    assert "is no report" in capsys.readouterr().err
    assert main(["compare", "real", "ours", "--output", "both"]) == 2
    assert "There is no report at 'real'" in capsys.readouterr().err


def test_a_folder_alone_is_called_by_its_own_name(here: Path) -> None:
    assert named_folders(["ours", "x=elsewhere/videos"]) == {"ours": Path("ours"), "x": Path("elsewhere/videos")}
    assert named_folders(["elsewhere/videos/"]) == {"videos": Path("elsewhere/videos/")}
    with pytest.raises(SettingsError, match="NAME=FOLDER"):
        named_folders(["=ours"])


@pytest.mark.slow
def test_the_advice_of_messages_about_folders_and_frames_works_when_it_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, clips in (("real", "ab"), ("one", "a"), ("two", "b"), ("three", "ab")):
        for place, clip in enumerate(clips):
            seconds, side = (0.6, 64) if (name, clip) == ("three", "b") else (0.8, 192)
            talking_video(Path(name) / f"{clip}.mp4", seconds, 200 + 100 * place, side=side)
    Path("p.json").write_text('{"longest_side": 96, "max_seconds": 0.8, "resamples": 10}')
    usual = ["--metrics", "mouth", "sharpness", "--protocol", "p.json", "--workers", "1", "--device", "cpu"]

    def run(*words: str, status: int = 0) -> str:
        assert main([*words, *(usual if words[0] == "evaluate" else []), "--no-media"]) == status, words
        out, err = capsys.readouterr()
        return out + err

    def evaluated(output: str, *methods: str) -> str:
        return run("evaluate", "--reference", "real", "--output", output, "--generated", *methods)

    # "give every method videos of the same clips"
    assert "no clip in common" in evaluated("out", "one", "two")
    shutil.copy("real/b.mp4", "one/b.mp4")
    # "Leave a method out, or give its videos, to count more"
    told = evaluated("out", "one", "two")
    assert "All rows count only the 1 of 2 clips that every one has: 'two' lacks 1 (a)." in told
    assert "All rows count only" not in evaluated("out", "one")
    shutil.copy("real/a.mp4", "two/a.mp4")
    assert "All rows count only" not in evaluated("out", "one", "two")
    # "compare methods at one size", and the clips' common length
    told = evaluated("cut", "three")
    assert "another size" in told and "1 of 2 clips is cut in every row" in told
    # "evaluate all methods in one command, which cuts every row to the same frames"
    assert "The rows are measured over different frames" in run("compare", "out", "cut", "--output", "both")
    assert "different frames" not in evaluated("out", "one", "two", "three")
    # "which it would replace; give another folder"
    assert "give another folder" in run("compare", "out", "cut", "--output", "cut", status=2)
    # "The reports have no column in common; evaluate them with the same --metrics and --backend"
    usual[1:3] = ["fid"]
    evaluated("fid", "one")
    assert "no column in common" in run("compare", "fid", "cut", "--output", "both2", status=2)
    talking_video(Path("three/b.mp4").rename("three/c.avi").with_name("b.mp4"), 0.8, 300)
    told = evaluated("cut", "three")
    assert "another size" not in told and "cut in every row" not in told
    run("compare", "fid", "cut", "--output", "both2")
    # "has two videos called 'a'; keep one of them"
    shutil.copy("one/a.mp4", "one/a.mov")
    words = ("evaluate", "--reference", "real", "--output", "out", "--generated", "one")
    assert "keep one of them" in run(*words, status=2)
    Path("one/a.mov").unlink()
    run(*words)
