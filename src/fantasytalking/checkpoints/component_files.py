"""One part of a pipeline on disk: the file or folder that holds its weights, and its configuration."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fantasytalking.checkpoints.wan_layouts import CLIP_FILE, TEXT_FILE, VAE_FILE
from fantasytalking.checkpoints.weights_reader import Weights, open_weights
from fantasytalking.errors import CheckpointError
from fantasytalking.system.records import nearest_name

__all__ = ["backbone_config", "merge_config", "open_component", "read_config"]


def read_config(path: Path) -> dict[str, Any]:
    """Read the `config.json` beside weights.

    Args:
        path: The weights file, or the folder that holds it.

    Returns:
        The configuration; empty where there is no such file.

    Raises:
        CheckpointError: The file is not valid JSON.
    """
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.is_file():
        return {}
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON ({error}); download or copy it again.") from error
    return config


def backbone_config(folder: Path) -> dict[str, Any]:
    """Configuration of Wan's part of the transformer in a folder: all that a file of its weights may not tell, such as the number of heads.

    Args:
        folder: A model folder, a folder in the `-Diffusers` layout, or one of original files.

    Returns:
        Arguments of `FantasyTalkingTransformer3DModel`, without those of an adapter, whose weights tell them.
    """
    inner = folder / "transformer"
    config = read_config(inner if inner.is_dir() else folder)
    if not inner.is_dir():
        heads = config.get("num_heads")
        return {} if heads is None else {"num_attention_heads": heads}
    adapter = ("audio_", "identity_", "motion", "_", "quantization_config")
    return {key: value for key, value in config.items() if not key.startswith(adapter)}


def merge_config(
    factory: Callable[..., Any], base: Mapping[str, Any], override: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Merge overrides into inferred sizes.

    Giving the number of heads alone also sets their width, and the other way round: the shapes fix only the product.

    Args:
        factory: The model's constructor; its parameters are the accepted names.
        base: Sizes inferred from files and shapes; names that the constructor does not take are dropped.
        override: Values that win over `base`; names with a leading underscore are ignored.

    Returns:
        Arguments for the constructor.

    Raises:
        CheckpointError: An override has a name that the constructor does not take.
    """
    names = list(inspect.signature(factory).parameters)
    config = {key: value for key, value in base.items() if key in names}
    override = dict(override or {})
    for key in [key for key in override if not key.startswith("_")]:
        if key not in names:
            model = getattr(factory, "__qualname__", str(factory)).removesuffix(".__init__")
            raise CheckpointError(
                f"The config sets {key!r}, which {model} does not have; {nearest_name(key, names, 'accepted names')}"
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
        path: A weights file; the part's own folder; a pipeline folder that contains `subfolder`; or a folder of
            original files that contains `file`.
        subfolder: Name of the part's folder in a pipeline.
        file: Name of the part's original file; None for the transformer, whose shards are in the folder itself.

    Returns:
        The open weights; their `path` is the file or folder that was found.

    Raises:
        CheckpointError: The part is not there, or its files are damaged.
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
