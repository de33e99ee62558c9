"""From files to finished models: the transformer with its adapter, the VAE, the text encoder and the image encoder.

Each function takes the original file or folder, the folder of one component in the `-Diffusers` layout, or a whole
pipeline folder, and raises `CheckpointError` when a key is missing, unexpected or misshapen. Values whose stored
type is already the wanted one stay mapped from the file: do not overwrite a file in place while a model loaded from
it is in use.
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fantasytalking.checkpoints.adapter_layouts import adapter_config, open_adapter, part_of, parts_in
from fantasytalking.checkpoints.fill_model import Source, build_empty, check, expected_shapes, fill, require_no_meta
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
    identity_table,
    transformer_config,
    umt5_config,
    vae_config,
)
from fantasytalking.checkpoints.weights_reader import Weights, open_weights
from fantasytalking.errors import CheckpointError

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan
    from transformers import CLIPVisionModel, UMT5EncoderModel

    from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = [
    "Planned",
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


@dataclass(frozen=True)
class Planned:
    """A model without values, and where its values are; names and shapes are already checked.

    Attributes:
        model: On the meta device.
        sources: What fills it, one after the other.
        fresh: Names that no source fills and that are to be initialised.
    """

    model: Any
    sources: tuple[Source, ...]
    fresh: tuple[str, ...] = ()

    def finish(self, dtype: torch.dtype, device: str | torch.device) -> Any:
        """Read the values; returns the finished model."""
        for source in self.sources:
            fill(self.model, source, dtype, device)
        for name, buffer in list(self.model.named_buffers()):
            module, _, leaf = name.rpartition(".")
            self.model.get_submodule(module)._buffers[leaf] = buffer.to(device)
        require_no_meta(self.model, str(self.sources[0].weights.path))
        return self.model


def read_config(path: Path) -> dict[str, Any]:
    """The `config.json` beside weights, or an empty dict when there is none.

    Raises:
        CheckpointError: It is not JSON.
    """
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.is_file():
        return {}
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON ({error}); download or copy it again.") from error
    return config


def merge_config(
    factory: Callable[..., Any], base: Mapping[str, Any], override: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Lay an override over inferred sizes.

    Giving the number of heads alone also sets their width, because the shapes fix only the product.

    Raises:
        CheckpointError: A name that the model does not know.
    """
    names = list(inspect.signature(factory).parameters)
    config = {key: value for key, value in base.items() if key in names}
    override = dict(override or {})
    for key in [key for key in override if not key.startswith("_")]:
        if key not in names:
            nearest = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"accepted are {', '.join(names)}."
            raise CheckpointError(
                f"The config names {key!r}, which {getattr(factory, '__name__', factory)} does not have; {hint}"
            )
    heads, width = override.get("num_attention_heads"), override.get("attention_head_dim")
    if "attention_head_dim" in config and (heads is None) != (width is None):
        dim = config["num_attention_heads"] * config["attention_head_dim"]
        override.setdefault("num_attention_heads", dim // (width or 1))
        override.setdefault("attention_head_dim", dim // (heads or 1))
    return config | {key: value for key, value in override.items() if not key.startswith("_")}


def open_component(path: str | Path, subfolder: str, file: str | None = None) -> Weights:
    """Open the weights of one part of a pipeline.

    Args:
        path: A file; the part's own folder; a pipeline folder that has it as `subfolder`; or a folder of original
            files that has `file`.
        subfolder: Name of the part's folder in a pipeline.
        file: Name of the part's original file.

    Returns:
        The weights; their `path` is what was found.
    """
    path = Path(path)
    if path.is_dir():
        if (path / subfolder).is_dir():
            return open_weights(path / subfolder)
        if file is not None and (path / file).is_file():
            return open_weights(path / file)
        whole = any((path / name).exists() for name in (VAE_FILE, TEXT_FILE, CLIP_FILE, "google"))
        if file is not None and (whole or not list(path.glob("*.safetensors"))):
            raise CheckpointError(
                f"The weights folder {path} has neither {subfolder}/ nor {file}; download or copy the missing part."
            )
    return open_weights(path)


def open_transformer(path: str | Path) -> tuple[Source, dict[str, Any]]:
    """Open a Wan or FantasyTalking transformer of any layout.

    Args:
        path: A safetensors file, a folder of shards (original or diffusers), or a pipeline folder.

    Returns:
        The weights behind their table, and the configuration that its files and shapes give.
    """
    weights = open_component(path, "transformer")
    config = read_config(weights.path)
    prefix = COMFYUI_PREFIX if any(key.startswith(COMFYUI_PREFIX) for key in weights.infos) else ""
    original = prefix + "head.modulation" in weights.infos
    table = TRANSFORMER_ORIGINAL if original else identity_table("diffusers transformer")
    source = Source(weights, table, prefix)
    sizes = transformer_config(source.shapes(), weights.path, config if original else None)
    return source, sizes | {"audio_dim": None} | adapter_config(source) | ({} if original else config)


def plan_transformer(
    path: str | Path, adapter: str | Path | None = None, config: Mapping[str, Any] | None = None
) -> Planned:
    """Build the transformer without values and check what is to fill it; arguments and errors as in
    `load_transformer`.
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
    check(model, sources, fresh)
    return Planned(model, tuple(sources), fresh)


def load_transformer(
    path: str | Path,
    dtype: torch.dtype = torch.bfloat16,
    adapter: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> FantasyTalkingTransformer3DModel:
    """Load the transformer, with the FantasyTalking adapter where one is given.

    Args:
        path: Wan2.1-I2V as published (folder of shards or one safetensors file), its `-Diffusers` transformer, a
            FantasyTalking transformer folder, or a pipeline folder.
        dtype: Final type; norms and the time embedding stay in fp32, as with `from_pretrained`.
        adapter: The adapter, in any layout.
        config: Overrides of what the files say. Needed are the heads of a model whose heads are not 128 wide. Parts
            that only the config asks for (`audio_dim`, `identity_dim`, `motion`) start fresh and change nothing
            until trained.
        device: Where the weights go.

    Returns:
        The model, in evaluation mode.

    Raises:
        CheckpointError: Files missing, damaged or unsafe, keys that do not fit, or an unknown name in `config`.
    """
    planned = plan_transformer(path, adapter, config)
    if planned.fresh:
        _start_fresh(planned.model, planned.fresh, dtype, device)
    model: FantasyTalkingTransformer3DModel = planned.finish(dtype, device)
    return model


def _start_fresh(model: Any, keys: tuple[str, ...], dtype: torch.dtype, device: str | torch.device) -> None:
    for key in keys:
        name, _, leaf = key.rpartition(".")
        module = model.get_submodule(name)
        module._parameters[leaf] = nn.Parameter(torch.empty_like(module._parameters[leaf], dtype=dtype, device=device))
    # Parts that the files hold are on the meta device still, where initialising does nothing.
    model.reset_new_parts()


def plan_vae(path: str | Path, config: Mapping[str, Any] | None = None) -> Planned:
    """Build the VAE without values and check what is to fill it; arguments and errors as in `load_vae`."""
    from diffusers import AutoencoderKLWan

    weights = open_component(path, "vae", VAE_FILE)
    original = "conv1.weight" in weights.infos
    source = Source(weights, VAE_ORIGINAL if original else identity_table("diffusers VAE"))
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
        dtype: Final type; the VAE is meant to run in fp32.
        config: Overrides of what the files say.
        device: Where the weights go.

    Returns:
        The model, in evaluation mode.

    Raises:
        CheckpointError: See `load_transformer`.
    """
    model: AutoencoderKLWan = plan_vae(path, config).finish(dtype, device)
    return model


def plan_text_encoder(path: str | Path, config: Mapping[str, Any] | None = None) -> Planned:
    """Build the text encoder without values and check what is to fill it; arguments and errors as in
    `load_text_encoder`.
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
        config: Overrides of what the files say.
        device: Where the weights go.

    Returns:
        The model, in evaluation mode.

    Raises:
        CheckpointError: See `load_transformer`.
    """
    model: UMT5EncoderModel = plan_text_encoder(path, config).finish(dtype, device)
    return model


def plan_image_encoder(path: str | Path, config: Mapping[str, Any] | None = None) -> Planned:
    """Build the image encoder without values and check what is to fill it; arguments and errors as in
    `load_image_encoder`.
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
        # transformers 5 dropped the prefix from the class; files have it or not.
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
        config: Overrides of what the files say.
        device: Where the weights go.

    Returns:
        The model, in evaluation mode.

    Raises:
        CheckpointError: See `load_transformer`.
    """
    model: CLIPVisionModel = plan_image_encoder(path, config).finish(dtype, device)
    return model


def _checked(model: Any, source: Source) -> Planned:
    check(model, [source])
    return Planned(model, (source,))
