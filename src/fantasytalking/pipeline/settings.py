"""Every knob of a generation, once: default, range, unit and help.

The Python call, the command line and `docs/settings.md` are made from the fields of `GenerationSettings`; nothing else
names a knob. A model folder may replace defaults (the `defaults` entry of its `model_index.json`); what the caller
gives wins over both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fantasytalking.errors import SettingsError

__all__ = ["NEGATIVE_PROMPT", "GenerationSettings", "Setting", "setting_names", "settings_list", "settings_table"]

# The negative prompt that the Wan models are released with, and that FantasyTalking uses.
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，"
    "静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


@dataclass(frozen=True)
class Setting:
    """One knob, described for whoever builds a form, a command line or a table from it.

    Attributes:
        name: Field name; the command line writes it with dashes.
        kind: Type of the value; None is allowed as well where `optional`.
        optional: Whether None ("the model decides") is accepted.
        default: Value where neither the model folder nor the caller says otherwise.
        minimum: Smallest accepted number, or None.
        maximum: Largest accepted number, or None.
        choices: Accepted words, or empty.
        unit: Unit of the value, or "".
        help: One sentence.
    """

    name: str
    kind: type
    optional: bool
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    unit: str
    help: str

    @property
    def option(self) -> str:
        """Name of the command line option."""
        return "--" + self.name.replace("_", "-")

    @property
    def accepted(self) -> str:
        """The accepted values in words, for messages and tables."""
        if self.choices:
            return " or ".join((", ".join(self.choices[:-1]), self.choices[-1]))
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[self.kind]
        if self.minimum is not None and self.maximum is not None:
            words += f" from {_plain(self.minimum)} to {_plain(self.maximum)}"
        elif self.minimum is not None:
            words += f" of at least {_plain(self.minimum)}"
        return words + (" or nothing" if self.optional else "")

    def check(self, value: Any) -> Any:
        """Return `value` in this setting's type.

        Raises:
            SettingsError: wrong type, outside the range, or not one of the choices.
        """
        if value is None and self.optional:
            return None
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if self.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        wrong_type = not isinstance(value, self.kind) or (isinstance(value, bool) and self.kind is not bool)
        if wrong_type or (self.choices and value not in self.choices) or not self._in_range(value):
            unit = f" ({self.unit})" if self.unit else ""
            usual = "the model's own" if self.default is None else repr(self.default)
            raise SettingsError(
                f"{self.name} must be {self.accepted}{unit}, but {value!r} was given; leave it out for {usual}."
            )
        return value

    def parse(self, text: str) -> Any:
        """The value that a text stands for, as on a command line.

        Raises:
            SettingsError: The text is not an accepted value.
        """
        if self.optional and text.lower() in ("none", "auto"):
            return None
        value: Any = text
        with contextlib.suppress(ValueError):
            if self.kind is int:
                value = int(text)
            elif self.kind is float:
                value = float(text)
        return self.check(value)

    def _in_range(self, value: Any) -> bool:
        if self.minimum is None:
            return True
        upper = math.inf if self.maximum is None else self.maximum
        return bool(math.isfinite(value) and self.minimum <= value <= upper)


def _setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    unit: str = "",
) -> Any:
    return dataclasses.field(
        default=default, metadata={"help": help, "minimum": minimum, "maximum": maximum, "unit": unit}
    )


@dataclass(frozen=True)
class GenerationSettings:
    """How one video is generated; every field is checked when the record is made.

    Defaults are the released ones (user guide and inference script); w_face, w_body and identity_scale are the paper's.

    Raises:
        SettingsError: a value outside its range or of the wrong type.
    """

    steps: int = _setting(30, "Denoising steps: more is finer and slower.", minimum=1, maximum=1000)
    prompt_guidance_scale: float = _setting(
        5.0, "How strongly the video follows the prompt; 1 spares a network pass a step.", minimum=0, maximum=30
    )
    audio_guidance_scale: float = _setting(
        5.0,
        "How strongly lips and expression follow the speech, 3 to 7 works best; 1 spares a pass.",
        minimum=0,
        maximum=30,
    )
    audio_start_percent: float = _setting(
        0.0, "Where in the steps audio guidance begins.", minimum=0, maximum=100, unit="percent of the steps"
    )
    audio_end_percent: float = _setting(
        100.0,
        "Where in the steps audio guidance ends; below 100 it can spare a colour shift in the first frame.",
        minimum=0,
        maximum=100,
        unit="percent of the steps",
    )
    audio_scale: float = _setting(
        1.0, "Weight of the audio cross-attention (lambda 1 of the paper); 0 is deaf.", minimum=0, maximum=10
    )
    audio_level: Literal["frame", "clip"] = _setting(
        "frame",
        "Whether each frame listens to its own window of the speech, or to all of it as in stage 1 of training.",
    )
    identity_scale: float = _setting(
        0.5, "Weight of the face identity cross-attention (lambda 2), where the model has one.", minimum=0, maximum=10
    )
    w_face: float = _setting(
        0.5, "Liveliness of the face, where the model has a motion network; 0.5 is natural.", minimum=0, maximum=1
    )
    w_body: float = _setting(
        0.5, "Liveliness of head and body, where the model has a motion network; 0.5 is natural.", minimum=0, maximum=1
    )
    sigma_shift: float = _setting(
        5.0, "Shift of the noise schedule: higher spends more steps on the coarse motion.", minimum=0.1, maximum=100
    )
    seed: int = _setting(0, "Seed of the noise: the same seed gives the same video.", minimum=0, maximum=2**32 - 1)
    fps: float | None = _setting(
        None,
        "Frame rate of the video; nothing means the model's own.",
        minimum=1,
        maximum=120,
        unit="frames per second",
    )
    max_seconds: float | None = _setting(
        None,
        "Use at most this much of the speech; nothing means all of it.",
        minimum=0.2,
        maximum=86400,
        unit="seconds",
    )
    longest_side: int | None = _setting(
        None,
        "Longest side of the video; nothing means the model's own rule.",
        minimum=64,
        maximum=8192,
        unit="pixels",
    )
    face: int | None = _setting(
        None, "Which face talks, counted from 0 by size; nothing means the largest.", minimum=0, maximum=999
    )
    prompt: str = _setting("", "What the video shows, in words, for models with a text encoder.")
    negative_prompt: str = _setting(NEGATIVE_PROMPT, "What the video must not show, in words.")
    batch_passes: Literal["auto", "on", "off"] = _setting(
        "auto", "Whether the guidance passes of a step run as one batch: faster, but needs more memory."
    )

    def __post_init__(self) -> None:
        for setting in settings_list():
            object.__setattr__(self, setting.name, setting.check(getattr(self, setting.name)))
        if self.audio_start_percent > self.audio_end_percent:
            raise SettingsError(
                f"audio_start_percent must not exceed audio_end_percent, but {_plain(self.audio_start_percent)} and "
                f"{_plain(self.audio_end_percent)} were given; swap them."
            )

    @classmethod
    def create(cls, *layers: Mapping[str, Any]) -> GenerationSettings:
        """Settings from mappings of name to value; later layers win.

        Raises:
            SettingsError: an unknown name (the nearest one is offered) or a bad value.
        """
        merged: dict[str, Any] = {}
        for layer in layers:
            _check_names(layer)
            merged.update(layer)
        return cls(**merged)

    def replace(self, **changes: Any) -> GenerationSettings:
        """A copy with some settings changed.

        Raises:
            SettingsError: an unknown name (the nearest one is offered) or a bad value.
        """
        _check_names(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain values, for JSON."""
        return dataclasses.asdict(self)


