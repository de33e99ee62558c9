"""Inputs of nodes, made from the records that the command line is made from: settings, and the options of a run.

A model folder has settings of its own, and ComfyUI sends a value for every widget. So each widget has one more value, its default, that
stands for "not given": -1 for a number, `MODELS_OWN` for a choice, nothing for a text.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from comfy_api.latest import io

from fantasytalking.pipeline.settings import GenerationSettings, settings_list
from fantasytalking.system.records import FieldDescription

__all__ = [
    "DUB_SETTINGS",
    "FACE_SETTINGS",
    "MAIN_SETTINGS",
    "MODELS_OWN",
    "OTHER_SETTINGS",
    "SPEECH_SETTINGS",
    "given_options",
    "given_settings",
    "option_inputs",
    "setting_inputs",
]

MODELS_OWN = "model's own"
"""Choice that stands for the setting of the model."""
NOT_GIVEN = -1

MAIN_SETTINGS = ("seed", "steps", "audio_guidance_scale", "prompt_guidance_scale", "prompt")
"""Settings on each node that generates."""
SPEECH_SETTINGS = ("max_seconds", "audio_scale", "audio_level", "audio_start_percent", "audio_end_percent")
"""Settings of the node of the speech."""
FACE_SETTINGS = ("face", "face_check", "w_face", "w_body", "identity_scale")
"""Settings of the node of face and motion."""
DUB_SETTINGS = ("dub_area", "dub_strength", "dub_volume")
"""Settings of the node that dubs."""
OTHER_SETTINGS = tuple(
    one.name
    for one in settings_list()
    if one.name not in {*MAIN_SETTINGS, *SPEECH_SETTINGS, *FACE_SETTINGS, *DUB_SETTINGS}
)
"""Settings of the node of settings: all others, those that will be added later among them."""

_ALWAYS_GIVEN = ("seed",)
"""Settings that no model has of its own."""
_LONG_TEXTS = ("prompt", "negative_prompt")
_EVERYDAY = (*MAIN_SETTINGS, *FACE_SETTINGS, *DUB_SETTINGS, "max_seconds", "longest_side", "negative_prompt", "fps")
"""Settings that are shown at once; ComfyUI folds the others away as advanced."""


def setting_inputs(names: Iterable[str]) -> list[Any]:
    """Inputs for some settings.

    Args:
        names: Their names.
    """
    described = {one.name: one for one in settings_list()}
    return [_setting_input(described[name]) for name in names]


def given_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that were given, by name, of values of widgets.

    Args:
        values: Value of each widget by name of the setting.

    Raises:
        SettingsError: A value is not accepted.
    """
    given = {name: value for name, value in values.items() if name in _ALWAYS_GIVEN or not _is_own(value)}
    GenerationSettings.create(given)
    return given


def _is_own(value: Any) -> bool:
    return value in (NOT_GIVEN, MODELS_OWN, "", None) and not isinstance(value, bool)


def _setting_input(setting: FieldDescription) -> Any:
    words = setting.help
    if setting.accepted != "text" and not setting.choices:
        unit = f", {setting.unit}" if setting.unit else ""
        words += f" Accepts {setting.accepted}{unit}."
    extra = {} if setting.name in _EVERYDAY else {"advanced": True}
    if setting.choices:
        options = [MODELS_OWN, *setting.choices]
        return io.Combo.Input(setting.name, options=options, default=MODELS_OWN, tooltip=words, extra_dict=extra)
    if setting.kind is str:
        tip = f"{words} Empty: the model's own."
        multiline = setting.name in _LONG_TEXTS
        return io.String.Input(setting.name, default="", multiline=multiline, tooltip=tip, extra_dict=extra)
    if setting.name in _ALWAYS_GIVEN:
        most = int(setting.maximum or 0)
        return io.Int.Input(
            setting.name, default=setting.default, min=0, max=most, control_after_generate=True, tooltip=words
        )
    assert setting.maximum is not None and (setting.minimum or 0) >= 0
    tip = f"{words} {NOT_GIVEN}: the model's own."
    if setting.kind is int:
        return io.Int.Input(
            setting.name, default=NOT_GIVEN, min=NOT_GIVEN, max=int(setting.maximum), tooltip=tip, extra_dict=extra
        )
    step = 0.01 if setting.maximum <= 1 else 0.1
    return io.Float.Input(
        setting.name,
        default=float(NOT_GIVEN),
        min=float(NOT_GIVEN),
        max=float(setting.maximum),
        step=step,
        round=0.001,
        tooltip=tip,
        extra_dict=extra,
    )


def option_inputs(record: type[Any], names: Iterable[str], everyday: Iterable[str] = ()) -> list[Any]:
    """Inputs for options of a run.

    Args:
        record: Dataclass of options, such as `MemoryOptions`.
        names: Its fields.
        everyday: Those of them that are shown at once.
    """
    hints, docs, shown = get_type_hints(record), _docs(record), set(everyday)
    return [_option_input(name, hints[name], getattr(record, name), docs[name], name in shown) for name in names]


def _option_input(name: str, kind: Any, default: Any, words: str, is_everyday: bool) -> Any:
    extra = {} if is_everyday else {"advanced": True}
    if get_origin(kind) is Literal:
        return io.Combo.Input(name, options=list(get_args(kind)), default=default, tooltip=words, extra_dict=extra)
    if int in get_args(kind):
        tip = f"{words} {NOT_GIVEN}: as many as are of use."
        return io.Int.Input(name, default=NOT_GIVEN, min=NOT_GIVEN, max=1024, tooltip=tip, extra_dict=extra)
    tip = words if default else f"{words} Empty: the model's own."
    return io.String.Input(name, default=default or "", tooltip=tip, extra_dict=extra)


def given_options(record: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were given, of values of widgets; the others have their defaults.

    Args:
        record: Dataclass of options.
        values: Value of each widget by its name; those that are no fields of the record are left out.
    """
    fields = record.__dataclass_fields__
    return {name: value for name, value in values.items() if name in fields and not _is_own(value)}


def _docs(record: type[Any]) -> dict[str, str]:
    """The text below each field of a dataclass, in ComfyUI's words: widgets are no options of a command line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            text = inspect.cleandoc(str(ast.literal_eval(after.value)))
            found[field.target.id] = re.sub(
                r"(?<!info )--([a-z-]+)", lambda match: match[1].replace("-", "_"), " ".join(text.split())
            )
    return found
