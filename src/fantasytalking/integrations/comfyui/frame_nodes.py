"""Nodes whose frames are in memory: the one that samples them, and the one that saves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import InputImpl, io

from fantasytalking.integrations.comfyui.input_nodes import Speech, SpokenSound, together
from fantasytalking.integrations.comfyui.load_nodes import CATEGORY
from fantasytalking.integrations.comfyui.node_inputs import (
    MAIN_SETTINGS,
    given_settings,
    setting_inputs,
)
from fantasytalking.integrations.comfyui.node_parts import (
    VideoMarks,
    file_inputs,
    model_input,
    portrait_input,
    read,
    settings_input,
)
from fantasytalking.integrations.comfyui.output_files import new_file, save_video
from fantasytalking.integrations.comfyui.run_in_comfyui import (
    ChosenModel,
    ComfyProgress,
    FramesPlace,
    generate,
)
from fantasytalking.integrations.comfyui.tensors import (
    audio_from,
    audio_to,
    check_room,
    frames_from,
)
from fantasytalking.media.audio import Audio
from fantasytalking.provenance.marks import Marks

__all__ = ["FantasyTalkingSampler", "FantasyTalkingSave"]


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
                model_input(),
                portrait_input(),
                Speech.Input("speech", tooltip="The speech."),
                *setting_inputs(MAIN_SETTINGS),
                settings_input(),
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
        portrait, heard = read(model, image, speech, given, progress)
        if isinstance(portrait, Portrait) and isinstance(heard, ReadSpeech):
            check_room(heard.video_frames, portrait.pixels.shape[:2])
        made: Any = generate(model, (portrait, heard), given, FramesPlace(), progress)
        video = made.video
        return io.NodeOutput(made.images, audio_to(video.audio), video.fps, video.marks, "\n".join(video.notes))


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
                *file_inputs(),
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
