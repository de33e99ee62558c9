"""Whatever is given, the command line answers with a result or with one sentence and status 2."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fantasytalking.cli.__main__ import main
from fantasytalking.media.video import probe_video, write_video
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech

resource = pytest.importorskip("resource", reason="limits of a process are a Unix facility")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    embedded_pipeline(max_frames=201).save_pretrained(folder)
    return folder


class Caller:
    """Calls `generate` in a folder with a good portrait and a good speech, unless told otherwise."""

    def __init__(self, folder: Path, model: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self.model, self.capture = folder, model, capture
        self.output = folder / "out.mp4"
        Image.fromarray(portrait()).save(folder / "face.png")
        write_wave(folder / "voice.wav", speech(0.4).samples)

    def path(self, name: str) -> Path:
        return self.folder / name

    def __call__(self, *extra: str, **changes: Path | str) -> dict[str, Any]:
        """The JSON result; an error is under "error"."""
        options = {
            "image": self.path("face.png"),
            "audio": self.path("voice.wav"),
            "output": self.output,
            "model": self.model,
            **changes,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        code = main(["generate", *words, "--json", "--steps", "1", *extra])
        shown = self.capture.readouterr()
        result: dict[str, Any] = json.loads(shown.out.splitlines()[-1])
        assert code == (2 if "error" in result else 0)
        assert not list(self.folder.glob(".*.part*"))
        return result

    def refused(self, *extra: str, **changes: Path | str) -> str:
        """The one sentence of an error; nothing has been written."""
        before = self.output.read_bytes() if self.output.is_file() else None
        result = self(*extra, **changes)
        assert "error" in result, result
        assert (self.output.read_bytes() if self.output.is_file() else None) == before
        message: str = result["error"]["message"]
        assert message.endswith((".", "?")) and "\n" not in message and "Traceback" not in message
        return message


@pytest.fixture
def call(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(tmp_path, model, capsys)


def write_wave(path: Path, samples: np.ndarray, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def picture(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def on_canvas(width: int, height: int, *faces: tuple[int, int, int]) -> np.ndarray:
    """A grey picture with portraits of the given side at (x, y)."""
    canvas = np.full((height, width, 3), 128, np.uint8)
    for x, y, side in faces:
        canvas[y : y + side, x : x + side] = portrait(side)
    return canvas


def test_a_picture_without_a_face(call: Caller) -> None:
    message = call.refused(image=picture(call.path("wall.png"), on_canvas(320, 240)))
    assert "No face was found in the 320 x 240 image" in message


def test_several_faces_are_told_and_one_can_be_chosen(call: Caller) -> None:
    image = picture(call.path("two.png"), on_canvas(480, 240, (0, 0, 240), (270, 20, 200)))
    (note,) = call(image=image)["notes"]
    assert "2 faces were found" in note and "the largest, face 0, is taken" in note and "--face" in note
    assert call("--face", "1", "--overwrite", image=image)["notes"] == []
    assert "no face 2 in the image" in call.refused("--face", "2", "--overwrite", image=image)


def test_a_face_that_is_too_small(call: Caller) -> None:
    image = picture(call.path("far.png"), on_canvas(640, 480, (280, 200, 90)))
    assert "must be at least 48 px" in call.refused(image=image)


def test_a_file_that_is_not_an_image(call: Caller) -> None:
    path = call.path("notes.png")
    path.write_text("not a picture at all")
    assert "is not an image" in call.refused(image=path)
    assert "does not exist" in call.refused(image=call.path("nowhere.png"))


def test_an_image_of_one_pixel(call: Caller) -> None:
    assert "1 x 1 px" in call.refused(image=picture(call.path("dot.png"), np.zeros((1, 1, 3), np.uint8)))


@pytest.mark.slow
def test_an_image_of_12000_by_9000_pixels(call: Caller) -> None:
    large = Image.new("RGB", (12000, 9000), "grey")
    large.paste(Image.fromarray(portrait(1000)).resize((9000, 9000)), (1500, 0))
    large.save(call.path("large.jpg"), quality=60)
    result = call("--longest-side", "160", image=call.path("large.jpg"))
    assert (result["width"], result["height"]) == (160, 120)
    assert any("12000 x 9000" in note for note in result["notes"])


def test_a_picture_turned_by_its_exif_tag_comes_out_upright(call: Caller) -> None:
    upright = Image.fromarray(on_canvas(192, 240, (0, 20, 192)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise for display
    path = call.path("turned.jpg")
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    result = call(image=path)
    assert (result["width"], result["height"]) == (192, 240)


def test_a_transparent_picture(call: Caller) -> None:
    pixels = np.dstack([portrait(), np.full((192, 192), 255, np.uint8)])
    pixels[:20, :, 3] = 0
    assert call(image=picture(call.path("cut.png"), pixels))["frames"] == 10


AUDIO: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "silent": (
        lambda path: write_wave(path, np.zeros(16000)),
        "is silent (nothing above -70 dBFS); check that the right file or track was exported.",
    ),
    "corrupt": (lambda path: path.write_bytes(b"RIFF\x00\x00WAVE" + bytes(range(256)) * 20), "'"),
    "a tenth of a second": (lambda path: write_wave(path, speech(0.1).samples), "at least 0.2 s are needed"),
    "no sound": (lambda path: picture(path.with_suffix(".png"), portrait()).rename(path), "sound"),
}


@pytest.mark.parametrize("kind", AUDIO)
def test_audio_that_cannot_be_used(call: Caller, kind: str) -> None:
    make, words = AUDIO[kind]
    make(call.path("bad.wav"))
    message = call.refused(audio=call.path("bad.wav"))
    assert words in message and "bad.wav" in message


def test_ten_minutes_of_audio_may_be_limited(call: Caller) -> None:
    path = write_wave(call.path("long.wav"), np.tile(speech(1.0, 8000).samples, 600), 8000)
    result = call("--max-seconds", "0.6", audio=path)
    assert result["frames"] == 15 and result["notes"] == ["Only the first 0.6 s of the speech are used (max_seconds)."]


def test_the_sound_of_a_video_is_used(call: Caller) -> None:
    write_video(call.path("talk.mp4"), [portrait(64)] * 10, 20, speech(0.5))
    assert call(audio=call.path("talk.mp4"))["frames"] == 12
    assert probe_video(call.output).has_audio


def test_an_output_that_cannot_be_written(call: Caller) -> None:
    assert "is a folder" in call.refused(output=call.folder)
    assert "does not exist; create it" in call.refused(output=call.path("no/such/folder/out.mp4"))
    assert "ends in '.txt'" in call.refused(output=call.path("out.txt"))


def test_an_existing_output_is_kept_unless_told_otherwise(call: Caller) -> None:
    call.output.write_text("precious")
    assert "exists already" in call.refused() and "--overwrite" in call.refused()
    assert call.output.read_text() == "precious"
    call("--overwrite")
    assert probe_video(call.output).frames == 10


@pytest.mark.parametrize(
    ("word", "nearest"), [("--step", "--steps"), ("--audio-guidance", "--audio-guidance-scale"), ("--sead", "--seed")]
)
def test_an_unknown_setting_offers_the_nearest_name(call: Caller, word: str, nearest: str) -> None:
    assert f"There is no option {word}; did you mean {nearest}?" == call.refused(word, "3")


def test_a_value_that_is_no_value(call: Caller) -> None:
    assert call.refused("--audio-guidance-scale", "strong").startswith(
        "audio_guidance_scale must be a number from 0 to 30, but 'strong' was given"
    )
    assert "no device 'tpu'" in call.refused("--device", "tpu")


def copy_of(model: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(model, target)
    return target


def test_a_weights_folder_with_a_shard_missing(call: Caller) -> None:
    from fantasytalking import FantasyTalkingPipeline

    folder = copy_of(call.model, call.path("model"))
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    pipeline = FantasyTalkingPipeline.from_pretrained(call.model)
    pipeline.transformer.save_pretrained(folder / "transformer", max_shard_size="50KB")
    shard = sorted((folder / "transformer").glob("*-of-*.safetensors"))[-1]
    shard.unlink()
    assert shard.name in call.refused(model=folder)


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_a_pickle_that_tries_to_run_code(call: Caller) -> None:
    folder = copy_of(call.model, call.path("model"))
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "transformer" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb(call.path("exploded"))))
    assert "can run code" in call.refused(model=folder)
    assert not call.path("exploded").exists()


def test_a_model_that_does_not_exist(call: Caller) -> None:
    assert "There is no model 'nowhere'" in call.refused(model="nowhere")


def test_a_disk_that_is_full_while_writing(call: Caller) -> None:
    # A limit on file sizes is the full disk that a test can have.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 1024, hard))
    try:
        message = call.refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free some space" in message
    assert not call.output.exists()


EARLY: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "a missing picture": ({"image": "nowhere.png"}, (), "does not exist"),
    "a picture that is none": ({"image": "notes.png"}, (), "is not an image"),
    "swapped arguments": ({"image": "voice.wav", "audio": "face.png"}, (), "is not an image"),
    "a picture as sound": ({"audio": "face.png"}, (), "sound"),
    "a wrong face number": ({}, ("--face", "3"), "no face 3 in the image"),
    "no face": ({"image": "wall.png"}, (), "No face was found"),
    "too little speech": ({"audio": "short.wav"}, (), "at least 0.2 s are needed"),
    "another ending": ({"output": "out.webm"}, (), "ends in '.webm'"),
    "no folder": ({"output": "no/folder/out.mp4"}, (), "does not exist; create it"),
}


def test_whatever_can_be_said_of_the_inputs_is_said_before_any_framework_is_imported(
    tmp_path: Path, model: Path
) -> None:
    """One process for all of them; PyTorch would take most of the time until a message."""
    Image.fromarray(portrait()).save(tmp_path / "face.png")
    picture(tmp_path / "wall.png", on_canvas(320, 240))
    (tmp_path / "notes.png").write_text("not a picture at all")
    for name, seconds in {"voice": 0.4, "long": 9.0, "short": 0.1}.items():
        write_wave(tmp_path / f"{name}.wav", speech(seconds).samples)
    commands = []
    for changes, extra, _ in EARLY.values():
        options = {"image": "face.png", "audio": "voice.wav", "output": "out.mp4", "model": str(model), **changes}
        commands.append(["generate", *(word for pair in options.items() for word in (f"--{pair[0]}", pair[1])), *extra])
    code = (
        "import sys, json\nfrom fantasytalking.cli.__main__ import main\n"
        f"for words in json.loads({json.dumps(commands)!r}):\n    print(main(words))\n"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines() == ["2"] * len(EARLY) + ["[]"]
    messages = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [kind for kind, message in zip(EARLY, messages, strict=True) if EARLY[kind][2] not in message] == []
    assert not (tmp_path / "out.mp4").exists()


def test_what_was_read_early_makes_the_same_video(call: Caller) -> None:
    from fantasytalking import FantasyTalkingPipeline
    from fantasytalking.media.video import read_frames

    # The watermark names the settings, of which the command decides some by its memory plan.
    call("--seed", "3", "--longest-side", "96", "--watermark", "off")
    pipeline = FantasyTalkingPipeline.from_pretrained(call.model)
    with pytest.warns(UserWarning, match="shrunk"):
        direct = pipeline(
            call.path("face.png"), call.path("voice.wav"), steps=1, seed=3, longest_side=96, watermark="off"
        )
    written, _ = read_frames(direct.save(call.path("direct.mp4")))
    np.testing.assert_array_equal(read_frames(call.output)[0], written)
