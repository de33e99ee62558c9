"""Every way out of the program writes a signed manifest and the watermark, and `verify` finds both."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fantasytalking import FantasyTalkingPipeline, verify
from fantasytalking.cli.__main__ import main
from fantasytalking.media.audio import Audio
from fantasytalking.media.stream_writer import StreamWriter
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.talking_video import VideoOutput
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "fantasytalking"
QUICK = ("--steps", "1", "--face-check", "off")


class Quiet(Progress):
    def show_note(self, text: str) -> None:
        pass


@dataclasses.dataclass
class Inputs:
    """A folder with what every way needs, and the model loaded."""

    folder: Path
    pipeline: FantasyTalkingPipeline

    def words(self, *changes: str | Path) -> list[str]:
        files = [("--image", "face.png"), ("--audio", "voice.wav"), ("--model", "model")]
        named = [word for option, name in files for word in (option, str(self.folder / name))]
        return [*named, *map(str, changes), *QUICK]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("ways")
    pipeline = embedded_pipeline(max_frames=33, long_video="continue")
    pipeline.save_pretrained(folder / "model")
    Image.fromarray(portrait(320)).save(folder / "face.png")
    write_video(folder / "voice.mkv", [portrait(64)] * 15, 25, speech(0.6), preset="ultrafast")
    (folder / "voice.mkv").rename(folder / "voice.wav")
    write_video(folder / "film.mp4", [portrait(320)] * 12, 25, speech(0.48), preset="ultrafast")
    return Inputs(folder, pipeline)


def call(inputs: Inputs, path: Path, seconds: float = 0.6, **settings: object) -> None:
    given: dict[str, Any] = {
        "steps": 1,
        "face_check": "off",
        "progress": Quiet(),
        "output": VideoOutput(path),
        **settings,
    }
    inputs.pipeline(portrait(320), speech(seconds), **given)


def save(inputs: Inputs, path: Path) -> None:
    inputs.pipeline(portrait(320), speech(0.6), steps=1, face_check="off", progress=Quiet()).save(path)


def stream(inputs: Inputs, path: Path, name_marks: bool = True) -> None:
    frames = list(inputs.pipeline.stream(portrait(320), speech(0.6), steps=1, face_check="off", progress=Quiet()))
    with StreamWriter(path, 25, 16000, marks=frames[0].marks if name_marks else True) as writer:
        for frame in frames:
            writer.write(frame.pixels, frame.sound)


def dub(inputs: Inputs, path: Path) -> None:
    inputs.pipeline.dub(inputs.folder / "film.mp4", speech(0.48), path, steps=1, progress=Quiet())


def speak_together(inputs: Inputs, path: Path) -> None:
    wide = np.concatenate([portrait(256), portrait(256)[:, ::-1]], axis=1)
    voices = {0: speech(0.4), 1: speech(0.4)}
    inputs.pipeline.speak_together(wide, voices, path, steps=1, face_check="off", progress=Quiet())


def command(*words: str) -> Callable[[Inputs, Path], None]:
    def write(inputs: Inputs, path: Path) -> None:
        assert main(["generate", *inputs.words("--output", path, *words)]) == 0

    return write


def dub_command(inputs: Inputs, path: Path) -> None:
    film, voice, model = (str(inputs.folder / name) for name in ("film.mp4", "voice.wav", "model"))
    words = ["generate", "--video", film, "--audio", voice, "--model", model, "--output", str(path), "--steps", "1"]
    assert main(words) == 0


def demo(inputs: Inputs, path: Path) -> None:
    assert main(["demo", "--output", str(path), "--max-seconds", "0.5", "--longest-side", "320", "--steps", "1"]) == 0


def batch(inputs: Inputs, path: Path) -> None:
    manifest = inputs.folder / "manifest.jsonl"
    manifest.write_text(json.dumps({"image": "face.png", "audio": "voice.wav", "name": "one"}) + "\n")
    model = str(inputs.folder / "model")
    words = ["batch", str(manifest), "--output", str(path.parent / "batch"), "--model", model, "--workers", "1", *QUICK]
    assert main(words) == 0
    (path.parent / "batch" / "one.mp4").rename(path)


WAYS: dict[str, Callable[[Inputs, Path], None]] = {
    "video.save.mp4": save,
    "video.save.mov": save,
    "video.save.m4v": save,
    "video.save.mkv": save,
    "VideoOutput.mp4": call,
    "long video.mp4": lambda inputs, path: call(inputs, path, 2.0),
    "fused windows.mp4": lambda inputs, path: call(inputs, path, 2.0, long_video="windows"),
    "pipeline.stream.mp4": stream,
    "stream of arrays.mp4": lambda inputs, path: stream(inputs, path, False),
    "pipeline.dub.mp4": dub,
    "speak_together.mp4": speak_together,
    "generate.mp4": command(),
    "generate stream.mp4": command("--stream"),
    "generate dub.mp4": dub_command,
    "demo.mp4": demo,
    "batch.mp4": batch,
}


@pytest.mark.parametrize("way", WAYS)
def test_both_marks_are_in_what_is_written(way: str, inputs: Inputs, tmp_path: Path) -> None:
    path = tmp_path / way
    WAYS[way](inputs, path)
    found = verify(path)
    assert (found.manifest.state, found.manifest.why, found.manifest.covers) == ("valid", (), "all")
    assert found.manifest.trust == "own" and found.manifest.generator.startswith("FantasyTalking ")
    assert found.watermark.found and found.watermark.chance < 1e-6
    assert found.agree and found.is_marked
    kind = "compositeWithTrainedAlgorithmicMedia" if "dub" in way else "trainedAlgorithmicMedia"
    assert found.metadata.rpartition("/")[2] == found.manifest.source_type.rpartition("/")[2] == kind
    assert found.manifest.sources == (("film.mp4",) if "dub" in way else ())
    if way == "stream of arrays.mp4":
        return
    assert len(found.manifest.settings_sha256) == 64
    named = {"demo.mp4": "embedded", "batch.mp4": "model"}
    assert found.manifest.model == ("model" if way.startswith("generate") else named.get(way, ""))


def test_a_stream_on_standard_output_is_marked_as_far_as_a_pipe_allows(
    inputs: Inputs, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["generate", *inputs.words("--output", "-")]) == 0
    path = tmp_path / "piped.mp4"
    path.write_bytes(capfdbinary.readouterr().out)
    found = verify(path)
    assert found.is_marked and found.manifest.covers == "header" and found.agree


def test_the_same_generation_has_the_same_identifier_and_another_one_another(inputs: Inputs) -> None:
    def marks(sound: Audio, **settings: object) -> int:
        given: dict[str, Any] = {"steps": 1, "face_check": "off", "progress": Quiet(), **settings}
        video = inputs.pipeline(portrait(192), sound, **given)  # type: ignore[call-overload]
        assert video.marks is not None
        return int(video.marks.identifier)

    one = marks(speech(0.4))
    assert marks(speech(0.4)) == one
    assert one not in (marks(speech(0.4), seed=1), marks(speech(0.44)))


def test_marks_that_are_switched_off_are_not_there_and_arrays_have_none(inputs: Inputs, tmp_path: Path) -> None:
    call(inputs, tmp_path / "off.mp4", manifest="off", watermark="off")
    found = verify(tmp_path / "off.mp4")
    assert found.manifest.state == "none" and not found.watermark.found and not found.is_marked
    video = inputs.pipeline(portrait(320), speech(0.6), steps=1, face_check="off", progress=Quiet())
    plain = inputs.pipeline(portrait(320), speech(0.6), steps=1, face_check="off", progress=Quiet(), watermark="off")
    np.testing.assert_array_equal(video.frames, plain.frames)


UNMARKED = {
    "media/encoding.py": "clips of prepared sets and reports, which are footage",
    "evaluation/report/clip_gallery.py": "copies of what is evaluated, in a report",
    "evaluation/benchmark/case_inputs.py": "real videos that generated ones are compared with",
}


def writers() -> Iterator[tuple[str, bool]]:
    """Each place outside the writers themselves that makes one, and whether it says what marks it writes."""
    names = "VideoWriter", "write_video", "StreamWriter", "join_parts"
    texts = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    for path in (path for path, text in texts.items() if any(f"{name}(" in text for name in names)):
        for node in ast.walk(ast.parse(texts[path])):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in names[:3]:
                    yield str(path.relative_to(PACKAGE)), any(word.arg == "marks" for word in node.keywords)
                elif node.func.id == "join_parts":
                    yield str(path.relative_to(PACKAGE)), len(node.args) == 6


def test_nothing_else_in_the_package_writes_videos_without_marks() -> None:
    unmarked = {path for path, says in writers() if not says}
    assert unmarked == set(UNMARKED)
    assert {path for path, says in writers() if says} == {
        "cli/stream_run.py",
        "media/video_writer.py",
        "pipeline/long_output.py",
        "pipeline/talking_video.py",
        "pipeline/warm_up.py",
        "serving/realtime/live_process.py",
    }
