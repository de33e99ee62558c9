"""The FantasyTalking adapter: the weights beside Wan's, in the three key layouts in which they circulate.

| layout | content | names |
|---|---|---|
| `released` | dicts | `proj_model`: `proj.weight`; `audio_processor`: `blocks.N.cross_attn.processor.k_proj.weight` |
| `safetensors` | one dict | the same with the name of the dict in front: `proj_model.proj.weight` |
| `comfyui` | one dict | `proj_model.proj.weight`, `blocks.N.cross_attn.k_proj.weight` |

Released weights hold the audio part only. Our own files may also hold positions in the audio windows
(`proj_model.window_positions`), the identity part (`identity_k_proj`, `identity_v_proj`, `identity_qformer.*`) and
the motion part (`motion_network.*`), and may be named as the model names them (`model`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from fantasytalking.checkpoints.fill_model import Source, check, fill
from fantasytalking.checkpoints.key_tables import KeyTable, Rule
from fantasytalking.checkpoints.weights_reader import TORCH_SUFFIXES, open_weights
from fantasytalking.checkpoints.weights_writer import replace_file
from fantasytalking.errors import CheckpointError, OutputError

__all__ = [
    "ADAPTER_TABLES",
    "PARTS",
    "AdapterLayout",
    "adapter_config",
    "adapter_layout",
    "convert_adapter",
    "load_adapter",
    "save_adapter",
    "write_adapter",
]

AdapterLayout = Literal["released", "safetensors", "comfyui", "model"]
_HEAD_KEYS = ("proj_model", "audio_processor", "identity_qformer", "motion_network")


def _table(name: str, blocks: str) -> KeyTable:
    kinds = {
        "k_proj": "audio_k_proj",
        "v_proj": "audio_v_proj",
        "identity_k_proj": "identity_k_proj",
        "identity_v_proj": "identity_v_proj",
    }
    return KeyTable(
        name,
        (
            Rule("proj_model.proj.{p}", "audio_projector.proj.{p}"),
            Rule("proj_model.norm.{p}", "audio_projector.norm.{p}"),
            Rule("proj_model.window_positions", "window_positions"),
            *(Rule(f"{blocks}.{a}.{{p}}", f"blocks.{{n}}.attn2.processor.{b}.{{p}}") for a, b in kinds.items()),
            Rule("identity_qformer.{tail}", "identity_qformer.{tail}"),
            Rule("motion_network.{tail}", "motion_network.{tail}"),
        ),
    )


# A released file read key by key has the names of the safetensors layout: the dicts are flattened with a dot.
_PREFIXED = "audio_processor.blocks.{n}.cross_attn.processor"
ADAPTER_TABLES: dict[AdapterLayout, KeyTable] = {
    "released": _table("released adapter", _PREFIXED),
    "safetensors": _table("prefixed adapter", _PREFIXED),
    "comfyui": _table("ComfyUI adapter", "blocks.{n}.cross_attn"),
    "model": KeyTable(
        "adapter in the model's names",
        (
            Rule("audio_projector.{tail}", "audio_projector.{tail}"),
            Rule("window_positions", "window_positions"),
            *(
                Rule(f"blocks.{{n}}.attn2.processor.{a}.{{p}}", f"blocks.{{n}}.attn2.processor.{a}.{{p}}")
                for a in ("audio_k_proj", "audio_v_proj", "identity_k_proj", "identity_v_proj")
            ),
            Rule("identity_qformer.{tail}", "identity_qformer.{tail}"),
            Rule("motion_network.{tail}", "motion_network.{tail}"),
        ),
    ),
}
PARTS: dict[str, tuple[str, ...]] = {
    "audio": ("audio_projector.", ".processor.audio_"),
    "positions": ("window_positions",),
    "identity": ("identity_qformer.", ".processor.identity_"),
    "motion": ("motion_network.",),
}


def part_of(key: str) -> str | None:
    """Which part of the adapter (a key of `PARTS`) a name of the model belongs to, or None for Wan's own."""
    return next(
        (part for part, marks in PARTS.items() if any(key.startswith(m) or (m[0] == "." and m in key) for m in marks)),
        None,
    )


def adapter_layout(keys: Iterable[str], path: str | Path) -> AdapterLayout | None:
    """The adapter layout of a file with these names, or None when it is no adapter."""
    keys = set(keys)
    if "proj_model.proj.weight" in keys:
        if any(key.startswith("audio_processor.") for key in keys):
            return "released" if Path(path).suffix in TORCH_SUFFIXES else "safetensors"
        return "comfyui"
    return "model" if "audio_projector.proj.weight" in keys and "patch_embedding.weight" not in keys else None


def open_adapter(path: str | Path) -> Source:
    """Open an adapter in whichever layout it is.

    Raises:
        CheckpointError: It cannot be read, or is no FantasyTalking adapter.
    """
    weights = open_weights(path)
    layout = adapter_layout(weights.infos, path)
    if layout is None:
        names = ", ".join(list(weights.infos)[:3]) or "nothing"
        raise CheckpointError(
            f"{path} is no FantasyTalking adapter: it has no proj_model.proj.weight but {names}; "
            "give fantasytalking_model.ckpt, its safetensors copy or the ComfyUI file."
        )
    return Source(weights, ADAPTER_TABLES[layout])


