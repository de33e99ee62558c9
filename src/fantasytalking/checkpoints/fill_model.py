"""Build a model without values and fill it tensor by tensor from mapped files.

Parameters start on the meta device, so building costs no memory. Buffers that no checkpoint holds (the rotary
tables of Wan) are computed for real while building. Each tensor is cast to its final type on its own, so memory
never holds more than the finished weights, one tensor of the file and the mapped pages of a few more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from einops import rearrange
from torch import nn

from fantasytalking.checkpoints.key_tables import KeyReport, KeyTable, Piece, compare_keys
from fantasytalking.checkpoints.weights_reader import RELEASE_BYTES, TensorInfo, Weights
from fantasytalking.errors import CheckpointError

__all__ = [
    "FLOAT8",
    "Source",
    "build_empty",
    "check_keys",
    "expected_shapes",
    "fill_model",
    "final_dtype",
    "read_piece",
    "require_values",
]

SMALLEST_VIEW = 2**20
"""Bytes; smaller tensors are always copied, as a view of them would keep a whole file mapped."""

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
"""Types that layers are stored in and cannot compute in."""

Model = TypeVar("Model")


class Source:
    """An open checkpoint together with the key table of its layout: its tensors under the names of the model.

    Args:
        weights: The open checkpoint.
        table: Key table of its layout.
        prefix: Text in front of every name in the file that the table does not mention.

    Attributes:
        plan: Name in the model -> the piece of the file that fills it.
        unknown: Names in the file that no rule of the table matches.
    """

    def __init__(self, weights: Weights, table: KeyTable, prefix: str = "") -> None:
        self.weights = weights
        self.table = table
        self.prefix = prefix
        stripped = [key.removeprefix(prefix) for key in weights.infos]
        self.plan, self.unknown = table.plan(stripped)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensors that the file can fill, by their name in the model."""
        return {key: piece.shape(self.weights.shape(self.prefix + piece.source)) for key, piece in self.plan.items()}

    def dtype(self, key: str) -> torch.dtype:
        """Type in which the file stores the tensor with the model's name `key`."""
        return self.stored()[key].dtype

    def stored(self) -> dict[str, TensorInfo]:
        """Stored shape and type of all tensors that the file can fill, by their name in the model."""
        return {key: self.weights.infos[self.prefix + piece.source] for key, piece in self.plan.items()}

    def ordered(self) -> list[str]:
        """Names in the model, in the order of the tensors in the file, which is the fastest order to read them in."""
        order = {key: index for index, key in enumerate(self.weights.infos)}
        return sorted(self.plan, key=lambda key: order[self.prefix + self.plan[key].source])

    def get(self, key: str) -> torch.Tensor:
        """Value of the tensor with the model's name `key`, a view of the mapped file."""
        return read_piece(self.weights, self.plan[key], self.prefix)


def read_piece(weights: Weights, piece: Piece, prefix: str = "") -> torch.Tensor:
    """Read one tensor of the model: the whole of a stored tensor, or one of the equal slices stacked in it."""
    tensor = weights.get(prefix + piece.source)
    if piece.leading_ones and tensor.shape[: piece.leading_ones].numel() == 1:
        tensor = tensor.reshape(tensor.shape[piece.leading_ones :])
    if piece.parts > 1:
        tensor = rearrange(tensor, "(parts d) ... -> parts d ...", parts=piece.parts)[piece.part]
    return tensor


def build_empty(factory: Callable[[], Model]) -> Model:
    """Build a model whose parameters are on the meta device and whose buffers are real.

    Args:
        factory: Function without arguments that returns the model, for example `lambda: AutoencoderKLWan(**config)`.

    Returns:
        The model in evaluation mode.
    """
    with init_empty_weights(include_buffers=False):
        model = factory()
    return model.eval()  # type: ignore[no-any-return, attr-defined]


