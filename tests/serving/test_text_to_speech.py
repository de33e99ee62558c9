"""Texts are spoken by what is on the machine, nothing is downloaded, and bad requests end in a sentence."""

from __future__ import annotations

import io
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from fantasytalking.errors import AudioError, SettingsError
from fantasytalking.serving.api.app import create_app
from fantasytalking.serving.server_settings import read_server_settings
from fantasytalking.serving.text_to_speech import speak, voices


def read(sound: bytes) -> tuple[np.ndarray, int]:
    with wave.open(io.BytesIO(sound)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """The whole application; not entered, so that it starts no workers."""
    settings = read_server_settings(None, {"data": str(tmp_path_factory.mktemp("data"))})
    return TestClient(create_app(settings), base_url="http://127.0.0.1")


def test_the_neural_voice_speaks_and_says_the_same_again() -> None:
    samples, rate = read(speak("Hello there.", "hibari:heart"))
    again, _ = read(speak("Hello there.", "hibari:heart"))
    slow, _ = read(speak("Hello there.", "hibari:heart", speed=0.5))
    assert rate == 24000
    assert 0.5 < len(samples) / rate < 3
    assert np.array_equal(samples, again)
    assert len(slow) > 1.5 * len(samples)


def test_only_voices_of_this_machine_are_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a voice is being downloaded")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setenv("HIBARI_HOME", str(tmp_path))
    voices.cache_clear()
    assert {"hibari:heart"} == {one.id for one in voices() if one.id.startswith("hibari:")}
    with pytest.raises(SettingsError, match="There is no voice 'hibari:emma'"):
        speak("Hello.", "hibari:emma")


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the program espeak-ng is not installed")
def test_espeak_speaks_other_languages_in_a_file_of_the_right_length() -> None:
    samples, rate = read(speak("Guten Tag; --stdout -w /tmp/x", "espeak-ng:de"))
    assert 0.5 < len(samples) / rate < 10


@pytest.mark.parametrize(
    ("text", "voice", "error", "message"),
    [
        ("  ", None, AudioError, "There are no words to speak"),
        ("你好", "hibari:heart", AudioError, "can read nothing in this text"),
        ("Hello.", "hibari:hart", SettingsError, "take 'hibari:heart'"),
        ("a" * 4001, None, SettingsError, "The text has 4001 characters"),
    ],
)
def test_what_cannot_be_spoken_is_told(text: str, voice: str | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        speak(text, voice)


def test_the_routes_list_voices_and_speak(client: TestClient) -> None:
    listed = client.get("/v1/voices").json()
    assert listed["data"][0]["id"] == "hibari:heart"
    answer = client.post("/v1/speech", json={"text": "Hello."})
    assert answer.headers["content-type"] == "audio/wav"
    assert read(answer.content)[0].any()
    refused = client.post("/v1/speech", json={"text": "Hello.", "voice": "nobody"})
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "voice"


def test_without_a_voice_the_server_says_what_to_install(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fantasytalking.serving.text_to_speech.voices", lambda: ())
    refused = client.post("/v1/speech", json={"text": "Hello."})
    assert refused.status_code == 501
    assert "install the extra 'tts'" in refused.json()["error"]["message"]
