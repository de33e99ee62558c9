"""Inputs and outputs that nodes which generate share, and what they all do."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import InputImpl, io

from fantasytalking.integrations.comfyui.input_nodes import Settings, SpokenSound
from fantasytalking.integrations.comfyui.load_nodes import Model
from fantasytalking.integrations.comfyui.output_files import FORMATS, OutputFile
from fantasytalking.integrations.comfyui.run_in_comfyui import (
    ChosenModel,
    ComfyProgress,
)
from fantasytalking.integrations.comfyui.tensors import (
    picture_from,
)

__all__ = [
    "VideoMarks",
    "file_inputs",
    "file_outputs",
    "model_input",
    "portrait_input",
    "read",
    "settings_input",
    "written",
]

VideoMarks = io.Custom("FANTASYTALKING_MARKS")


def model_input() -> Any:
    """The input of the model."""
    return Model.Input("model", tooltip="The model.")


def portrait_input() -> Any:
    """The input of the portrait."""
    return io.Image.Input("image", tooltip="The portrait, one picture.")


def settings_input() -> Any:
    """The input of the settings of other nodes."""
    return Settings.Input("settings", optional=True, tooltip="Face and motion, and all other settings.")


def file_inputs() -> list[Any]:
    """The inputs that name a new file."""
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


def file_outputs() -> list[Any]:
    """The outputs of a node that writes a file."""
    return [
        io.Video.Output("video", display_name="video", tooltip="The file, for other nodes."),
        io.String.Output("path", display_name="path", tooltip="Its path."),
        io.String.Output(
            "notes", display_name="notes", tooltip="What was changed or chosen on the way, a sentence each."
        ),
    ]


def read(
    model: ChosenModel, image: Any, speech: SpokenSound, settings: dict[str, Any], progress: ComfyProgress
) -> tuple[Any, Any]:
    """Portrait and speech, read before the model is loaded.

    Args:
        model: The model, whose demands are followed.
        image: IMAGE of the portrait.
        speech: The speech.
        settings: Settings that were given, by name.
        progress: Shows the stage.

    Raises:
        InputError: One of them cannot be used.
    """
    from fantasytalking.pipeline.early_inputs import read_inputs

    with progress.stage("reading"):
        return read_inputs(picture_from(image), speech.source, model.name, settings)


def written(file: OutputFile, made: Any) -> Any:
    """The result of a node that writes a file.

    Args:
        file: The file.
        made: What was written to it.
    """
    notes = "\n".join(made.summary()["notes"])
    return io.NodeOutput(InputImpl.VideoFromFile(str(file.path)), str(file.path), notes, ui=file.shown())
