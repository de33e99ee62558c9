"""Load the transformer with its adapter, the VAE, the text encoder and the image encoder.

Each function takes the original file or folder, the folder of one component in the `-Diffusers` layout, or a whole
pipeline folder, and raises `CheckpointError` when a key is missing, unexpected or misshapen. `load_*` returns a
finished model; `plan_*` checks names and shapes and reads no values yet. Tensors whose stored type is already the
wanted one stay mapped from the file: do not overwrite a file in place while a model loaded from it is in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from fantasytalking.checkpoints.adapter_layouts import adapter_config, open_adapter, part_of, parts_in
from fantasytalking.checkpoints.component_files import merge_config, open_component, read_config
from fantasytalking.checkpoints.fill_model import (
    Source,
    build_empty,
    check_keys,
    expected_shapes,
    fill_model,
    require_values,
)
from fantasytalking.checkpoints.quantised_layers import keep_weight, kept_weights
from fantasytalking.checkpoints.scaled_weights import FLOAT8
from fantasytalking.checkpoints.wan_layouts import (
    CLIP_BARE_NAMES,
    CLIP_FILE,
    CLIP_NAMES,
    CLIP_ORIGINAL,
    CLIP_PREFIX,
    TEXT_FILE,
    TRANSFORMER_ORIGINAL,
    UMT5_NAMES,
    UMT5_ORIGINAL,
    VAE_FILE,
    VAE_ORIGINAL,
    clip_config,
    same_names,
    transformer_config,
    umt5_config,
    vae_config,
)
from fantasytalking.errors import CheckpointError

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan
    from transformers import CLIPVisionModel, UMT5EncoderModel

    from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = [
    "Planned",
    "Quantised",
    "load_image_encoder",
    "load_text_encoder",
    "load_transformer",
    "load_vae",
    "plan_image_encoder",
    "plan_text_encoder",
    "plan_transformer",
    "plan_vae",
]

COMFYUI_PREFIX = "model.diffusion_model."
"""Prefix of every name in transformer files that ComfyUI's exporters write."""


Quantised = Literal["keep", "expand"]
"""Whether weights that a file stores in blocks or 8-bit floats stay so in memory, or are expanded to the model's type."""


@dataclass(frozen=True)
class Planned:
    """A model without values, and the open checkpoints that will fill it; names and shapes are already checked.

    Attributes:
        model: The model, its parameters on the meta device.
        sources: Open checkpoints, read in this order.
        fresh: Names of tensors that no source holds and that have to be initialised.
    """

    model: Any
    sources: tuple[Source, ...]
    fresh: tuple[str, ...] = ()

    def finish(self, dtype: torch.dtype, device: str | torch.device, quantised: Quantised = "expand") -> Any:
        """Read the values.

        Args:
            dtype: Final type; see `final_dtype` for the tensors that keep another one. A float8 type stores the matrices of the blocks
                in it, and the model computes in bfloat16.
            device: Device of the finished model.
            quantised: Whether matrices of the blocks stay as the file stores them.

        Returns:
            The model, in evaluation mode.

        Raises:
            SettingsError: A float8 type, and the model has no blocks that can be stored in it.
        """
        compute, stored = (torch.bfloat16, True) if dtype in FLOAT8 else (dtype, quantised == "keep")
        kept_of = kept_weights(self.model, self.sources, dtype) if stored else [[] for _ in self.sources]
        for source, kept in zip(self.sources, kept_of, strict=True):
            for key in kept:
                keep_weight(self.model, source, key, dtype, compute, device)
            fill_model(self.model, source, compute, device, kept)
        for name, buffer in list(self.model.named_buffers()):
            module, _, leaf = name.rpartition(".")
            self.model.get_submodule(module)._buffers[leaf] = buffer.to(device)
        require_values(self.model, str(self.sources[0].weights.path))
        return self.model


