"""Messages of a client of `WS /v1/realtime`, checked: JSON objects with a `type`, and speech.

| message | means |
|---|---|
| `session.start`: `image_reference`, where wanted `model`, `sample_rate`, `pcm_format`, `segment_seconds`, `settings` | the first |
| binary | speech: raw PCM, one channel, chunks of any length |
| `speech.finish` | no more speech comes |
| `session.cancel` | end at once |
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Literal

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.serving.api.settings_schema import check_names, parsed_settings
from fantasytalking.system.records import field, record

__all__ = ["CANCEL", "FINISH", "LIVE_IMAGE_BYTES", "START", "SessionStart", "parse_message"]

LIVE_IMAGE_BYTES = 32 * 2**20
"""Largest portrait of a live session, whose first message lies in memory as a whole; also bounded by `image_bytes`."""

START, FINISH, CANCEL = "session.start", "speech.finish", "session.cancel"
_TYPES = (START, FINISH, CANCEL)


@record
class SessionStart:
    """What a session is to be."""

    sample_rate: Annotated[
        int, field("Samples a second of the speech.", minimum=8000, maximum=192_000, unit="samples per second")
    ] = 16000
    pcm_format: Annotated[Literal["s16le", "s32le", "f32le"], field("Format of the speech.")] = "s16le"
    segment_seconds: Annotated[
        float | None,
        field("Speech that is animated at once; nothing means the usual.", minimum=0.16, maximum=8, unit="seconds"),
    ] = None
    model: Annotated[str | None, field("Model; nothing means the server's.")] = None
    image: bytes = b""
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, message: dict[str, Any], most_bytes: int) -> SessionStart:
        """The session that a first message asks for.

        Args:
            message: The message.
            most_bytes: Largest portrait.

        Raises:
            InputError: The portrait is missing, too large or no base64.
            SettingsError: A field or a setting does not exist or has a bad value.
        """
        fields = {name: value for name, value in message.items() if name not in ("type", "image_reference", "settings")}
        given = message.get("settings", {})
        if not isinstance(given, dict):
            raise SettingsError("settings must be an object of settings by name.")
        check_names(given, ())
        image = _decoded(message.get("image_reference"), most_bytes)
        return cls(**fields, image=image, settings=tuple(parsed_settings(given).items()))


def parse_message(text: str) -> dict[str, Any]:
    """A message of a client.

    Raises:
        SettingsError: It is none.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or message.get("type") not in _TYPES:
        raise SettingsError(f"A message is a JSON object whose type is {', '.join(_TYPES[:-1])} or {_TYPES[-1]}.")
    return message


def _decoded(reference: Any, most_bytes: int) -> bytes:
    text = reference.get("data") if isinstance(reference, dict) else reference
    if not isinstance(text, str) or not text:
        raise InputError('image_reference is missing; give the portrait as a data URL or as {"data": base64}.')
    if text.startswith("data:"):
        text = text.partition(",")[2]
    if len(text) * 3 // 4 > most_bytes:
        raise InputError(f"image_reference is larger than {most_bytes} bytes, the most that this server takes.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("image_reference is no base64; give the portrait as a data URL.") from None
