"""Export of a run, finished or at its newest checkpoint, to every layout in which such weights are published.

The averaged weights are written tensor by tensor: the backbone is never whole in memory, and LoRA is merged into one weight at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from fantasytalking.checkpoints.adapter_layouts import AdapterLayout, part_of, write_adapter
from fantasytalking.checkpoints.fill_model import Source, expected_shapes, final_dtype
from fantasytalking.checkpoints.load_models import Planned, plan_transformer
from fantasytalking.checkpoints.model_card import CARD, write_model_card
from fantasytalking.checkpoints.wan_layouts import TRANSFORMER_ORIGINAL
from fantasytalking.checkpoints.weights_writer import MAX_SHARD_BYTES, Entry, write_checkpoint
from fantasytalking.errors import CheckpointError, OutputError, SettingsError
from fantasytalking.pipeline.model_folder import LIBRARY, TRANSFORMER
from fantasytalking.pipeline.model_names import INDEX
from fantasytalking.system.files import atomic_folder
from fantasytalking.system.records import nearest_name
from fantasytalking.training.adapter.run_description import DESCRIPTION, RUN, base_checksum, read_description
from fantasytalking.training.lora import plain_names, save_lora
from fantasytalking.training.motion_percentiles import PERCENTILES, write_percentiles
from fantasytalking.training.trainer.run_folder import RunFolder
from fantasytalking.training.trainer.stored_checkpoint import load_ema

__all__ = ["ExportLayout", "Exported", "export_run"]

ExportLayout = Literal["pipeline", "transformer", "wan-original", "released", "safetensors", "comfyui", "model", "lora"]
ADAPTER_LAYOUTS = get_args(AdapterLayout)
_STEM = "diffusion_pytorch_model"


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        path: File or folder that was written.
        notes: One sentence for each part of the run that the layout cannot hold.
    """

    path: Path
    notes: tuple[str, ...] = ()


