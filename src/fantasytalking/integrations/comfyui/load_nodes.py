"""Nodes that say what generates: model, LoRA."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions, check_weights_options
from fantasytalking.integrations.comfyui.models_in_comfyui import (
    FOLDER,
    adapter_files,
    file_of,
    lora_files,
    model_of,
    models,
    transformer_files,
)
from fantasytalking.integrations.comfyui.node_inputs import MODELS_OWN, given_options, option_inputs
from fantasytalking.integrations.comfyui.run_in_comfyui import ChosenModel

__all__ = ["CATEGORY", "FantasyTalkingLora", "FantasyTalkingModel", "Loras", "Model"]

CATEGORY = "FantasyTalking"
Model = io.Custom("FANTASYTALKING_MODEL")
Loras = io.Custom("FANTASYTALKING_LORA")
NO_FILE = "none"


class FantasyTalkingModel(io.ComfyNode):
    """Chooses a model and how it runs."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        own = "of Wan's weights in models/diffusion_models in place of the model's: safetensors, GGUF, or fp8 as ComfyUI's tools write it"
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking model",
            category=CATEGORY,
            description="Chooses a model and how it runs. It is loaded when a video is made, by the memory plan that fits the clip.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=models(),
                    default=models()[0],
                    tooltip=f"embedded comes with the package and runs on a CPU; the others are model folders in models/{FOLDER}.",
                ),
                io.Combo.Input(
                    "transformer",
                    options=[MODELS_OWN, *transformer_files()],
                    default=MODELS_OWN,
                    tooltip=f"File {own}; the model's adapter is laid on it.",
                ),
                io.Combo.Input(
                    "adapter",
                    options=[MODELS_OWN, *adapter_files()],
                    default=MODELS_OWN,
                    tooltip=f"With a transformer: FantasyTalking's weights in models/{FOLDER} in place of the model's.",
                ),
                *option_inputs(MemoryOptions, _MEMORY, _MEMORY[:3]),
                *option_inputs(ProfileOptions, _PROFILE, _PROFILE[:1]),
                *option_inputs(RunOptions, _RUN),
                io.Boolean.Input(
                    "keep_loaded",
                    default=True,
                    tooltip="Whether the model stays in memory after a video, so that the next one begins at once.",
                ),
                Loras.Input("lora", optional=True, tooltip="LoRA weights that are added to the transformer's."),
            ],
            outputs=[Model.Output("fantasytalking_model", display_name="model", tooltip="The model.")],
        )

    @classmethod
    def execute(
        cls, model: str, transformer: str, adapter: str, keep_loaded: bool, lora: tuple[str, ...] = (), **options: Any
    ) -> Any:
        """The model as the nodes that generate take it.

        Raises:
            FantasyTalkingError: There are no such files, or an option is not accepted.
        """
        own = MODELS_OWN
        files: dict[str, Any] = {
            "transformer": None if transformer == own else file_of(transformer, "diffusion_models"),
            "adapter": None if adapter == own else file_of(adapter, FOLDER, "diffusion_models"),
        }
        check_weights_options(files["transformer"], files["adapter"])
        run = RunOptions(**given_options(RunOptions, options), **files)
        memory = MemoryOptions(**given_options(MemoryOptions, options))
        profile = replace(ProfileOptions(**given_options(ProfileOptions, options)), lora=lora)
        return io.NodeOutput(ChosenModel(model_of(model), run, memory, profile, keep_loaded))


_MEMORY = ("memory", "quantize", "offload", "vae_tiling")
_PROFILE = ("profile", "attention", "compile", "scheduler")
_RUN = ("device", "dtype", "speech_encoder", "threads")


class FantasyTalkingLora(io.ComfyNode):
    """Adds LoRA weights."""

    @classmethod
    def define_schema(cls) -> Any:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id=cls.__name__,
            display_name="FantasyTalking LoRA",
            category=CATEGORY,
            description="LoRA weights for the model; several are added up.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=[NO_FILE, *lora_files()],
                    default=NO_FILE,
                    tooltip="File in models/loras.",
                ),
                io.Float.Input(
                    "weight", default=1.0, min=-10.0, max=10.0, step=0.05, round=0.001, tooltip="Weight of its change."
                ),
                Loras.Input("lora", optional=True, tooltip="Other LoRA weights, which this one joins."),
            ],
            outputs=[Loras.Output("fantasytalking_lora", display_name="lora", tooltip="All of them.")],
        )

    @classmethod
    def execute(cls, file: str, weight: float, lora: tuple[str, ...] = ()) -> Any:
        """The files and their weights, as the command line writes them.

        Raises:
            CheckpointError: There is no such file.
        """
        if file == NO_FILE:
            return io.NodeOutput(lora)
        return io.NodeOutput((*lora, f"{file_of(file, 'loras')}={weight:g}"))