def adapter_config(source: Source) -> dict[str, Any]:
    """The sizes of an adapter, as arguments of `FantasyTalkingTransformer3DModel`."""
    shapes = source.shapes()
    config: dict[str, Any] = {}
    if "audio_projector.proj.weight" in shapes:
        config["audio_dim"], config["audio_feature_dim"] = shapes["audio_projector.proj.weight"]
    if "window_positions" in shapes:
        config["audio_positions"] = shapes["window_positions"][0]
    if "identity_qformer.queries" in shapes:
        _, config["identity_tokens"], config["identity_dim"] = shapes["identity_qformer.queries"]
        config["identity_layers"] = len(
            {key.split(".")[2] for key in shapes if key.startswith("identity_qformer.layers.")}
        )
    if "identity_qformer.face_proj.weight" in shapes:
        config["identity_feature_dim"] = shapes["identity_qformer.face_proj.weight"][1]
    if "motion" in parts_in(shapes):
        config["motion"] = True
    return config


def parts_in(keys: Iterable[str]) -> set[str]:
    """The parts of the adapter that occur among names of the model."""
    return {part for part in map(part_of, keys) if part is not None}


def load_adapter(model: nn.Module, path: str | Path) -> None:
    """Replace a transformer's audio weights, and its identity and motion weights where the file has them.

    A part that the file does not hold at all stays as it is; a part that it holds must be complete and of the
    model's sizes.

    Args:
        model: A `FantasyTalkingTransformer3DModel` built with audio (`audio_dim` not None).
        path: The adapter, in any layout.

    Raises:
        CheckpointError: The file is no adapter, or keys are missing, unexpected or misshapen.
    """
    source = open_adapter(path)
    own = list(model.state_dict())
    if "audio" not in parts_in(own):
        raise CheckpointError(
            f"This {type(model).__name__} was built without audio, so {path} has no place in it; "
            "build it with load_transformer(..., adapter=...) or with audio_dim in its config."
        )
    present = parts_in(source.plan)
    check(
        model,
        [source],
        [key for key in own if part_of(key) not in present],
        "check that the adapter belongs to this base model",
    )
    values = dict(model.named_parameters()) | dict(model.named_buffers())
    like = values["audio_projector.proj.weight"]
    fill(model, source, like.dtype, like.device)


def adapter_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The adapter's tensors of a transformer, in the model's names."""
    state = {key: value for key, value in model.state_dict().items() if part_of(key) is not None}
    if not state:
        raise CheckpointError(
            f"This {type(model).__name__} has no audio, identity or motion weights; there is no adapter to save."
        )
    return state


def save_adapter(model: nn.Module, path: str | Path, layout: AdapterLayout = "safetensors") -> Path:
    """Write a transformer's adapter.

    Args:
        model: A `FantasyTalkingTransformer3DModel` with audio.
        path: The file to write; replaced only once the new one is complete.
        layout: `released`, `safetensors`, `comfyui`, or `model` for the model's own names.

    Returns:
        The path.

    Raises:
        CheckpointError: Unknown layout, or the model has no adapter.
        OutputError: It cannot be written.
    """
    return write_adapter(adapter_state(model), path, layout)


def convert_adapter(source: str | Path, target: str | Path, layout: AdapterLayout) -> Path:
    """Turn an adapter of one layout into another; types and values stay as they are.

    Args:
        source: The adapter, in any layout.
        target: The file to write.
        layout: Its layout.

    Returns:
        The path written.

    Raises:
        CheckpointError: The source is no complete adapter, or the layout is unknown.
        OutputError: The target cannot be written.
    """
    opened = open_adapter(source)
    if opened.unknown:
        raise CheckpointError(
            f"{source} has {len(opened.unknown)} unexpected keys ({', '.join(opened.unknown[:5])}); "
            "it is no plain adapter, so take them out or load it with its model."
        )
    _require_complete(opened)
    return write_adapter({key: opened.get(key) for key in opened.ordered()}, target, layout)


def _require_complete(source: Source) -> None:
    blocks = {key.split(".")[1] for key in source.plan if key.startswith("blocks.")}
    kinds = {key.split(".", 2)[2] for key in source.plan if key.startswith("blocks.")} | {
        f"attn2.processor.audio_{kind}_proj.weight" for kind in "kv"
    }
    numbers = range(1 + max(map(int, blocks), default=0))
    needed = [f"blocks.{n}.{kind}" for n in numbers for kind in sorted(kinds)]
    needed += ["audio_projector.proj.weight", "audio_projector.norm.weight", "audio_projector.norm.bias"]
    missing = [key for key in needed if key not in source.plan]
    if missing:
        raise CheckpointError(
            f"{source.weights.path} is an incomplete adapter: {len(missing)} missing ({', '.join(missing[:5])}); "
            "get the whole file."
        )


def write_adapter(state: Mapping[str, torch.Tensor], path: str | Path, layout: str) -> Path:
    """Write tensors of an adapter, in the model's names, in a layout.

    Raises:
        CheckpointError: Unknown layout.
        OutputError: It cannot be written.
    """
    if layout not in ADAPTER_TABLES:
        raise CheckpointError(
            f"There is no adapter layout {layout!r}; accepted are {', '.join(get_args(AdapterLayout))}."
        )
    table = ADAPTER_TABLES[layout]
    named: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        piece = table.backward(key)
        assert piece is not None, f"{layout} has no name for {key}"
        named[piece.source] = value.detach().to("cpu").contiguous()
    path = Path(path)
    write = partial(_save_nested, named) if layout == "released" else partial(_save_flat, named)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return replace_file(path, write)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise OutputError(f"{path} cannot be written ({error}); choose a writable folder with enough space.") from error


def _save_flat(named: dict[str, torch.Tensor], path: Path) -> None:
    save_file(named, path, metadata={"format": "pt"})


def _save_nested(named: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(_nested(named), path)


def _nested(named: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    content: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in named.items():
        head = next(head for head in _HEAD_KEYS if key.startswith(head + "."))
        content.setdefault(head, {})[key[len(head) + 1 :]] = value.clone()
    return content
