"""The FantasyTalking adapter, that is the weights added to Wan's: its file layouts, loading, saving, converting.

| layout | content | names |
|---|---|---|
| `released` | two dicts | `proj_model`: `proj.weight`; `audio_processor`: `blocks.N.cross_attn.processor.k_proj.weight` |
| `safetensors` | one dict | the same with the name of the dict in front: `proj_model.proj.weight` |
| `comfyui` | one dict | `proj_model.proj.weight`, `blocks.N.cross_attn.k_proj.weight` |
| `model` | one dict | those of our model: `audio_projector.proj.weight`, `blocks.N.attn2.processor.audio_k_proj.weight` |

Released weights hold the audio part only. Our own files may also hold positions in the audio windows
(`proj_model.window_positions`), the identity part (`identity_k_proj`, `identity_v_proj`, `identity_qformer.*`) and
the motion part (`motion_network.*`), in every layout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from fantasytalking.checkpoints.component_files import open_component
from fantasytalking.checkpoints.fill_model import Source, check_keys, fill_model
from fantasytalking.checkpoints.key_tables import KeyTable, Rule
from fantasytalking.checkpoints.weights_reader import TORCH_SUFFIXES
from fantasytalking.errors import CheckpointError, OutputError
from fantasytalking.system.files import atomic_path
from fantasytalking.system.records import nearest_name

__all__ = [
    "ADAPTER_TABLES",
    "PARTS",
    "AdapterLayout",
    "adapter_config",
    "convert_adapter",
    "detect_adapter_layout",
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
    """Part of the adapter (a key of `PARTS`) that a name in the model belongs to; None for Wan's own weights."""
    return next(
        (part for part, marks in PARTS.items() if any(key.startswith(m) or (m[0] == "." and m in key) for m in marks)),
        None,
    )


def detect_adapter_layout(keys: Iterable[str], path: str | Path) -> AdapterLayout | None:
    """Tell the layout of an adapter from the names of its tensors.

    Args:
        keys: Names of the tensors in the file.
        path: The file; its suffix tells `released` from `safetensors`.

    Returns:
        The layout, or None where the names are not those of an adapter.
    """
    keys = set(keys)
    if "proj_model.proj.weight" in keys:
        if any(key.startswith("audio_processor.") for key in keys):
            return "released" if Path(path).suffix in TORCH_SUFFIXES else "safetensors"
        return "comfyui"
    return "model" if "audio_projector.proj.weight" in keys and "patch_embedding.weight" not in keys else None


def open_adapter(path: str | Path) -> Source:
    """Open an adapter in any layout, which is recognised; of a whole transformer or model folder only the adapter is taken.

    Raises:
        CheckpointError: The file cannot be read or is not a FantasyTalking adapter.
    """
    weights = open_component(path, "transformer")
    if "audio_projector.proj.weight" in weights.infos and "patch_embedding.weight" in weights.infos:
        return Source(weights, dataclasses.replace(ADAPTER_TABLES["model"], ignored=("{tail}",)))
    layout = detect_adapter_layout(weights.infos, path)
    if layout is None:
        names = ", ".join(list(weights.infos)[:3]) or "nothing"
        raise CheckpointError(
            f"{path} is not a FantasyTalking adapter: it holds {names} and no proj_model.proj.weight; "
            "give fantasytalking_model.ckpt, its safetensors copy or the ComfyUI file."
        )
    return Source(weights, ADAPTER_TABLES[layout])


def adapter_config(source: Source) -> dict[str, Any]:
    """Infer the configuration of an adapter from its shapes, as arguments of `FantasyTalkingTransformer3DModel`."""
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
    """Parts of the adapter (keys of `PARTS`) that some names in the model belong to."""
    return {part for part in map(part_of, keys) if part is not None}


