"""Nodes that say what is generated: speech, speakers, face and motion, all other settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from fantasytalking.errors import SettingsError
from fantasytalking.integrations.comfyui.load_nodes import CATEGORY
from fantasytalking.integrations.comfyui.node_inputs import (
    FACE_SETTINGS,
    OTHER_SETTINGS,
    SPEECH_SETTINGS,
    given_settings,
    setting_inputs,
)
from fantasytalking.integrations.comfyui.tensors import audio_from

__all__ = [
    "FantasyTalkingFace",
    "FantasyTalkingSettings",
    "FantasyTalkingSpeaker",
    "FantasyTalkingSpeech",
    "FantasyTalkingSpeechFile",
    "Settings",
    "Speakers",
    "Speech",
    "SpokenSound",
    "together",
]

Settings = io.Custom("FANTASYTALKING_SETTINGS")
Speech = io.Custom("FANTASYTALKING_SPEECH")
Speakers = io.Custom("FANTASYTALKING_SPEAKERS")


@dataclass(frozen=True)
class SpokenSound:
    """A speech, and what belongs to it.

    Attributes:
        source: A file, or mono samples with their rate.
        settings: Settings of the speech, by name.
    """

    source: Any
    settings: dict[str, Any] = field(default_factory=dict)


def together(*given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of several nodes as one; what is said twice must be the same.

    Raises:
        SettingsError: Two nodes give a setting different values.
    """
    merged: dict[str, Any] = {}
    for settings in given:
        for name, value in (settings or {}).items():
            if merged.setdefault(name, value) != value:
                raise SettingsError(
                    f"Two nodes set {name}, one to {merged[name]!r} and one to {value!r}; leave one of them at the model's own."
                )
    return merged


def _previous() -> Any:
    return Settings.Input("settings", optional=True, tooltip="Settings of another node, which these join.")


class FantasyTalkingSpeech(io.ComfyNode):
    """Takes the speech from a sound of ComfyUI."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking speech",
            category=CATEGORY,
            description="The speech, of any length, and how closely lips and face follow it.",
            inputs=[
                io.Audio.Input("audio", tooltip="The speech; several channels are mixed."),
                *setting_inputs(SPEECH_SETTINGS),
            ],
            outputs=[Speech.Output("speech", display_name="speech", tooltip="The speech with its settings.")],
        )

    @classmethod
    def execute(cls, audio: Any, **settings: Any) -> Any:
        """The speech as samples.

        Raises:
            InputError: It is no sound, or a setting is not accepted.
        """
        return io.NodeOutput(SpokenSound(audio_from(audio), given_settings(settings)))


class FantasyTalkingSpeechFile(io.ComfyNode):
    """Takes the speech from a file, which is read piece by piece however long it is."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking speech from a file",
            category=CATEGORY,
            description="The speech from a file in ComfyUI's input folder, for long videos: of an hour only a part is in memory.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_sound_files(),
                    tooltip="A sound file, or a video whose sound is used.",
                ),
                *setting_inputs(SPEECH_SETTINGS),
            ],
            outputs=[Speech.Output("speech", display_name="speech", tooltip="The speech with its settings.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **settings: Any) -> Any:
        """The time of the file's last change: a new recording of the same name counts as another."""
        path = Path(folder_paths.get_annotated_filepath(file))
        return path.stat().st_mtime_ns if path.is_file() else None

    @classmethod
    def execute(cls, file: str, **settings: Any) -> Any:
        """The speech as a file, which is read when the video is made.

        Raises:
            SettingsError: A setting is not accepted.
        """
        return io.NodeOutput(SpokenSound(folder_paths.get_annotated_filepath(file), given_settings(settings)))


def _sound_files() -> list[str]:
    folder = Path(folder_paths.get_input_directory())
    names = [entry.name for entry in os.scandir(folder) if entry.is_file()] if folder.is_dir() else []
    return sorted(folder_paths.filter_files_content_types(names, ["audio", "video"]))


class FantasyTalkingSpeaker(io.ComfyNode):
    """Gives a speech to one of several faces."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking speaker",
            category=CATEGORY,
            description="One of several people who speak in a picture or in footage; chain one node a person.",
            inputs=[
                Speech.Input("speech", tooltip="What this person says."),
                io.Int.Input(
                    "face",
                    default=0,
                    min=0,
                    max=999,
                    tooltip="Which face speaks, counted from 0 by size, largest first.",
                ),
                Speakers.Input("speakers", optional=True, tooltip="The people before, whom this one joins."),
            ],
            outputs=[Speakers.Output("fantasytalking_speakers", display_name="speakers", tooltip="All of them.")],
        )

    @classmethod
    def execute(cls, speech: SpokenSound, face: int, speakers: Mapping[int, SpokenSound] | None = None) -> Any:
        """Speeches by number of the face.

        Raises:
            SettingsError: The face speaks already.
        """
        known = dict(speakers or {})
        if face in known:
            raise SettingsError(f"Face {face} has a speech already; give each speaker another face.")
        return io.NodeOutput({**known, face: speech})


class FantasyTalkingFace(io.ComfyNode):
    """Settings of face and motion."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking face and motion",
            category=CATEGORY,
            description="Which face talks, how lively face and body are, and how closely the face is held to the portrait.",
            inputs=[*setting_inputs(FACE_SETTINGS), _previous()],
            outputs=[Settings.Output("fantasytalking_settings", display_name="settings", tooltip="The settings.")],
        )

    @classmethod
    def execute(cls, settings: Mapping[str, Any] | None = None, **values: Any) -> Any:
        """The settings that were given.

        Raises:
            SettingsError: A setting is not accepted, or set twice.
        """
        return io.NodeOutput(together(settings, given_settings(values)))


class FantasyTalkingSettings(io.ComfyNode):
    """All settings that no other node has."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking settings",
            category=CATEGORY,
            description="Everything else that can be set: guidance, noise schedule, size, rate, long videos, caches.",
            inputs=[*setting_inputs(OTHER_SETTINGS), _previous()],
            outputs=[Settings.Output("fantasytalking_settings", display_name="settings", tooltip="The settings.")],
        )

    @classmethod
    def execute(cls, settings: Mapping[str, Any] | None = None, **values: Any) -> Any:
        """The settings that were given.

        Raises:
            SettingsError: A setting is not accepted, or set twice.
        """
        return io.NodeOutput(together(settings, given_settings(values)))