def open_transformer(path: str | Path) -> tuple[Source, dict[str, Any]]:
    """Open a Wan or FantasyTalking transformer in any layout.

    Args:
        path: A safetensors file, a folder of shards (original or diffusers), or a pipeline folder.

    Returns:
        The weights with the key table of their layout, and the configuration inferred from `config.json` and shapes.

    Raises:
        CheckpointError: The files are missing or damaged, or hold no Wan transformer.
    """
    weights = open_component(path, "transformer")
    config = read_config(weights.path)
    method = (config.pop("quantization_config", None) or {}).get("quant_method")
    if method is not None:
        raise CheckpointError(
            f"{weights.path} is quantised by {method}, which only diffusers' own loading reads; give it as --transformer (load_backbone), "
            "or give the weights that it was made from."
        )
    prefix = COMFYUI_PREFIX if any(key.startswith(COMFYUI_PREFIX) for key in weights.infos) else ""
    original = prefix + "head.modulation" in weights.infos
    table = TRANSFORMER_ORIGINAL if original else same_names("diffusers transformer")
    source = Source(weights, table, prefix)
    sizes = transformer_config(source.shapes(), weights.path, config if original else None)
    return source, sizes | {"audio_dim": None} | adapter_config(source) | ({} if original else config)


def plan_transformer(
    path: str | Path, adapter: str | Path | None = None, config: Mapping[str, Any] | None = None
) -> Planned:
    """Build the transformer without values and check the files that will fill it.

    Arguments and errors are those of `load_transformer`.
    """
    from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

    base, sizes = open_transformer(path)
    sources = [base]
    if adapter is not None:
        sources.append(open_adapter(adapter))
        sizes |= adapter_config(sources[1])
    merged = merge_config(FantasyTalkingTransformer3DModel.__init__, sizes, config)
    model = build_empty(lambda: FantasyTalkingTransformer3DModel(**merged))
    held = parts_in(key for source in sources for key in source.plan)
    fresh = tuple(key for key in expected_shapes(model) if (part := part_of(key)) is not None and part not in held)
    check_keys(model, sources, fresh)
    return Planned(model, tuple(sources), fresh)


def load_transformer(
    path: str | Path,
    dtype: torch.dtype = torch.bfloat16,
    adapter: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    quantised: Quantised = "expand",
) -> FantasyTalkingTransformer3DModel:
    """Load the transformer, and the FantasyTalking adapter where one is given.

    Args:
        path: Wan2.1-I2V as published (folder of shards or one safetensors file), its `-Diffusers` transformer, a
            FantasyTalking transformer folder, a pipeline folder, a GGUF file, or a file of ComfyUI in 8-bit floats.
        dtype: Final type; norms and the time embedding stay in fp32, as with `from_pretrained`. A float8 type stores the matrices of
            the blocks in it, each with a scale, which halves their memory; the model computes in bfloat16.
        adapter: The adapter file, in any layout.
        config: Overrides of the inferred configuration; `num_attention_heads` is needed where heads are not 128
            channels wide. Parts that only the config asks for (`audio_dim`, `identity_dim`, `motion`) are initialised
            so that they have no effect until they are trained.
        device: Device of the finished model.
        quantised: Whether matrices that are stored in GGUF blocks or 8-bit floats stay so in memory and are expanded when they are
            used, or become plain weights of `dtype`.

    Returns:
        The model, in evaluation mode.

    Raises:
        CheckpointError: Files are missing, damaged or unsafe, keys do not fit, or `config` has an unknown name.
    """
    planned = plan_transformer(path, adapter, config)
    if planned.fresh:
        _start_fresh(planned.model, planned.fresh, torch.bfloat16 if dtype in FLOAT8 else dtype, device)
    model: FantasyTalkingTransformer3DModel = planned.finish(dtype, device, quantised)
    return model


def _start_fresh(model: Any, keys: tuple[str, ...], dtype: torch.dtype, device: str | torch.device) -> None:
    for key in keys:
        name, _, leaf = key.rpartition(".")
        module = model.get_submodule(name)
        module._parameters[leaf] = nn.Parameter(torch.empty_like(module._parameters[leaf], dtype=dtype, device=device))
    # Parts that the files hold are still on the meta device, where initialising does nothing.
    model.reset_new_parts()


