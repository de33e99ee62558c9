"""How large a model's parts are, from the headers of their files or from modules without values: nothing is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fantasytalking.checkpoints.backbone import backbone_tensors, quantisation_of
from fantasytalking.checkpoints.component_files import read_config
from fantasytalking.checkpoints.gguf_file import stored_bytes
from fantasytalking.checkpoints.quantised_layers import fits_float8
from fantasytalking.checkpoints.scaled_weights import FLOAT8
from fantasytalking.checkpoints.weights_reader import TensorInfo, open_weights
from fantasytalking.errors import CheckpointError
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["RELEASED_CHANNELS", "ModelSizes", "PartSize", "read_sizes", "sizes_of_modules"]

INDEX = "model_index.json"
RELEASED_CHANNELS = 96
"""Channels of the first level of Wan's VAE."""
_BLOCK = re.compile(r"^blocks\.(\d+)\.")


@dataclass(frozen=True)
class PartSize:
    """Size of one network.

    Attributes:
        parameters: Numbers in it.
        largest_layer: Numbers of its largest layer, which is the least that is on the device at once.
        block_parameters: Numbers of one transformer block; 0 where there are no blocks.
        blocks: Number of blocks.
        castable: Numbers that can be stored in eight bits.
        precise: Numbers that stay in float32 whatever the type is.
        kept: Numbers that stay as the files store them whatever the type is, in blocks or 8-bit floats.
        kept_bytes: Bytes of these.
        stored: Types in the files, with the bytes in each; blocks count as bytes.
    """

    parameters: int
    largest_layer: int = 0
    block_parameters: int = 0
    blocks: int = 0
    castable: int = 0
    precise: int = 0
    kept: int = 0
    kept_bytes: int = 0
    stored: Mapping[torch.dtype, int] | None = None

    def bytes_in(self, dtype: torch.dtype, quantised: bool = False) -> int:
        """Bytes of all numbers in a type; quantised: with one byte for each that can be stored in eight bits."""
        eight_bit = self.castable if quantised else 0
        rest = self.parameters - eight_bit - self.precise - self.kept
        return eight_bit + rest * dtype.itemsize + self.precise * 4 + self.kept_bytes

    def mapped_in(self, dtype: torch.dtype) -> bool:
        """Whether the files hold it in this type, so that its memory is the file's, which the system can drop and read again."""
        stored = self.stored or {}
        return stored.get(dtype, 0) > 0.9 * sum(stored.values())


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of a model's networks.

    Attributes:
        parts: Component -> size.
        config: Configuration of the transformer: widths, layers.
        canvas: (h, w) of the latents where they do not depend on the picture's size, as the embedded model's; None with Wan's VAE, whose
            activations are large besides.
        vae_share: Channels of Wan's VAE beside the released one's.
        text_heads: Attention heads of the text encoder; 0 without one.
    """

    parts: Mapping[str, PartSize]
    config: Mapping[str, Any]
    canvas: tuple[int, int] | None = None
    vae_share: float = 1.0
    text_heads: int = 0

    @property
    def transformer(self) -> PartSize:
        """Size of the transformer."""
        return self.parts["transformer"]

    @property
    def width(self) -> int:
        """Width of the transformer's tokens."""
        return int(self.config["num_attention_heads"]) * int(self.config["attention_head_dim"])


