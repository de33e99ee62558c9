"""The settings of a generation, each with default, range, unit and help.

The Python call, the command line and `docs/settings.md` are made from the fields of `GenerationSettings`, the only place
that names a setting. A model folder may replace defaults (the `defaults` entry of its `model_index.json`); what the
caller gives takes precedence over both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fantasytalking.errors import SettingsError
from fantasytalking.provenance.label import check_label_text
from fantasytalking.system.records import FieldDescription, describe, field, plain, record

__all__ = ["DECIDING_BY_PASS", "NEGATIVE_PROMPT", "GenerationSettings", "settings_list", "settings_table"]

DECIDING_BY_PASS = ("first-block",)
"""Caches that decide for each guidance pass whether it is computed, so that passes never run as one batch."""

# The negative prompt that the Wan models are released with, and that FantasyTalking uses.
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，"
    "静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


@record
class GenerationSettings:
    """Settings of one generation, checked whenever a record is made.

    Defaults are the released ones (user guide and inference script); w_face, w_body and identity_scale are the paper's.

    Raises:
        SettingsError: A value is outside its range or of the wrong type.
    """

    steps: Annotated[int, field("Denoising steps: more is finer and slower.", minimum=1, maximum=1000)] = 30
    prompt_guidance_scale: Annotated[
        float,
        field("How strongly the video follows the prompt; 1 saves a network pass per step.", minimum=0, maximum=30),
    ] = 5.0
    audio_guidance_scale: Annotated[
        float,
        field(
            "How strongly lips and expression follow the speech, 3 to 7 works best; 1 saves a network pass per step.",
            minimum=0,
            maximum=30,
        ),
    ] = 5.0
    audio_start_percent: Annotated[
        float, field("Where in the steps audio guidance begins.", minimum=0, maximum=100, unit="percent of the steps")
    ] = 0.0
    audio_end_percent: Annotated[
        float,
        field(
            "Where in the steps audio guidance ends; below 100 it can prevent a colour shift in the first frame.",
            minimum=0,
            maximum=100,
            unit="percent of the steps",
        ),
    ] = 100.0
    guidance_start_percent: Annotated[
        float,
        field(
            "Where in the steps guidance begins; before it, guidance scales above 1 count as 1, which takes one network pass.",
            minimum=0,
            maximum=100,
            unit="percent of the steps",
        ),
    ] = 0.0
    guidance_end_percent: Annotated[
        float,
        field(
            "Where in the steps guidance ends; after it, guidance scales above 1 count as 1, which takes one network pass.",
            minimum=0,
            maximum=100,
            unit="percent of the steps",
        ),
    ] = 100.0
    audio_scale: Annotated[
        float,
        field("Weight of the audio cross-attention (lambda 1 of the paper); 0 disables audio.", minimum=0, maximum=10),
    ] = 1.0
    audio_level: Annotated[
        Literal["frame", "clip"],
        field("Whether each frame hears its own window of the speech, or all of it as in stage 1 of training."),
    ] = "frame"
    identity_scale: Annotated[
        float,
        field(
            "Weight of the face identity cross-attention (lambda 2), where the model has one.", minimum=0, maximum=10
        ),
    ] = 0.5
    w_face: Annotated[
        float,
        field("Liveliness of the face, where the model has a motion network; 0.5 is natural.", minimum=0, maximum=1),
    ] = 0.5
    w_body: Annotated[
        float,
        field(
            "Liveliness of head and body, where the model has a motion network; 0.5 is natural.", minimum=0, maximum=1
        ),
    ] = 0.5
    sigma_shift: Annotated[
        float,
        field("Shift of the noise schedule: higher spends more steps on the coarse motion.", minimum=0.1, maximum=100),
    ] = 5.0
    seed: Annotated[
        int, field("Seed of the noise: the same seed gives the same video.", minimum=0, maximum=2**32 - 1)
    ] = 0
    fps: Annotated[
        float | None,
        field(
            "Frame rate of the video; nothing means the model's own.", minimum=1, maximum=120, unit="frames per second"
        ),
    ] = None
    max_seconds: Annotated[
        float | None,
        field(
            "Use at most this much of the speech; nothing means all of it.", minimum=0.2, maximum=86400, unit="seconds"
        ),
    ] = None
    separate_speech: Annotated[
        Literal["off", "on"],
        field(
            "Whether the video follows the voice alone, taken out of a recording with music or noise; its sound stays the whole recording."
        ),
    ] = "off"
    long_video: Annotated[
        Literal["auto", "continue", "windows"],
        field(
            "How videos longer than a clip are made: continue goes on from the last frames, windows fuses clips; auto: the model's way."
        ),
    ] = "auto"
    segment_seconds: Annotated[
        float | None,
        field(
            "Longest clip that a long video is made of; nothing means the model's longest.",
            minimum=1,
            maximum=120,
            unit="seconds",
        ),
    ] = None
    window_weights: Annotated[
        Literal["linear", "pyramid"],
        field(
            "With windows: linear: neighbours share a quarter and fade there; pyramid: half, the middle of each counts most, slower."
        ),
    ] = "linear"
    prefix_noise: Annotated[
        float | None,
        field(
            "With continue: noise level of the frames that a segment begins with, so that faults are not copied; nothing: the model's own.",
            minimum=0,
            maximum=1,
        ),
    ] = None
    anchor_audio: Annotated[
        Literal["auto", "on", "off"],
        field(
            "With continue: whether the frames that a segment begins with hear the speech; auto: where the model is trained to continue."
        ),
    ] = "auto"
    hold_look: Annotated[
        Literal["auto", "on", "off"],
        field(
            "With continue: whether segments begin with the portrait's colours and sharpness; auto: where they begin with decoded frames."
        ),
    ] = "auto"
    longest_side: Annotated[
        int | None,
        field(
            "Longest side of the video; nothing means the model's own rule.", minimum=64, maximum=8192, unit="pixels"
        ),
    ] = None
    face: Annotated[
        int | None,
        field("Which face talks, counted from 0 by size; nothing means the largest.", minimum=0, maximum=999),
    ] = None
    face_check: Annotated[
        Literal["strict", "warn", "off"],
        field(
            "Whether the face is looked at closely: strict refuses what is hardly human, warn animates it with a note, off does not look."
        ),
    ] = "strict"
    dub_area: Annotated[
        Literal["lips", "face"],
        field(
            "In dubbed footage, what a model that paints whole frames makes anew: mouth and chin, or the whole face; the embedded model "
            "moves mouth and chin."
        ),
    ] = "lips"
    dub_strength: Annotated[
        float,
        field(
            "In dubbed footage, share of the steps that a model that paints whole frames takes: 1 begins with noise alone, less keeps more "
            "of the filmed face.",
            minimum=0.05,
            maximum=1,
        ),
    ] = 0.85
    dub_volume: Annotated[
        float,
        field("Loudness of the footage's own sound below the new speech; 0 replaces it.", minimum=0, maximum=1),
    ] = 0.0
    manifest: Annotated[
        Literal["on", "off"],
        field(
            "Whether the file carries a signed C2PA manifest that says a model made it; off leaves that to you, where the law asks for it."
        ),
    ] = "on"
    watermark: Annotated[
        Literal["on", "off"],
        field(
            "Whether the frames carry an invisible watermark; off: nobody can tell the video from a filmed one once its metadata is lost, "
            "and where the law asks for a mark you add one yourself."
        ),
    ] = "on"
    label: Annotated[
        Literal["off", "repeated", "always"],
        field(
            "Visible label in the upper left corner: repeated: for the first 5 s and again at each minute, always: throughout, off: none."
        ),
    ] = "off"
    label_text: Annotated[
        str, field("Text of the visible label in Latin, Greek or Cyrillic letters, such as AI, KI or AI-generated.")
    ] = "AI"
    prompt: Annotated[str, field("What the video shows, in words, for models with a text encoder.")] = ""
    negative_prompt: Annotated[str, field("What the video must not show, in words.")] = NEGATIVE_PROMPT
    batch_passes: Annotated[
        Literal["auto", "on", "off"],
        field("Whether the guidance passes of a step run as one batch: faster, but needs more memory."),
    ] = "auto"
    reuse_conditions: Annotated[
        Literal["auto", "on", "off"],
        field(
            "Whether keys and values of prompt, portrait and speech are computed once for all steps: exact and faster, but needs memory."
        ),
    ] = "auto"
    cache: Annotated[
        Literal["none", "first-block", "magcache", "sea", "taylorseer", "pab"],
        field("Step cache: skips blocks, or with pab attention, on steps that change little; faster and less exact."),
    ] = "none"
    cache_threshold: Annotated[
        float | None,
        field(
            "Change that the caches first-block, magcache and sea overlook: more is faster; nothing means the cache's own.",
            minimum=0,
            maximum=1,
        ),
    ] = None
    cache_interval: Annotated[
        int | None,
        field(
            "Of so many steps, the caches magcache, sea, taylorseer and pab compute at least one; nothing means the cache's own.",
            minimum=2,
            maximum=100,
            unit="steps",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.label != "off":
            check_label_text(self.label_text)
        for what in ("audio", "guidance"):
            start, end = getattr(self, f"{what}_start_percent"), getattr(self, f"{what}_end_percent")
            if start > end:
                raise SettingsError(
                    f"{what}_start_percent must not exceed {what}_end_percent, but {plain(start)} and {plain(end)} were given; swap them."
                )
        for name, caches, other in (
            ("cache_threshold", ("taylorseer", "pab"), "cache_interval"),
            ("cache_interval", ("first-block",), "cache_threshold"),
        ):
            if self.cache in caches and getattr(self, name) is not None:
                raise SettingsError(
                    f"{name} has no effect with the cache {self.cache}, but {plain(getattr(self, name))} was given; "
                    f"use {other}, and none for {name}."
                )

    @classmethod
    def create(cls, *layers: Mapping[str, Any]) -> GenerationSettings:
        """Settings from mappings of name to value; later ones take precedence.

        Raises:
            SettingsError: An unknown name (the nearest one is offered) or a bad value.
        """
        merged: dict[str, Any] = {}
        for layer in layers:
            merged.update(layer)
        return cls(**merged)

    def replace(self, **changes: Any) -> GenerationSettings:
        """A copy with some settings changed.

        Raises:
            SettingsError: An unknown name (the nearest one is offered) or a bad value.
        """
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain values, for JSON."""
        return dataclasses.asdict(self)


def settings_list() -> tuple[FieldDescription, ...]:
    """Descriptions of all settings, in the order of the fields."""
    return describe(GenerationSettings)


def settings_table() -> str:
    """The table in `docs/settings.md`: one row per setting."""
    lines = [
        "| setting | command line | default | accepted | unit | what it does |",
        "|---|---|---|---|---|---|",
    ]
    for setting in settings_list():
        default = {None: "nothing", "": "empty", NEGATIVE_PROMPT: "the Wan negative prompt"}.get(
            setting.default, plain(setting.default)
        )
        cells = (f"`{setting.name}`", f"`{setting.option}`", default, setting.accepted, setting.unit, setting.help)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