def expected_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes by name of all tensors in a checkpoint of this model; tied weights appear under their first name only."""
    tied: Any = getattr(model, "all_tied_weights_keys", None) or getattr(model, "_tied_weights_keys", None) or ()
    return {key: tuple(value.shape) for key, value in model.state_dict().items() if key not in tied}


def final_dtype(model: nn.Module, key: str, stored: torch.dtype, wanted: torch.dtype) -> torch.dtype:
    """Type in which a tensor is kept.

    Integers keep their type. In float8 are only the layers that diffusers' layerwise casting casts back for each call, which it has marked
    by their type; the rest is in bfloat16. Modules that diffusers lists in `_keep_in_fp32_modules` (the norms, the time
    embedding) stay in fp32, as with `from_pretrained`.

    Args:
        model: The model, for its list of modules to keep in fp32.
        key: Name of the tensor in the model.
        stored: Type in the file.
        wanted: Type asked for.
    """
    if not (stored.is_floating_point and wanted.is_floating_point):
        return stored
    if wanted in FLOAT8 and model.get_parameter(key).dtype != wanted:
        wanted = torch.bfloat16
    keep = getattr(model, "_keep_in_fp32_modules", None) or ()
    # transformers keeps its own list for fp16 only; see PreTrainedModel._get_dtype_plan.
    applies = wanted == torch.float16 or (wanted == torch.bfloat16 and hasattr(model, "register_to_config"))
    return torch.float32 if applies and any(name in key.split(".") for name in keep) else wanted


def check_keys(
    model: nn.Module, sources: Iterable[Source], optional: Iterable[str] = (), advice: str | None = None
) -> None:
    """Check names and shapes of all sources against a model, before any value is read.

    Args:
        model: The model to fill.
        sources: Checkpoints that fill it together.
        optional: Names in the model that the sources may lack.
        advice: End of the error's sentence; None says to check that the checkpoint is complete.

    Raises:
        CheckpointError: A key is missing, unexpected or misshapen; the message names them.
    """
    sources = list(sources)
    found: dict[str, tuple[int, ...]] = {}
    unknown: list[str] = []
    for source in sources:
        found.update(source.shapes())
        unknown.extend(source.unknown)
    report: KeyReport = compare_keys(expected_shapes(model), found, unknown, optional)
    where = " with ".join(str(source.weights.path) for source in sources)
    advice = (
        advice or f"check that it is a complete {sources[0].table.name} checkpoint and that the config has its sizes"
    )
    report.raise_if_bad(where, type(model).__name__, advice)


def fill_model(
    model: nn.Module,
    source: Source,
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
) -> None:
    """Give a model its values, one tensor at a time.

    Tensors that a file stores in the final type stay views of the mapping (copy on write), which the system can drop
    and reread under memory pressure; all others are cast into memory of their own.

    Args:
        model: A model from `build_empty`, or a finished one whose values are to be replaced.
        source: The checkpoint, already checked with `check_keys`.
        dtype: Final type; see `final_dtype` for the tensors that keep another one.
        device: Device of the values.
    """
    keep_views = _cast_bytes(model, source, dtype) <= RELEASE_BYTES
    for key in source.ordered():
        stored = source.get(key)
        value = stored.to(device=device, dtype=final_dtype(model, key, stored.dtype, dtype))
        if value.data_ptr() == stored.data_ptr() and not (keep_views and value.nbytes >= SMALLEST_VIEW):
            # A view keeps its whole file mapped, with the pages of every tensor that was cast from it.
            value = value.clone()
        _assign(model, key, value)
    source.weights.release()
    tie = getattr(model, "tie_weights", None)
    if callable(tie):
        tie()


def _cast_bytes(model: nn.Module, source: Source, dtype: torch.dtype) -> int:
    infos = source.stored()
    return sum(info.nbytes for key, info in infos.items() if final_dtype(model, key, info.dtype, dtype) != info.dtype)


def _assign(model: nn.Module, key: str, value: torch.Tensor) -> None:
    path, _, name = key.rpartition(".")
    module = model.get_submodule(path)
    if name in module._parameters:
        old = module._parameters[name]
        module._parameters[name] = nn.Parameter(
            value, requires_grad=old is None or (old.requires_grad and value.is_floating_point())
        )
    else:
        module._buffers[name] = value


def require_values(model: nn.Module, what: str) -> None:
    """Check that no tensor of a filled model is still on the meta device.

    Args:
        model: The filled model.
        what: The file or folder that it was filled from, for the message.

    Raises:
        CheckpointError: Some tensors have no value; the message names them.
    """
    named: Mapping[str, torch.Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    empty = [key for key, value in named.items() if value.is_meta]
    if empty:
        raise CheckpointError(
            f"{what} left {len(empty)} tensors without values ({', '.join(empty[:5])}); report this as a bug."
        )
