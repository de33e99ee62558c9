"""Pictures and sound as Python programs hold them are taken, or refused in one sentence of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fantasytalking.errors import AudioError, ImageError, InputError, VideoError
from fantasytalking.media.audio import Audio, is_silent, load_audio, normalise_loudness
from fantasytalking.media.image import load_image
from fantasytalking.media.python_inputs import audio_of
from fantasytalking.media.video import probe_video, read_frames, write_video
from fantasytalking.perception.face_embedding import embed_aligned
from fantasytalking.perception.landmarks import track_mesh
from fantasytalking.pipeline.inputs import load_speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.settings import GenerationSettings
from tests.media.files import tone

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PICTURE)
SOUND = tone(0.5)

IMAGES: dict[str, Any] = {
    "nested lists": PICTURE.tolist(),
    "a list of one picture": [Image.fromarray(PICTURE)],
    "a tensor": TENSOR,
    "channels first": TENSOR.movedim(2, 0) / 255,
    "a batch of one": TENSOR.movedim(2, 0)[None],
    "bfloat16": (TENSOR / 255).bfloat16(),
    "whole numbers": PICTURE.astype(np.int64),
    "half precision": (PICTURE / 255).astype(np.float16),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_picture_in_memory_is_read(kind: str) -> None:
    assert np.abs(load_image(IMAGES[kind]).astype(int) - PICTURE).max() <= 1


BAD_IMAGES: dict[str, Any] = {
    "two pictures": [Image.fromarray(PICTURE)] * 2,
    "two names": ["a.png", "b.png"],
    "ragged lists": [[1, 2], [3]],
    "words": [["a", "b"]],
    "nothing": None,
    "a number": 3,
    "bytes": b"picture",
    "a mapping": {},
    "an empty list": [],
    "too large numbers": PICTURE.astype(np.int32) * 9,
    "negative numbers": TENSOR / 127.5 - 1,
    "truth values": PICTURE > 3,
    "no numbers": np.full((40, 40, 3), np.nan),
    "complex numbers": PICTURE * 1j,
    "several pictures": np.stack([PICTURE] * 2),
    "a zero byte": "a\0b.png",
}


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_what_is_no_picture_is_one_sentence(kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(BAD_IMAGES[kind])
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_pillow_image_whose_file_is_closed_is_one_sentence(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(ImageError, match="load it before its file is closed"):
        load_image(image)
    with Image.open(tmp_path / "a.png") as image:
        image.load()
    np.testing.assert_array_equal(load_image(image), PICTURE)


SOUNDS: dict[str, Any] = {
    "samples and rate": (SOUND, 16000),
    "rate and samples": (16000, SOUND),
    "a mapping": {"array": SOUND, "sampling_rate": 16000},
    "a tensor": (torch.from_numpy(SOUND)[None], 16000),
    "a list": (SOUND.tolist(), 16000.0),
    "two channels": (np.stack([SOUND, SOUND]), 16000),
    "channels last": (np.stack([SOUND, SOUND], axis=1), 16000),
    "16 bits": ((SOUND * 32767).astype(np.int16), 16000),
    "32 bits": ((SOUND * 2.0**31).astype(np.int32), np.int64(16000)),
    "8 bits": ((SOUND * 127 + 128).astype(np.uint8), 16000),
    "double precision": (SOUND.astype(np.float64), 16000),
    "an Audio of 16 bits": Audio((SOUND * 32767).astype(np.int16), 16000),  # type: ignore[arg-type]
    "an Audio of a tensor": Audio(torch.from_numpy(SOUND), 16000),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", SOUNDS)
def test_sound_in_memory_is_speech(kind: str) -> None:
    loaded = load_speech(SOUNDS[kind], GenerationSettings(), ModelRules())
    assert loaded.soundtrack.sample_rate == 16000 and loaded.soundtrack.samples.dtype == np.float32
    assert np.abs(loaded.soundtrack.samples - SOUND).max() < 0.02


def test_too_loud_sound_is_scaled_down() -> None:
    samples, _ = audio_of((9 * SOUND, 16000))
    assert np.abs(samples).max() == 1 and np.corrcoef(samples, SOUND)[0, 1] > 0.999


BAD_SOUNDS: dict[str, Any] = {
    "samples alone": SOUND,
    "a tensor alone": torch.from_numpy(SOUND),
    "no rate": (SOUND, None),
    "a word for a rate": (SOUND, "16k"),
    "rate zero": (SOUND, 0),
    "half a rate": (SOUND, 16000.5),
    "three things": (SOUND, 16000, 2),
    "other names": {"samples": SOUND},
    "nothing": None,
    "a number": 3,
    "bytes": b"sound",
    "no numbers": (SOUND * np.nan, 16000),
    "truth values": (SOUND > 0, 16000),
    "objects": (np.array([None, 1]), 16000),
    "three axes": (np.zeros((3, 4, 5)), 16000),
    "empty": ([], 16000),
    "an Audio without a rate": Audio(SOUND, None),  # type: ignore[arg-type]
    "an Audio of nothing": Audio(None, 16000),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", BAD_SOUNDS)
def test_what_is_no_sound_is_one_sentence(kind: str) -> None:
    with pytest.raises(AudioError) as caught:
        load_speech(BAD_SOUNDS[kind], GenerationSettings(), ModelRules())
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_the_sentence_about_samples_alone_gives_a_way_that_works() -> None:
    with pytest.raises(
        AudioError, match=r"give \(samples, sample_rate\) or fantasytalking\.Audio\(samples, sample_rate\)"
    ):
        load_speech(SOUND, GenerationSettings(), ModelRules())  # type: ignore[arg-type]
    import fantasytalking

    for given in ((SOUND, 16000), fantasytalking.Audio(SOUND, 16000)):
        assert load_speech(given, GenerationSettings(), ModelRules()).soundtrack.seconds == 0.5


CALLS: dict[str, tuple[type[InputError], Callable[[Path], object]]] = {
    "load_audio of an array": (AudioError, lambda folder: load_audio(SOUND)),  # type: ignore[arg-type]
    "load_audio of nothing": (AudioError, lambda folder: load_audio(None)),  # type: ignore[arg-type]
    "load_audio at rate 0": (AudioError, lambda folder: load_audio(wave(folder), 0)),
    "load_audio from a word on": (AudioError, lambda folder: load_audio(wave(folder), start="x")),  # type: ignore[arg-type]
    "load_audio before the start": (AudioError, lambda folder: load_audio(wave(folder), start=-1)),
    "probe_video of a list": (VideoError, lambda folder: probe_video(["a.mp4"])),  # type: ignore[arg-type]
    "read_frames of bytes": (VideoError, lambda folder: read_frames(b"a.mp4")),  # type: ignore[arg-type]
    "write_video of nothing": (VideoError, lambda folder: write_video(folder / "o.mp4", None, 25)),  # type: ignore[arg-type]
    "write_video at a word": (VideoError, lambda folder: write_video(folder / "o.mp4", [PICTURE], "25")),  # type: ignore[arg-type]
    "write_video with bare samples": (
        AudioError,
        lambda folder: write_video(folder / "o.mp4", [PICTURE], 25, SOUND),  # type: ignore[arg-type]
    ),
    "track_mesh of nothing": (ImageError, lambda folder: track_mesh(None)),  # type: ignore[arg-type]
    "embed_aligned of nothing": (InputError, lambda folder: embed_aligned(None)),  # type: ignore[arg-type]
    "is_silent of nothing": (AudioError, lambda folder: is_silent(None)),  # type: ignore[arg-type]
    "normalise_loudness of two channels": (AudioError, lambda folder: normalise_loudness(np.stack([SOUND, SOUND]))),
}


def wave(folder: Path) -> Path:
    from tests.media.files import write_sound

    return write_sound(folder / "a.wav", SOUND[None])


@pytest.mark.parametrize("call", CALLS)
def test_other_functions_refuse_what_they_cannot_take_in_one_sentence(call: str, tmp_path: Path) -> None:
    kind, run = CALLS[call]
    with pytest.raises(kind) as caught:
        run(tmp_path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert not (tmp_path / "o.mp4").exists()


def test_a_video_gets_its_sound_of_any_number_type(tmp_path: Path) -> None:
    whole = (SOUND * 32767).astype(np.int16)
    path = write_video(tmp_path / "o.mp4", [PICTURE] * 13, 25, Audio(whole, 16000))  # type: ignore[arg-type]
    heard = load_audio(path).samples
    assert 0.8 < heard.std() / SOUND.std() < 1.2
