"""What the README shows, done as it is written there, with a second of speech instead of a whole recording."""

import shlex
import shutil
import wave
from pathlib import Path

import pytest

from fantasytalking.media.video import probe_video

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SECONDS = 1.2


def fenced(language: str, containing: str) -> str:
    """The README's first fenced block of a language that contains some words."""
    parts = (ROOT / "README.md").read_text().split(f"```{language}\n")[1:]
    return next(text for text in (part.split("```")[0] for part in parts) if containing in text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder that the README's examples assume: a clone with its `examples`."""
    (tmp_path / "examples").mkdir()
    shutil.copy(EXAMPLES / "portrait.png", tmp_path / "examples")
    shortened = tmp_path / "examples" / "speech.wav"
    with wave.open(str(EXAMPLES / "speech.wav")) as speech, wave.open(str(shortened), "wb") as short:
        short.setparams(speech.getparams())
        short.writeframes(speech.readframes(round(SECONDS * speech.getframerate())))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_python_example_makes_a_video(folder: Path) -> None:
    exec(compile(fenced("python", "from_pretrained"), "README.md", "exec"), {})
    made = probe_video(folder / "python.mp4")
    assert made.has_audio
    assert made.seconds == pytest.approx(SECONDS, abs=float(1 / made.fps))


@pytest.mark.slow
def test_the_example_files_make_a_video(folder: Path) -> None:
    from fantasytalking.cli.__main__ import main

    lines = [shlex.split(line) for line in fenced("bash", "fantasytalking generate").splitlines()]
    words = next(line for line in lines if line[:2] == ["fantasytalking", "generate"])
    assert shlex.join(words) in (EXAMPLES / "README.md").read_text()
    assert main(words[1:]) == 0
    made = probe_video(folder / "talking.mp4")
    assert made.has_audio
    assert made.seconds == pytest.approx(SECONDS, abs=float(1 / made.fps))
