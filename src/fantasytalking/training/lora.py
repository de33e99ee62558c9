"""LoRA: low-rank additions to the linear layers of a frozen transformer, in training and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fantasytalking.errors import MissingDependencyError, SettingsError
from fantasytalking.system.records import field, record

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LORA", "LORA_FILE", "LORA_TARGETS", "LoraSettings", "add_lora", "plain_names", "save_lora"]

LORA = ".lora_"
"""Substring of the name of every parameter that `add_lora` adds."""
LORA_FILE = "pytorch_lora_weights.safetensors"

# to_q of attn2 is shared by text, image, audio and identity; the projections of the attention processor are the FantasyTalking adapter.
LORA_TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "add_k_proj",
    "add_v_proj",
    "ffn.net.0.proj",
    "ffn.net.2",
    "audio_k_proj",
    "audio_v_proj",
    "identity_k_proj",
    "identity_v_proj",
)


@record
class LoraSettings:
    """Settings of LoRA, which is trained in place of the backbone's weights."""

    rank: Annotated[int, field("Rank of the LoRA matrices.", minimum=1)] = 64
    alpha: Annotated[float, field("Scale of LoRA: its output is multiplied by alpha / rank.", minimum=1e-6)] = 64.0
    targets: Annotated[
        tuple[str, ...],
        field("Name endings of the linear layers that get LoRA; those that the model lacks are ignored."),
    ] = LORA_TARGETS

    def __post_init__(self) -> None:
        if not self.targets:
            raise SettingsError("LoRA needs at least one target layer, but targets is empty; name one, such as to_q.")


def add_lora(model: Any, settings: LoraSettings) -> None:
    """Freeze a transformer and add trainable LoRA, initially zero, to its linear layers.

    Raises:
        MissingDependencyError: peft is not installed.
        SettingsError: The model has none of the target layers.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingDependencyError("LoRA training needs peft; install fantasytalking[train].") from error
    found = [t for t in settings.targets if any(f".{name}".endswith(f".{t}") for name, _ in model.named_modules())]
    if not found:
        raise SettingsError(
            f"The model has no layer whose name ends in one of {', '.join(settings.targets)}; name layers that it has."
        )
    model.requires_grad_(False)
    alpha: Any = settings.alpha  # annotated as int by peft, but only used in a division
    model.add_adapter(LoraConfig(r=settings.rank, lora_alpha=alpha, target_modules=found))
    for parameter in model.parameters():
        if parameter.requires_grad:  # even with a bf16 backbone, as steps of 1e-4 would be rounded away
            parameter.data = parameter.data.float()


def plain_names(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the LoRA parameters, under peft's names without the adapter's: `blocks.0.attn1.to_q.lora_A.weight`."""
    return {
        key.replace(".lora_A.default.", ".lora_A.").replace(".lora_B.default.", ".lora_B."): value
        for key, value in values.items()
        if LORA in key
    }


def save_lora(folder: Path, values: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write LoRA weights in the format that `load_lora_weights` of a Wan pipeline reads.

    Args:
        folder: Folder of the file `LORA_FILE`.
        values: LoRA weights under peft's names (see `plain_names`).
        metadata: Configuration of peft as a dict.
    """
    # Imported here: reading a recipe must not load the frameworks.
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline

    FantasyTalkingPipeline.save_lora_weights(
        folder,
        transformer_lora_layers=dict(values),
        weight_name=LORA_FILE,
        transformer_lora_adapter_metadata=dict(metadata),
    )
