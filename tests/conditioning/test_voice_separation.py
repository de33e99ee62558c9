"""The voice out of a recording, with a tiny random network of the published class, read from a file as published."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fantasytalking.conditioning import voice_separation
from fantasytalking.conditioning.voice_separation import find_separator, load_separator, separated_voice
from fantasytalking.errors import AudioError, CheckpointError, MissingDependencyError
from fantasytalking.media.audio import Audio
from fantasytalking.pipeline.inputs import load_speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.settings import GenerationSettings
from tests.pipeline.tiny_pipeline import speech

SIZES: dict[str, Any] = {
    "sources": ["drums", "bass", "other", "vocals"],
    "channels": 8,
    "nfft": 256,
    "depth": 2,
    "t_layers": 1,
    "t_heads": 2,
    "dconv_depth": 1,
    "samplerate": 16000,
}


def write_network(folder: Path, name: str = "0123abcd", **told: str) -> Path:
    """A folder as the package's own publishing tool writes it; gives the file of the weights."""
    htdemucs = pytest.importorskip("demucs.htdemucs", reason="demucs is not installed")
    torch.manual_seed(0)
    network = htdemucs.HTDemucs(**SIZES, segment=1)
    fraction = {"_type": "fraction", "numerator": 1, "denominator": 1}
    metadata = {
        "klass": "demucs.htdemucs.HTDemucs",
        "args": "[]",
        "kwargs": json.dumps({**SIZES, "segment": fraction}),
        **told,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / "a", metadata)
    digest = hashlib.sha256((folder / "a").read_bytes()).hexdigest()
    path = folder / f"{name.format(digest[:8])}.safetensors"
    (folder / "a").rename(path)
    (folder / "htdemucs.yaml").write_text(f"models: ['{name.partition('-')[0]}']\n")
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_network(tmp_path / "separator", "0123abcd-{}")
    monkeypatch.setenv("FANTASYTALKING_SEPARATOR", str(tmp_path / "separator"))
    return tmp_path / "separator"


def test_the_video_follows_the_voice_and_its_sound_is_the_whole_recording(folder: Path) -> None:
    settings, rules, sound = GenerationSettings.create({}), ModelRules(), speech(1.0, 48000)
    plain, separated = (load_speech(sound, settings.replace(separate_speech=choice), rules) for choice in ("off", "on"))
    assert np.array_equal(plain.soundtrack.samples, separated.soundtrack.samples)
    assert plain.samples.shape == separated.samples.shape and not np.allclose(
        plain.samples, separated.samples, atol=1e-3
    )
    assert (plain.num_frames, plain.video_frames) == (separated.num_frames, separated.video_frames)
    assert not plain.notes and "follows the voice alone" in separated.notes[0]
    again = load_speech(sound, settings.replace(separate_speech="on"), rules)
    assert np.array_equal(separated.samples, again.samples)


def test_a_long_recording_is_separated_in_blocks_without_a_jump(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, state = load_separator(find_separator()), random.getstate()
    sound = speech(3.0)
    whole, share = separated_voice(sound, network)
    monkeypatch.setattr(voice_separation, "BLOCK_SECONDS", 1.5)
    parts, _ = separated_voice(sound, network)
    assert len(parts.samples) == len(whole.samples) == 48000 and share > 0
    assert random.getstate() == state
    steps = np.abs(np.diff(parts.samples))
    for seam in (16000, 24000, 32000):
        assert steps[seam - 100 : seam + 100].max() <= 1.5 * np.abs(np.diff(whole.samples)).max()
    # in place, although a random network hears other edges in each block
    lags = {
        lag: float(np.dot(whole.samples[1000:-1000], np.roll(parts.samples, lag)[1000:-1000])) for lag in range(-30, 31)
    }
    assert max(lags, key=lambda lag: lags[lag]) == 0


def test_silence_that_is_left_is_told(folder: Path) -> None:
    network = load_separator(find_separator())
    with torch.no_grad():
        for parameter in network.models[0].parameters():
            parameter.zero_()
    with pytest.raises(AudioError, match="no voice left"):
        separated_voice(speech(1.0), network)


def test_a_missing_package_or_network_is_one_sentence_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice_separation, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"demucs, which is not installed.*fantasytalking\[separate\]"):
        find_separator()
    monkeypatch.setattr(voice_separation, "find_spec", lambda name: object())
    monkeypatch.delenv("FANTASYTALKING_SEPARATOR", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="not on this machine; run 'hf download adefossez/HTDemucs'"):
        find_separator()
    monkeypatch.setenv("FANTASYTALKING_SEPARATOR", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"has no htdemucs\.yaml"):
        find_separator()


def test_the_cache_of_the_hub_is_read_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FANTASYTALKING_SEPARATOR", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    path = write_network(tmp_path / "written")
    home = tmp_path / "models--adefossez--HTDemucs"
    snapshot, blob = home / "snapshots" / "1", home / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
    for one in (snapshot, blob.parent, home / "refs"):
        one.mkdir(parents=True)
    (home / "refs" / "main").write_text("1")
    path.rename(blob)
    os.symlink(blob, snapshot / path.name)
    (path.parent / "htdemucs.yaml").rename(snapshot / "htdemucs.yaml")
    assert load_separator(find_separator()).sources[3] == "vocals"
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_separator(find_separator())


def test_files_that_are_not_such_a_network_are_refused_and_run_nothing(folder: Path, tmp_path: Path) -> None:
    description, (path,) = folder / "htdemucs.yaml", folder.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_separator(description)
    # demucs would call what the file names
    foreign = tmp_path / "foreign"
    write_network(foreign, klass="os.system", args=json.dumps([f"touch {tmp_path / 'run'}"]), kwargs="{}")
    with pytest.raises(CheckpointError, match=r"holds os\.system"):
        load_separator(foreign / "htdemucs.yaml")
    assert not (tmp_path / "run").exists()
    (foreign / "0123abcd.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no 0123abcd\.safetensors"):
        load_separator(foreign / "htdemucs.yaml")
    write_network(foreign, kwargs=json.dumps({**SIZES, "channels": 16}))
    (foreign / ".0123abcd.safetensors.stamp").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="not a network that this demucs can load"):
        load_separator(foreign / "htdemucs.yaml")
    description.write_text("no list")
    with pytest.raises(CheckpointError, match="does not list the parts"):
        load_separator(description)


def test_a_recording_of_samples_is_separated_as_a_file_is(folder: Path) -> None:
    sound = speech(0.5, 44100)
    voice, _ = separated_voice(Audio(sound.samples, 44100), load_separator(find_separator()))
    assert (len(voice.samples), voice.sample_rate) == (22050, 44100)


def test_the_example_of_the_documentation_names_what_is_needed() -> None:
    text = (Path(__file__).parents[2] / "docs" / "generate.md").read_text(encoding="utf-8")
    assert f"hf download {voice_separation.REPOSITORY}\n" in text and "--separate-speech on" in text
    assert voice_separation.FOLDER_VARIABLE in text and "'.[separate]'" in text
