"""Nodes that generate: frames in memory, a long video, several speakers in a picture, dubbed footage; and the node that saves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import InputImpl, io

from fantasytalking.errors import SettingsError
from fantasytalking.generation.dub_target import DubTarget
from fantasytalking.integrations.comfyui.input_nodes import Settings, Speakers, Speech, SpokenSound, together
from fantasytalking.integrations.comfyui.load_nodes import CATEGORY, Model
from fantasytalking.integrations.comfyui.node_inputs import (
    DUB_SETTINGS,
    MAIN_SETTINGS,
    given_settings,
    setting_inputs,
)
from fantasytalking.integrations.comfyui.output_files import FORMATS, OutputFile, new_file, save_video
from fantasytalking.integrations.comfyui.run_in_comfyui import (
    ChosenModel,
    ComfyProgress,
    FramesPlace,
    VideoPlace,
    generate,
)
from fantasytalking.integrations.comfyui.tensors import (
    audio_from,
    audio_to,
    check_room,
    frames_from,
    picture_from,
    source_of,
)
from fantasytalking.media.audio import Audio
from fantasytalking.provenance.marks import Marks

__all__ = [
    "FantasyTalkingDub",
    "FantasyTalkingLongVideo",
    "FantasyTalkingSampler",
    "FantasyTalkingSave",
    "FantasyTalkingSeveralSpeakers",
]

VideoMarks = io.Custom("FANTASYTALKING_MARKS")


def _model_input() -> Any:
    return Model.Input("model", tooltip="The model.")


def _portrait_input() -> Any:
    return io.Image.Input("image", tooltip="The portrait, one picture.")


def _settings_input() -> Any:
    return Settings.Input("settings", optional=True, tooltip="Face and motion, and all other settings.")


def _file_inputs() -> list[Any]:
    return [
        io.String.Input(
            "filename_prefix",
            default="video/FantasyTalking",
            tooltip="Beginning of the file's name in ComfyUI's output folder, with folders; it may hold %year%, %month%, %day%.",
        ),
        io.Combo.Input(
            "format",
            options=FORMATS,
            default=FORMATS[0],
            tooltip="Container of the video; H.264 and AAC in all of them.",
        ),
    ]


def _file_outputs() -> list[Any]:
    return [
        io.Video.Output("video", display_name="video", tooltip="The file, for other nodes."),
        io.String.Output("path", display_name="path", tooltip="Its path."),
        io.String.Output(
            "notes", display_name="notes", tooltip="What was changed or chosen on the way, a sentence each."
        ),
    ]


def _read(
    model: ChosenModel, image: Any, speech: SpokenSound, settings: dict[str, Any], progress: ComfyProgress
) -> tuple[Any, Any]:
    from fantasytalking.pipeline.early_inputs import read_inputs

    with progress.stage("reading"):
        return read_inputs(picture_from(image), speech.source, model.name, settings)


def _written(file: OutputFile, made: Any) -> Any:
    """The result of a node that writes a file."""
    notes = "\n".join(made.summary()["notes"])
    return io.NodeOutput(InputImpl.VideoFromFile(str(file.path)), str(file.path), notes, ui=file.shown())


class FantasyTalkingSampler(io.ComfyNode):
    """Makes a portrait speak, with the frames in memory."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking sampler",
            category=CATEGORY,
            description="Makes a portrait speak. The frames are in memory, for other nodes.",
            inputs=[
                _model_input(),
                _portrait_input(),
                Speech.Input("speech", tooltip="The speech."),
                *setting_inputs(MAIN_SETTINGS),
                _settings_input(),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The frames."),
                io.Audio.Output("audio", display_name="audio", tooltip="The speech, as long as the video."),
                io.Float.Output("fps", display_name="fps", tooltip="Frames per second."),
                VideoMarks.Output(
                    "marks",
                    display_name="marks",
                    tooltip="What a file of it is marked with, for the node that saves it.",
                ),
                io.String.Output(
                    "notes", display_name="notes", tooltip="What was changed or chosen on the way, a sentence each."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: ChosenModel,
        image: Any,
        speech: SpokenSound,
        settings: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> Any:
        """Frames, sound, frame rate, marks and notes.

        Raises:
            FantasyTalkingError: Whatever reading, loading and generating raise.
        """
        from fantasytalking.pipeline.inputs import Portrait
        from fantasytalking.pipeline.inputs import Speech as ReadSpeech

        given, progress = together(settings, speech.settings, given_settings(values)), ComfyProgress()
        portrait, heard = _read(model, image, speech, given, progress)
        if isinstance(portrait, Portrait) and isinstance(heard, ReadSpeech):
            check_room(heard.video_frames, portrait.pixels.shape[:2])
        made: Any = generate(model, (portrait, heard), given, FramesPlace(), progress)
        video = made.video
        return io.NodeOutput(made.images, audio_to(video.audio), video.fps, video.marks, "\n".join(video.notes))


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
                _model_input(),
                _portrait_input(),
                Speech.Input("speech", tooltip="The speech."),
                *setting_inputs(MAIN_SETTINGS),
                *_file_inputs(),
                _settings_input(),
            ],
            outputs=_file_outputs(),
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
        inputs = _read(model, image, speech, given, progress)
        file = new_file(filename_prefix, format, image.shape[1:3])
        return _written(file, generate(model, inputs, given, VideoPlace(file.path), progress))


class FantasyTalkingSeveralSpeakers(io.ComfyNode):
    """Makes several people in a picture speak."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking several speakers",
            category=CATEGORY,
            description="Makes several people in one picture speak, each with speech of their own; needs the embedded model.",
            inputs=[
                _model_input(),
                io.Image.Input("image", tooltip="A picture that shows all of them."),
                Speakers.Input("speakers", tooltip="Who says what."),
                *setting_inputs(MAIN_SETTINGS),
                *_file_inputs(),
                _settings_input(),
            ],
            outputs=_file_outputs(),
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
        read = {face: _read(model, image, one, {**given, "face": face}, progress) for face, one in speakers.items()}
        inputs = {face: one[0] for face, one in read.items()}, {face: one[1] for face, one in read.items()}
        file = new_file(filename_prefix, format, image.shape[1:3])
        return _written(file, generate(model, inputs, given, DubTarget(file.path, False, False), progress))


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
                _model_input(),
                io.Video.Input("video", tooltip="The footage."),
                *setting_inputs(MAIN_SETTINGS),
                *setting_inputs(DUB_SETTINGS),
                *_file_inputs(),
                Speech.Input("speech", optional=True, tooltip="The new speech."),
                Speakers.Input("speakers", optional=True, tooltip="In place of the speech: who says what."),
                _settings_input(),
            ],
            outputs=[
                io.Video.Output("dubbed", display_name="video", tooltip="The file, for other nodes."),
                *_file_outputs()[1:],
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
        return _written(file, generate(model, inputs, given, DubTarget(file.path, False, True), progress))


class FantasyTalkingSave(io.ComfyNode):
    """Saves frames with their sound, and with what says that they are synthetic."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking save",
            category=CATEGORY,
            description="Writes frames and their sound to a video with its provenance: a signed manifest and an invisible watermark. "
            "Other nodes that save leave them out.",
            inputs=[
                io.Image.Input("images", tooltip="The frames."),
                io.Audio.Input("audio", tooltip="Their sound."),
                io.Float.Input(
                    "fps", default=25.0, min=1.0, max=120.0, step=0.1, round=0.001, tooltip="Frames per second."
                ),
                *_file_inputs(),
                VideoMarks.Input(
                    "marks",
                    optional=True,
                    tooltip="What the file is marked with, from the sampler; without them it says that a model made it, and not which.",
                ),
            ],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The file, for other nodes."),
                io.String.Output("path", display_name="path", tooltip="Its path."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, images: Any, audio: Any, fps: float, filename_prefix: str, format: str, marks: Marks | None = None
    ) -> Any:
        """The file.

        Raises:
            FantasyTalkingError: The sound cannot be used, or the file cannot be written.
        """
        file = new_file(filename_prefix, format, images.shape[1:3])
        frames = (frames_from(images, index) for index in range(len(images)))
        save_video(file.path, frames, fps, Audio(*audio_from(audio)), marks or Marks())
        return io.NodeOutput(InputImpl.VideoFromFile(str(file.path)), str(file.path), ui=file.shown())
