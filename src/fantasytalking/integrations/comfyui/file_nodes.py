"""Nodes that write a file while they generate: a long video, several speakers in a picture, dubbed footage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from fantasytalking.errors import SettingsError
from fantasytalking.generation.dub_target import DubTarget
from fantasytalking.integrations.comfyui.input_nodes import Speakers, Speech, SpokenSound, together
from fantasytalking.integrations.comfyui.load_nodes import CATEGORY
from fantasytalking.integrations.comfyui.node_inputs import (
    DUB_SETTINGS,
    MAIN_SETTINGS,
    given_settings,
    setting_inputs,
)
from fantasytalking.integrations.comfyui.node_parts import (
    file_inputs,
    file_outputs,
    model_input,
    portrait_input,
    read,
    settings_input,
    written,
)
from fantasytalking.integrations.comfyui.output_files import new_file
from fantasytalking.integrations.comfyui.run_in_comfyui import (
    ChosenModel,
    ComfyProgress,
    VideoPlace,
    generate,
)
from fantasytalking.integrations.comfyui.tensors import (
    source_of,
)

__all__ = ["FantasyTalkingDub", "FantasyTalkingLongVideo", "FantasyTalkingSeveralSpeakers"]


class FantasyTalkingLongVideo(io.ComfyNode):
    """Makes a portrait speak, written to a file while it is made."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking long video",
            category=CATEGORY,
            description="Makes a portrait speak for as long as the speech lasts, written to a file while it is made, in constant memory. "
            "A run that was stopped goes on from its last finished segment when it is queued again.",
            inputs=[
                model_input(),
                portrait_input(),
                Speech.Input("speech", tooltip="The speech."),
                *setting_inputs(MAIN_SETTINGS),
                *file_inputs(),
                settings_input(),
            ],
            outputs=file_outputs(),
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: ChosenModel,
        image: Any,
        speech: SpokenSound,
        filename_prefix: str,
        format: str,
        settings: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> Any:
        """The file.

        Raises:
            FantasyTalkingError: Whatever reading, loading, generating and writing raise.
        """
        given, progress = together(settings, speech.settings, given_settings(values)), ComfyProgress()
        inputs = read(model, image, speech, given, progress)
        file = new_file(filename_prefix, format, image.shape[1:3], goes_on=True)
        return written(file, generate(model, inputs, given, VideoPlace(file.path), progress))


class FantasyTalkingSeveralSpeakers(io.ComfyNode):
    """Makes several people in a picture speak."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking several speakers",
            category=CATEGORY,
            description="Makes several people in one picture speak, each with speech of their own.",
            inputs=[
                model_input(),
                io.Image.Input("image", tooltip="A picture that shows all of them."),
                Speakers.Input("speakers", tooltip="Who says what."),
                *setting_inputs(MAIN_SETTINGS),
                *file_inputs(),
                settings_input(),
            ],
            outputs=file_outputs(),
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: ChosenModel,
        image: Any,
        speakers: Mapping[int, SpokenSound],
        filename_prefix: str,
        format: str,
        settings: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> Any:
        """The file.

        Raises:
            FantasyTalkingError: Whatever reading, loading, generating and writing raise.
        """
        given = together(settings, *(one.settings for one in speakers.values()), given_settings(values))
        progress = ComfyProgress()
        heard = {face: read(model, image, one, {**given, "face": face}, progress) for face, one in speakers.items()}
        inputs = {face: one[0] for face, one in heard.items()}, {face: one[1] for face, one in heard.items()}
        file = new_file(filename_prefix, format, image.shape[1:3])
        return written(file, generate(model, inputs, given, DubTarget(file.path, False, False), progress))


class FantasyTalkingDub(io.ComfyNode):
    """Dubs footage."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking dub",
            category=CATEGORY,
            description="New speech over footage: who speaks in it gets the new speech, everything else stays as filmed.",
            inputs=[
                model_input(),
                io.Video.Input("video", tooltip="The footage."),
                *setting_inputs(MAIN_SETTINGS),
                *setting_inputs(DUB_SETTINGS),
                *file_inputs(),
                Speech.Input("speech", optional=True, tooltip="The new speech."),
                Speakers.Input("speakers", optional=True, tooltip="In place of the speech: who says what."),
                settings_input(),
            ],
            outputs=[
                io.Video.Output("dubbed", display_name="video", tooltip="The file, for other nodes."),
                *file_outputs()[1:],
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: ChosenModel,
        video: Any,
        filename_prefix: str,
        format: str,
        speech: SpokenSound | None = None,
        speakers: Mapping[int, SpokenSound] | None = None,
        settings: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> Any:
        """The file.

        Raises:
            FantasyTalkingError: Whatever reading, loading, generating and writing raise.
        """
        from fantasytalking.pipeline.early_inputs import read_footage_inputs

        if (speech is None) == (speakers is None):
            both = "both are" if speech is not None else "neither is"
            raise SettingsError(f"Dubbing takes a speech or speakers, and {both} connected; connect one of them.")
        spoken = [speech] if speech is not None else list((speakers or {}).values())
        given = together(settings, *(one.settings for one in spoken), given_settings(values))
        sound: Any = speech.source if speech else {face: one.source for face, one in (speakers or {}).items()}
        progress = ComfyProgress()
        footage = source_of(video, Path(folder_paths.get_temp_directory()))
        inputs = read_footage_inputs(footage, sound, model.name, given, progress)
        file = new_file(filename_prefix, format)
        return written(file, generate(model, inputs, given, DubTarget(file.path, False, True), progress))