def plan_vae(path: str | Path, config: Mapping[str, Any] | None = None) -> Planned:
    """Build the VAE without values and check the files that will fill it.

    Arguments and errors are those of `load_vae`.
    """
    from diffusers import AutoencoderKLWan

    weights = open_component(path, "vae", VAE_FILE)
    original = "conv1.weight" in weights.infos
    source = Source(weights, VAE_ORIGINAL if original else same_names("diffusers VAE"))
    sizes = vae_config(source.shapes(), weights.path) | ({} if original else read_config(weights.path))
    merged = merge_config(AutoencoderKLWan.__init__, sizes, config)
    return _checked(build_empty(lambda: AutoencoderKLWan(**merged)), source)


def load_vae(
    path: str | Path,
    dtype: torch.dtype = torch.float32,
    config: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> AutoencoderKLWan:
    """Load Wan's video VAE.

    Args:
        path: `Wan2.1_VAE.pth`, a `vae` folder in diffusers' layout, or a folder that holds either.
        dtype: Final type; Wan's VAE is meant to run in fp32.
        config: Overrides of the inferred configuration.
        device: Device of the finished model.

    Returns:
        The model, in evaluation mode.

    Raises:
        CheckpointError: As in `load_transformer`.
    """
    model: AutoencoderKLWan = plan_vae(path, config).finish(dtype, device)
    return model


def plan_text_encoder(path: str | Path, config: Mapping[str, Any] | None = None) -> Planned:
    """Build the text encoder without values and check the files that will fill it.

    Arguments and errors are those of `load_text_encoder`.
    """
    from transformers import UMT5Config, UMT5EncoderModel

    weights = open_component(path, "text_encoder", TEXT_FILE)
    original = "token_embedding.weight" in weights.infos
    source = Source(weights, UMT5_ORIGINAL if original else UMT5_NAMES)
    sizes = (
        umt5_config(source.shapes(), weights.path)
        | ({} if original else read_config(weights.path))
        | dict(config or {})
    )
    return _checked(build_empty(lambda: UMT5EncoderModel(UMT5Config(**sizes))), source)


def load_text_encoder(
    path: str | Path,
    dtype: torch.dtype = torch.bfloat16,
    config: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> UMT5EncoderModel:
    """Load the umT5 text encoder.

    Args:
        path: `models_t5_umt5-xxl-enc-bf16.pth`, a `text_encoder` folder, or a folder that holds either.
        dtype: Final type.
        config: Overrides of the inferred configuration.
        device: Device of the finished model.

    Returns:
        The model, in evaluation mode.

    Raises:
        CheckpointError: As in `load_transformer`.
    """
    model: UMT5EncoderModel = plan_text_encoder(path, config).finish(dtype, device)
    return model


def plan_image_encoder(path: str | Path, config: Mapping[str, Any] | None = None) -> Planned:
    """Build the image encoder without values and check the files that will fill it.

    Arguments and errors are those of `load_image_encoder`.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    weights = open_component(path, "image_encoder", CLIP_FILE)
    original = "visual.cls_embedding" in weights.infos
    bare = not original and not any(key.startswith(CLIP_PREFIX) for key in weights.infos)
    source = Source(weights, CLIP_ORIGINAL if original else CLIP_BARE_NAMES if bare else CLIP_NAMES)
    sizes = (
        clip_config(source.shapes(), weights.path)
        | ({} if original else read_config(weights.path))
        | dict(config or {})
    )
    model = build_empty(lambda: CLIPVisionModel(CLIPVisionConfig(**sizes)))
    if not any(key.startswith(CLIP_PREFIX) for key in model.state_dict()):
        # transformers 5 dropped the prefix from the class; files may or may not have it.
        source.plan = {key.removeprefix(CLIP_PREFIX): piece for key, piece in source.plan.items()}
    return _checked(model, source)


def load_image_encoder(
    path: str | Path,
    dtype: torch.dtype = torch.float32,
    config: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> CLIPVisionModel:
    """Load the vision half of CLIP ViT-H/14.

    Args:
        path: `models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth`, an `image_encoder` folder, or a folder that
            holds either.
        dtype: Final type.
        config: Overrides of the inferred configuration.
        device: Device of the finished model.

    Returns:
        The model, in evaluation mode.

    Raises:
        CheckpointError: As in `load_transformer`.
    """
    model: CLIPVisionModel = plan_image_encoder(path, config).finish(dtype, device)
    return model


def _checked(model: Any, source: Source) -> Planned:
    check_keys(model, [source])
    return Planned(model, (source,))