def export_run(
    run: Path,
    target: Path,
    layout: ExportLayout,
    *,
    base: Path | None = None,
    pipeline: Path | None = None,
    dtype: torch.dtype = torch.bfloat16,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda line: None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Exported:
    """Write the averaged weights of a run's newest checkpoint in a layout.

    Args:
        run: Output folder of `train_adapter`, or of `train_embedded` for the layouts pipeline and transformer.
        target: File of an adapter layout, or folder of any other layout.
        layout: pipeline (model folder), transformer (only its transformer, in the layout of diffusers), wan-original (the backbone under
            Wan's own names, LoRA merged), released, safetensors, comfyui (the audio part as published), model (all trained parts), lora
            (as `load_lora_weights` reads it). LoRA is merged in pipeline and transformer.
        base: Present location of the run's base model, if it was moved.
        pipeline: Pipeline folder that provides VAE and encoders, for a base that is only a transformer; None takes the base.
        dtype: Type of the weights; norms and the time embedding of whole transformers stay in float32.
        overwrite: Whether to replace an existing target.
        report: Called with one line per part.
        max_shard_bytes: Maximum file size for a whole transformer.

    Raises:
        CheckpointError: There is no run or no complete checkpoint, or the base is not the one that was trained on.
        SettingsError: The layout cannot hold any part of this run.
        OutputError: The target exists or cannot be written.
    """
    if layout not in get_args(ExportLayout):
        raise SettingsError(f"There is no layout '{layout}'; {nearest_name(layout, get_args(ExportLayout), 'layouts')}")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already; give another name, or --overwrite.")
    if not (run / DESCRIPTION).is_file():
        return Exported(_export_embedded(run, target, layout))
    trained = _read(run, base)
    if layout == "lora":
        return Exported(_whole(target, partial(_write_lora, trained, dtype=dtype)))
    if layout in ADAPTER_LAYOUTS:
        return _write_adapter(trained, target, cast(AdapterLayout, layout), dtype)
    write = partial(_write_transformer, trained, dtype=dtype, max_shard_bytes=max_shard_bytes)
    if layout == "transformer":
        return Exported(_whole(target, write))
    if layout == "wan-original":
        return Exported(
            _whole(target, partial(_write_original, trained, dtype=dtype, max_shard_bytes=max_shard_bytes)),
            trained.notes(),
        )
    parts = pipeline or trained.base
    return Exported(_whole(target, partial(_write_pipeline, trained, parts=parts, write=write, report=report)))


@dataclass(frozen=True)
class _Trained:
    """Averaged weights of a run, with its description and base."""

    run: Path
    base: Path
    description: dict[str, Any]
    values: dict[str, Tensor]

    @property
    def adapter(self) -> dict[str, Tensor]:
        return {key: value for key, value in self.values.items() if part_of(key) is not None}

    @property
    def lora(self) -> dict[str, Tensor]:
        return plain_names(self.values)

    def notes(self) -> tuple[str, ...]:
        return ("The adapter is not in these files; export it too, with --layout model.",)

    def delta(self, key: str) -> Tensor | None:
        """Change that LoRA makes to a weight of the backbone, float32: alpha / r * B A; None if it has no LoRA."""
        stem = key.removesuffix(".weight")
        down, up = (self.lora.get(f"{stem}.lora_{side}.weight") for side in "AB")
        if down is None or up is None:
            return None
        settings = self.description["lora"]
        result: Tensor | None = settings["alpha"] / settings["rank"] * up.float() @ down.float()
        return result


def _read(run: Path, base: Path | None) -> _Trained:
    description = read_description(run)
    place = Path(description["base"]) if base is None else base
    return _Trained(run, place, description, load_ema(RunFolder(run / RUN)))


def _plan(trained: _Trained) -> Planned:
    """Plan the base's transformer with the run's parts, without reading its weights."""
    if not trained.base.exists():
        raise CheckpointError(
            f"The base model {trained.base} of the run is not there any more; say where it is with --base."
        )
    planned = plan_transformer(trained.base, config=trained.description["model"])
    if base_checksum(planned.sources[0]) != trained.description["base_checksum"]:
        raise CheckpointError(
            f"{trained.base} is not the model that {trained.run} was trained on; give that one with --base."
        )
    return planned


def _entries(trained: _Trained, planned: Planned, dtype: torch.dtype) -> list[Entry]:
    """Entries for all tensors of the trained transformer."""
    source, shapes = planned.sources[0], expected_shapes(planned.model)
    missing = [key for key in shapes if key not in source.plan and key not in trained.values]
    if missing:
        raise CheckpointError(
            f"The checkpoint of {trained.run} has no values for {', '.join(missing[:5])}; train again into another --output."
        )

    def entry(key: str) -> Entry:
        kind = final_dtype(planned.model, key, torch.float32, dtype)
        return Entry(key, shapes[key], kind, partial(_value, trained, source, key))

    order = [*(key for key in source.ordered() if key in shapes), *(key for key in shapes if key not in source.plan)]
    return [entry(key) for key in order]


def _value(trained: _Trained, source: Source, key: str) -> Tensor:
    if key in trained.values:
        return trained.values[key]
    stored, added = source.get(key), trained.delta(key)
    return stored if added is None else stored.float() + added


def _write_transformer(trained: _Trained, folder: Path, dtype: torch.dtype, max_shard_bytes: int) -> None:
    planned = _plan(trained)
    planned.model.save_config(folder)
    write_checkpoint(folder, _STEM, _entries(trained, planned, dtype), max_shard_bytes)
    planned.sources[0].weights.release()


def _write_original(trained: _Trained, folder: Path, dtype: torch.dtype, max_shard_bytes: int) -> None:
    if not trained.lora:
        raise SettingsError(
            "The run trained no LoRA, so its backbone is Wan's own and needs no export; export the adapter (--layout released, model)."
        )
    planned, entries = _plan(trained), []
    for entry in _entries(trained, planned, dtype):
        piece = TRANSFORMER_ORIGINAL.backward(entry.name)
        if piece is not None:
            assert piece.parts == 1 and not piece.leading_ones, "the transformer's table renames only"
            entries.append(entry._replace(name=piece.source))
    write_checkpoint(folder, _STEM, entries, max_shard_bytes)
    planned.sources[0].weights.release()


def _write_adapter(trained: _Trained, target: Path, layout: AdapterLayout, dtype: torch.dtype) -> Exported:
    state = {key: value.to(dtype) for key, value in trained.adapter.items()}
    notes = []
    if layout != "model":
        others = sorted({str(part_of(key)) for key in state} - {"audio"})
        state = {key: value for key, value in state.items() if part_of(key) == "audio"}
        if others:
            notes.append(
                f"The layout {layout} holds the audio part alone; {', '.join(others)} are left out (--layout model has them)."
            )
    if trained.lora:
        notes.append("LoRA is not in this file; export it too, with --layout lora.")
    return Exported(write_adapter(state, target, layout), tuple(notes))


def _write_lora(trained: _Trained, folder: Path, dtype: torch.dtype) -> None:
    if not trained.lora:
        raise SettingsError(
            "The run trained no LoRA; its adapter is exported with --layout model, released, safetensors or comfyui."
        )
    from peft import LoraConfig

    settings = trained.description["lora"]
    config = LoraConfig(r=settings["rank"], lora_alpha=settings["alpha"], target_modules=list(settings["targets"]))
    layers = {key: value.to(dtype).contiguous() for key, value in trained.lora.items()}
    save_lora(
        folder,
        layers,
        {
            **config.to_dict(),  # type: ignore[no-untyped-call]
            "target_modules": sorted(settings["targets"]),
        },
    )


def _write_pipeline(
    trained: _Trained, folder: Path, parts: Path, write: Callable[[Path], None], report: Callable[[str], None]
) -> None:
    index = parts / INDEX
    if not index.is_file() or "audio_encoder" not in json.loads(index.read_text(encoding="utf-8")):
        raise CheckpointError(
            f"{parts} is no pipeline folder with a speech encoder, so VAE and encoders are missing; name one with --pipeline "
            "('fantasytalking convert' makes it), or export the transformer alone."
        )
    for part in sorted(parts.iterdir()):
        # The base's card says what is true of the base.
        if part.name in ("transformer", PERCENTILES, CARD) or part.name.startswith("."):
            continue
        report(part.name)
        if part.is_dir():
            shutil.copytree(part, folder / part.name)
        else:
            shutil.copyfile(part, folder / part.name)
    report("transformer")
    write(folder / "transformer")
    if trained.description["percentiles"]:
        write_percentiles(folder, trained.description["percentiles"])
    content: Mapping[str, Any] = json.loads(index.read_text(encoding="utf-8"))
    text = json.dumps(
        {**content, "_class_name": "FantasyTalkingPipeline", "transformer": [LIBRARY, TRANSFORMER]},
        indent=2,
        sort_keys=True,
    )
    (folder / INDEX).write_text(text + "\n", encoding="utf-8")
    write_model_card(folder, [f"Trained on top of the model `{trained.base.name}` with `fantasytalking train`."])


def _export_embedded(run: Path, target: Path, layout: str) -> Path:
    """Copy the model folder that a run of the embedded model wrote, or its transformer."""
    model = run / "model"
    if not (model / INDEX).is_file():
        raise CheckpointError(
            f"{run} holds no finished run; give the --output folder of a 'fantasytalking train' run, and let that "
            "finish first if it was stopped."
        )
    if layout not in ("pipeline", "transformer"):
        raise SettingsError(
            f"The embedded model is trained whole, so it has no {layout} layout; export it with --layout pipeline or transformer."
        )
    source = model if layout == "pipeline" else model / "transformer"

    def write(folder: Path) -> None:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        if layout == "pipeline":
            write_model_card(folder, ["Trained from scratch with `fantasytalking train`."])

    return _whole(target, write)


def _whole(target: Path, write: Callable[[Path], object]) -> Path:
    """Write a folder under a temporary name, then swap it in."""
    try:
        with atomic_folder(target) as temporary:
            write(temporary)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written ({error}); choose a writable folder with enough space."
        ) from error
    return target
