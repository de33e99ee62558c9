"""The settings of a generation as the API shows and takes them, made from the fields of `GenerationSettings`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.settings import GenerationSettings, settings_list
from fantasytalking.system.records import FieldDescription, nearest_name

__all__ = ["check_names", "parsed_settings", "setting_object", "setting_schema", "settings_properties"]

_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Picture", ("longest_side", "fps", "face", "face_check")),
    ("Speech", ("max_seconds", "separate_speech", "audio_guidance_scale", "audio_scale", "audio_level")),
    ("Motion", ("w_face", "w_body", "identity_scale")),
    ("Prompt", ("prompt", "negative_prompt", "prompt_guidance_scale")),
    ("Sampling", ("steps", "seed", "sigma_shift")),
    ("Dubbing", ("dub_",)),
    ("Long videos", ("long_video", "segment_seconds", "window_weights", "prefix_noise", "anchor_audio", "hold_look")),
    ("Guidance over the steps", ("audio_start", "audio_end", "guidance_start", "guidance_end")),
    ("Marks", ("manifest", "watermark", "label")),
    ("Speed", ("batch_passes", "reuse_conditions", "cache")),
)
_REST = "More"


def setting_schema(setting: FieldDescription, default: Any) -> dict[str, Any]:
    """A setting in JSON Schema.

    Args:
        setting: Its description.
        default: The model's default.
    """
    kind = _TYPES[setting.kind]
    schema: dict[str, Any] = {
        "type": [kind, "null"] if setting.optional else kind,
        "description": setting.help,
        "default": default,
    }
    bounds = {"minimum": setting.minimum, "maximum": setting.maximum, "multipleOf": setting.multiple}
    schema |= {name: bound for name, bound in bounds.items() if bound is not None}
    if setting.choices:
        schema["enum"] = [*setting.choices, *([None] if setting.optional else [])]
    if setting.unit:
        schema["x-unit"] = setting.unit
    return schema


def settings_properties(defaults: GenerationSettings) -> dict[str, Any]:
    """All settings as properties of an object in JSON Schema."""
    return {one.name: setting_schema(one, getattr(defaults, one.name)) for one in settings_list()}


def setting_object(setting: FieldDescription, default: Any) -> dict[str, Any]:
    """A setting as `GET /v1/settings` gives it; the arguments are those of `setting_schema`."""
    return {
        "name": setting.name,
        "title": setting.name.replace("_", " ")
        .replace("w face", "face motion")
        .replace("w body", "body motion")
        .replace("fps", "frame rate")
        .capitalize(),
        "help": setting.help,
        "type": _TYPES[setting.kind],
        "optional": setting.optional,
        "default": default,
        "minimum": setting.minimum,
        "maximum": setting.maximum,
        "choices": list(setting.choices),
        "unit": setting.unit,
        "group": _group(setting.name),
    }


def check_names(names: Mapping[str, Any], others: tuple[str, ...]) -> None:
    """Refuse fields of a request that do not exist.

    Args:
        names: The fields.
        others: Those that are no settings.

    Raises:
        SettingsError: There is one; the nearest name is offered.
    """
    known = [*others, *(one.name for one in settings_list())]
    for name in names:
        if name not in known:
            raise SettingsError(f"There is no field {name!r}; {nearest_name(name, known, 'fields')}")


def parsed_settings(fields: Mapping[str, Any], usual: GenerationSettings | None = None) -> dict[str, Any]:
    """The settings among the fields of a request; those of a form are text.

    Args:
        fields: The fields.
        usual: The model's defaults, which an error offers; None: the library's.

    Raises:
        SettingsError: A value is not accepted.
    """
    given: dict[str, Any] = {}
    for setting in settings_list():
        if setting.name not in fields:
            continue
        value = fields[setting.name]
        if usual is not None:
            setting = dataclasses.replace(setting, default=getattr(usual, setting.name))
        # An empty field of a form means that nothing was given, but for texts, which may be empty.
        if isinstance(value, str) and setting.kind is not str:
            value = None if value == "" and setting.optional else setting.parse(value)
        elif isinstance(value, str) and setting.optional and value.lower() == "none":
            value = None
        if isinstance(value, int | float | str):
            setting.check(value)
        given[setting.name] = value
    GenerationSettings.create(given)
    return given


def _group(name: str) -> str:
    return next((group for group, names in _GROUPS if name in names or name.startswith(names)), _REST)
