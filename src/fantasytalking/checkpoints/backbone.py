"""Another backbone for a model: Wan's weights from a file of any layout, with the adapter of the model laid on top."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fantasytalking.checkpoints.adapter_layouts import adapter_config, open_adapter, part_of, parts_in
from fantasytalking.checkpoints.component_files import backbone_config, read_config
from fantasytalking.checkpoints.fill_model import Source, check_keys, fill_model, require_values
from fantasytalking.checkpoints.load_models import Quantised, load_transformer, open_transformer
from fantasytalking.checkpoints.scaled_weights import FLOAT8
from fantasytalking.checkpoints.tensor_info import TensorInfo
from fantasytalking.checkpoints.weights_reader import open_weights
from fantasytalking.errors import CheckpointError, SettingsError

if TYPE_CHECKING:
    from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["backbone_tensors", "load_backbone", "load_single_file", "quantisation_of"]


def quantisation_of(folder: Path) -> str | None:
    """Name of the method by which diffusers quantised the weights in a folder, such as torchao; None where they are plain."""
    config = read_config(folder) if folder.is_dir() else {}
    method: str | None = (config.get("quantization_config") or {}).get("quant_method")
    return method


def backbone_tensors(
    path: str | Path, model: str | Path, adapter: str | Path | None = None
) -> tuple[dict[str, TensorInfo], bool]:
    """What `load_backbone` would read, from the headers of the files.

    Args:
        path: As for `load_backbone`.
        model: As for `load_backbone`.
        adapter: As for `load_backbone`.

    Returns:
        The tensors, by their name in the model as far as they have one; and whether a library quantised the backbone, so that it stays as
        it is stored.

    Raises:
        CheckpointError: Files are missing or damaged.
    """
    path, own = Path(path), Path(model) / "transformer"
    part = _part_of_folder(path)
    quantised = quantisation_of(part) is not None
    base = open_weights(part).infos if quantised else _tensors(open_transformer(path)[0])
    return base | _tensors(open_adapter(adapter or own)), quantised


def _part_of_folder(path: Path) -> Path:
    return path / "transformer" if (path / "transformer").is_dir() else path


def _tensors(source: Source) -> dict[str, TensorInfo]:
    stored = source.stored()
    return {key: stored[key]._replace(shape=shape) for key, shape in source.shapes().items()}


def load_backbone(
    path: str | Path,
    model: str | Path,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    adapter: str | Path | None = None,
    quantised: Quantised = "keep",
) -> FantasyTalkingTransformer3DModel:
    """Load a transformer whose Wan weights are from a file and whose adapter is a model folder's.

    Args:
        path: Wan's transformer: a safetensors or GGUF file, shards, a folder of diffusers' layout, plain or quantised by torchao.
        model: The model folder, which knows the configuration.
        dtype: Type that the model computes in, see `load_transformer`.
        device: Device of the finished model.
        adapter: An adapter in place of the folder's.
        quantised: Whether quantised weights stay as they are stored.

    Raises:
        CheckpointError: Files are missing, damaged or unsafe, or keys do not fit; the message names them.
        SettingsError: A float8 type, and the weights are quantised in another way.
    """
    path, folder = Path(path), Path(model)
    own = folder / "transformer"
    if not own.is_dir():
        raise CheckpointError(
            f"The model folder '{folder}' has no transformer, whose adapter is laid on {path}; give a model folder."
        )
    config = backbone_config(folder)
    part = _part_of_folder(path)
    method = quantisation_of(part)
    if method is None:
        return load_transformer(path, dtype, adapter or own, config, device, quantised)
    if dtype in FLOAT8:
        raise SettingsError(
            f"{path} is quantised by {method} already, and cannot be stored in fp8 besides; do without --quantize, or give the weights "
            "that it was made from."
        )
    if quantised == "expand":
        raise CheckpointError(
            f"{path} is quantised by {method} and cannot be expanded to plain weights; give the weights that it was made from."
        )
    return _load_quantised(part, adapter or own, dtype, device)


def _load_quantised(
    path: Path, adapter: str | Path, dtype: torch.dtype, device: str | torch.device
) -> FantasyTalkingTransformer3DModel:
    """A transformer that diffusers saved quantised, with an adapter in plain weights."""
    from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

    source = open_adapter(adapter)
    try:
        model = FantasyTalkingTransformer3DModel.from_pretrained(path, dtype=dtype, **adapter_config(source))
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be loaded: {' '.join(str(error).split())}") from error
    check_keys(model, [source], [key for key in model.state_dict() if part_of(key) not in parts_in(source.plan)])
    fill_model(model, source, dtype, device)
    require_values(model, str(path))
    made: FantasyTalkingTransformer3DModel = model.eval().to(device)
    return made


def load_single_file(
    path: str | Path,
    *,
    adapter: str | Path | None = None,
    config: str | Path | dict[str, Any] | None = None,
    subfolder: str | None = None,
    dtype: torch.dtype | None = None,
    torch_dtype: torch.dtype | None = None,
    quantization_config: Any = None,
    device: str | torch.device = "cpu",
) -> FantasyTalkingTransformer3DModel:
    """What `FantasyTalkingTransformer3DModel.from_single_file` does, with the arguments of diffusers' method of that name.

    Args:
        path: A file of Wan's or FantasyTalking's transformer, in any layout.
        adapter: The adapter, unless the file holds it.
        config: Configuration, or the folder that holds it; None: it is inferred from the shapes.
        subfolder: Folder of the transformer below that folder.
        dtype: Type that the model computes in; None: that of the quantisation, else float32.
        torch_dtype: Another name for `dtype`.
        quantization_config: A `GGUFQuantizationConfig`: quantised weights stay as the file stores them. None expands them.
        device: Device of the finished model.

    Raises:
        CheckpointError: As in `load_transformer`.
        SettingsError: Another kind of quantisation is asked for.
    """
    compute = getattr(quantization_config, "compute_dtype", None)
    if quantization_config is not None and compute is None:
        raise SettingsError(
            f"A single file cannot be quantised by {type(quantization_config).__name__} while it is read; "
            "save the model as a folder and load that with from_pretrained(..., quantization_config=...)."
        )
    if isinstance(config, str | Path):
        folder = Path(config) / (subfolder or "")
        inner = folder / "transformer"
        config = read_config(inner if inner.is_dir() else folder)
    config = {key: value for key, value in (config or {}).items() if key != "quantization_config"}
    kept: Quantised = "expand" if quantization_config is None else "keep"
    wanted = dtype or torch_dtype or compute or torch.float32
    return load_transformer(path, wanted, adapter, config, device, kept)