def load_adapter(model: nn.Module, path: str | Path) -> None:
    """Replace a transformer's audio weights, and its identity and motion weights where the file has them.

    A part that the file lacks entirely is left as it is; a part that it has must be complete and have the model's
    sizes.

    Args:
        model: A `FantasyTalkingTransformer3DModel` built with audio (`audio_dim` not None).
        path: The adapter file, in any layout.

    Raises:
        CheckpointError: The file is not an adapter, or keys are missing, unexpected or misshapen.
    """
    source = open_adapter(path)
    own = list(model.state_dict())
    if "audio" not in parts_in(own):
        raise CheckpointError(
            f"This {type(model).__name__} was built without audio and cannot take the adapter {path}; "
            "build it with load_transformer(..., adapter=...) or with audio_dim in its config."
        )
    present = parts_in(source.plan)
    check_keys(
        model,
        [source],
        [key for key in own if part_of(key) not in present],
        "check that the adapter belongs to this base model",
    )
    values = dict(model.named_parameters()) | dict(model.named_buffers())
    like = values["audio_projector.proj.weight"]
    fill_model(model, source, like.dtype, like.device)


def adapter_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors of a transformer that belong to the adapter, by their name in the model."""
    state = {key: value for key, value in model.state_dict().items() if part_of(key) is not None}
    if not state:
        raise CheckpointError(
            f"This {type(model).__name__} has no audio, identity or motion weights, so there is no adapter to save; "
            "load a transformer with an adapter, or train one."
        )
    return state


def save_adapter(model: nn.Module, path: str | Path, layout: AdapterLayout = "safetensors") -> Path:
    """Write a transformer's adapter to a file.

    Args:
        model: A `FantasyTalkingTransformer3DModel` with audio.
        path: The file to write; an existing one is replaced once the new one is complete.
        layout: `released`, `safetensors`, `comfyui`, or `model` for the model's own names.

    Returns:
        The path.

    Raises:
        CheckpointError: The layout is unknown, or the model has no adapter.
        OutputError: The file cannot be written.
    """
    return write_adapter(adapter_state(model), path, layout)


def convert_adapter(source: str | Path, target: str | Path, layout: AdapterLayout) -> Path:
    """Convert an adapter file to another layout; types and values stay as they are.

    Args:
        source: The adapter file, in any layout.
        target: The file to write.
        layout: Layout of `target`.

    Returns:
        The path of `target`.

    Raises:
        CheckpointError: The source is not a complete adapter, or the layout is unknown.
        OutputError: The target cannot be written.
    """
    opened = open_adapter(source)
    if opened.unknown:
        raise CheckpointError(
            f"{source} has {len(opened.unknown)} keys that do not belong to an adapter "
            f"({', '.join(opened.unknown[:5])}); give a file that holds the adapter alone."
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
            f"{source.weights.path} is an incomplete adapter: {len(missing)} keys are missing "
            f"({', '.join(missing[:5])}); download or copy the file again."
        )


def write_adapter(state: Mapping[str, torch.Tensor], path: str | Path, layout: str) -> Path:
    """Write the tensors of an adapter to a file.

    Args:
        state: Tensors by their name in the model.
        path: The file to write; an existing one is replaced once the new one is complete.
        layout: Layout of the file, a member of `AdapterLayout`.

    Returns:
        The path.

    Raises:
        CheckpointError: The layout is unknown.
        OutputError: The file cannot be written.
    """
    if layout not in ADAPTER_TABLES:
        raise CheckpointError(
            f"There is no adapter layout {layout!r}; {nearest_name(layout, get_args(AdapterLayout), 'layouts')}"
        )
    table = ADAPTER_TABLES[layout]
    named: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        piece = table.backward(key)
        assert piece is not None, f"{layout} has no name for {key}"
        named[piece.source] = value.detach().to("cpu").contiguous()
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, overwrite=True) as temporary:
            if layout == "released":
                torch.save(_nested(named), temporary)
            else:
                save_file(named, temporary, metadata={"format": "pt"})
    except (OSError, RuntimeError, SafetensorError) as error:
        raise OutputError(f"{path} cannot be written ({error}); choose a writable folder with enough space.") from error
    return path


def _nested(named: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    content: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in named.items():
        head = next(head for head in _HEAD_KEYS if key.startswith(head + "."))
        content.setdefault(head, {})[key[len(head) + 1 :]] = value.clone()
    return content