def read_sizes(
    folder: Path, transformer: Path | None = None, adapter: Path | None = None, loras: Sequence[Path] = ()
) -> ModelSizes:
    """Sizes of a model folder, from the headers of its weight files.

    Args:
        folder: Folder with a `model_index.json` and a folder for each part.
        transformer: Backbone in place of the folder's, see `checkpoints.backbone.load_backbone`.
        adapter: Adapter in place of the folder's.
        loras: Files of LoRA weights, which stay beside the transformer's: the part `lora`.

    Raises:
        CheckpointError: There is no such index, or weights are missing or damaged.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"The folder '{folder}' holds no readable {INDEX}, so its parts are unknown ({error}); give a model folder."
        ) from error
    parts = {}
    for name in index:
        if any((folder / name).glob("*.safetensors")):
            tensors, quantised = open_weights(folder / name).infos, quantisation_of(folder / name) is not None
            if name == "transformer" and transformer is not None:
                tensors, quantised = backbone_tensors(transformer, folder, adapter)
            parts[name] = _part(name, tensors, quantised)
    if "transformer" not in parts:
        raise CheckpointError(
            f"The model folder '{folder}' holds no weights of a transformer; download or convert it again."
        )
    if loras:
        shapes = [info.shape for file in loras for info in open_weights(file).infos.values()]
        parts["lora"] = PartSize(sum(torch.Size(shape).numel() for shape in shapes))
    config = FantasyTalkingTransformer3DModel.complete_config(folder)
    return _model_sizes(parts, config, read_config(folder / "vae"), read_config(folder / "text_encoder"))


def sizes_of_modules(modules: Mapping[str, nn.Module], stored: torch.dtype | None = None) -> ModelSizes:
    """Sizes of networks in memory, which may be without values (on the meta device).

    Args:
        modules: Component -> network; `transformer` and `vae` among them.
        stored: Type that their files would have; None: that of each number.
    """
    parts = {}
    for name, module in modules.items():
        # Not the state dict, which holds tied weights twice.
        kept, values = module.state_dict().keys(), [*module.named_parameters(), *module.named_buffers()]
        tensors = {key: TensorInfo(tuple(t.shape), stored or t.dtype) for key, t in values if key in kept}
        parts[name] = _part(name, tensors)
    configs: Any = [modules[name].config for name in ("transformer", "vae")]
    text = modules.get("text_encoder")
    return _model_sizes(parts, dict(configs[0]), configs[1], {} if text is None else text.config.to_dict())  # type: ignore[operator, union-attr]


def _model_sizes(
    parts: Mapping[str, PartSize], transformer: Mapping[str, Any], vae: Mapping[str, Any], text: Mapping[str, Any]
) -> ModelSizes:
    """Sizes of a model, from those of its parts and from their configurations."""
    sides = vae.get("latent_height"), vae.get("latent_width")
    canvas = None if None in sides else (int(sides[0]), int(sides[1]))  # type: ignore[arg-type]
    share = vae.get("base_dim", RELEASED_CHANNELS) / RELEASED_CHANNELS
    return ModelSizes(parts, transformer, canvas, share, int(text.get("num_heads", 0)))


def _part(name: str, tensors: Mapping[str, TensorInfo], quantised: bool = False) -> PartSize:
    """Size of a part; `quantised` is whether a library quantised it, so that all of it stays as it is stored."""
    numbers = {key: torch.Size(info.shape).numel() for key, info in tensors.items()}
    stored: dict[torch.dtype, int] = {}
    layers: dict[str, int] = {}
    for key, info in tensors.items():
        kind = info.dtype if info.quantised is None else torch.uint8
        stored[kind] = stored.get(kind, 0) + stored_bytes(info)
        layer = key.rpartition(".")[0]
        layers[layer] = layers.get(layer, 0) + numbers[key]
    common: dict[str, Any] = {"largest_layer": max(layers.values(), default=0), "stored": stored}
    if name != "transformer":
        return PartSize(sum(numbers.values()), **common)
    blocks: dict[str, int] = {}
    for key, count in numbers.items():
        if found := _BLOCK.match(key):
            blocks[found[1]] = blocks.get(found[1], 0) + count
    precise_parts = FantasyTalkingTransformer3DModel._keep_in_fp32_modules or ()
    as_stored = {
        key
        for key, info in tensors.items()
        if quantised or (_BLOCK.match(key) and (info.quantised or info.dtype in FLOAT8))
    }
    castable = [key for key, info in tensors.items() if fits_float8(key, info.shape) and key not in as_stored]
    precise = [key for key in tensors.keys() - as_stored if any(part in key.split(".") for part in precise_parts)]
    return PartSize(
        sum(numbers.values()),
        block_parameters=max(blocks.values(), default=0),
        blocks=len(blocks),
        castable=sum(numbers[key] for key in castable),
        precise=sum(numbers[key] for key in precise),
        kept=sum(numbers[key] for key in as_stored),
        kept_bytes=sum(stored_bytes(tensors[key]) for key in as_stored),
        **common,
    )