def settings_list() -> tuple[Setting, ...]:
    """Every knob in the order of the fields."""
    if not _SETTINGS:
        hints = typing.get_type_hints(GenerationSettings)
        _SETTINGS.extend(_describe(field, hints[field.name]) for field in dataclasses.fields(GenerationSettings))
    return tuple(_SETTINGS)


def setting_names() -> tuple[str, ...]:
    """Names of all knobs."""
    return tuple(field.name for field in dataclasses.fields(GenerationSettings))


def settings_table() -> str:
    """The body of `docs/settings.md`: one table row a knob."""
    lines = [
        "| setting | command line | default | accepted | unit | what it does |",
        "|---|---|---|---|---|---|",
    ]
    for setting in settings_list():
        default = {None: "nothing", "": "empty", NEGATIVE_PROMPT: "the Wan negative prompt"}.get(
            setting.default, _plain(setting.default)
        )
        cells = (f"`{setting.name}`", f"`{setting.option}`", default, setting.accepted, setting.unit, setting.help)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


_SETTINGS: list[Setting] = []


def _describe(field: dataclasses.Field[Any], hint: Any) -> Setting:
    optional = isinstance(hint, types.UnionType)
    if optional:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    choices = tuple(typing.get_args(hint)) if typing.get_origin(hint) is Literal else ()
    return Setting(
        name=field.name,
        kind=str if choices else hint,
        optional=optional,
        default=field.default,
        choices=choices,
        **field.metadata,
    )


def _check_names(given: Iterable[str]) -> None:
    names = setting_names()
    for name in given:
        if name in names:
            continue
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        way_out = f"did you mean {nearest[0]!r}?" if nearest else f"the settings are {', '.join(names)}."
        raise SettingsError(f"There is no setting {name!r}; {way_out}")


def _plain(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float | int) and not isinstance(value, bool) else str(value)
