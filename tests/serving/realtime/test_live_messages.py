import base64
from typing import Any

import pytest

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.serving.realtime.live_messages import START, SessionStart, parse_message

PORTRAIT = base64.b64encode(b"pixels").decode()


def start(**message: Any) -> SessionStart:
    return SessionStart.of({"type": START, "image_reference": PORTRAIT, **message}, most_bytes=1000)


def test_a_session_has_the_settings_that_the_message_gives_and_the_usual_rate_and_format() -> None:
    found = start(settings={"w_face": 0.8, "seed": 3})
    assert (found.sample_rate, found.pcm_format, found.image) == (16000, "s16le", b"pixels")
    assert dict(found.settings) == {"w_face": 0.8, "seed": 3}


@pytest.mark.parametrize("reference", [{"data": PORTRAIT}, f"data:image/png;base64,{PORTRAIT}", PORTRAIT])
def test_the_portrait_comes_as_data_url_or_base64(reference: Any) -> None:
    assert start(image_reference=reference).image == b"pixels"


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        ({"image_reference": None}, InputError, "image_reference is missing"),
        ({"image_reference": "ä"}, InputError, "no base64"),
        ({"image_reference": "A" * 2000}, InputError, "larger than 1000 bytes"),
        ({"sample_rate": 10}, SettingsError, "sample_rate must be .* 8000"),
        ({"pcm_format": "mp3"}, SettingsError, "pcm_format must be s16le, s32le or f32le, but 'mp3'"),
        ({"settings": {"w_fase": 1}}, SettingsError, "There is no field 'w_fase'.*w_face"),
        ({"settings": {"w_face": 7}}, SettingsError, "w_face must be"),
        ({"settings": []}, SettingsError, "settings must be an object"),
        ({"sampel_rate": 8000}, SettingsError, "sampel_rate.*sample_rate"),
    ],
)
def test_a_bad_first_message_is_one_sentence(message: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        start(**message)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"type": "hello"}', "[" * 100_000])
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"A message is a JSON object whose type is session.start"):
        parse_message(text)
