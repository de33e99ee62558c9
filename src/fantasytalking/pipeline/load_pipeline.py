"""Loading a model onto a device, with the choices that a command line leaves open."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from fantasytalking.acceleration.apply_plan import SpeedOptions, apply_plan, apply_speed, load_loras
from fantasytalking.acceleration.attention_backends import check_attention
from fantasytalking.acceleration.few_step_lora import require_peft
from fantasytalking.acceleration.memory_plan import GIB, MemoryPlan
from fantasytalking.acceleration.part_sizes import read_sizes
from fantasytalking.acceleration.resolve_plan import Machine, resolve_plan
from fantasytalking.checkpoints import load_text_encoder, load_transformer
from fantasytalking.checkpoints.backbone import load_backbone, quantisation_of
from fantasytalking.checkpoints.component_files import read_config
from fantasytalking.errors import CheckpointError, FantasyTalkingError, SettingsError
from fantasytalking.pipeline.model_folder import check_folder
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.other_speech_encoder import load_speech_encoder
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.plan_run import dtype_name, longest_clip
from fantasytalking.system.heap import return_large_blocks
from fantasytalking.system.machine import choose_device
from fantasytalking.system.processes import choose_one_thread, set_threads

__all__ = ["DtypeName", "load_pipeline", "local_folder", "use_threads"]

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

# Small networks whose precision is visible in the result; they stay in float32 whatever type the transformer has.
_PRECISE = ("vae", "audio_encoder", "image_encoder")

_NARROW = 1024
"""Width of a transformer below which a second thread is of no use: at width 192 two take as long as one, and more of both cores."""

_LARGE = GIB
"""Bytes of a transformer from which on it is read tensor by tensor, so that main memory never holds it twice."""


def load_pipeline(
    name: str,
    device: str = "auto",
    dtype: DtypeName = "auto",
    plan: MemoryPlan | None = None,
    speed: SpeedOptions | None = None,
    transformer: str | os.PathLike[str] | None = None,
    adapter: str | os.PathLike[str] | None = None,
    speech_encoder: str | os.PathLike[str] | None = None,
) -> FantasyTalkingPipeline:
    """Load a model onto a device; if it does not fit, its parts wait in main memory or in their files until they are needed.

    Args:
        name: `embedded`, a model folder, or a hub repository as owner/name.
        device: `auto` or a torch device.
        dtype: Type of the transformer and the text encoder; `auto` is bfloat16 on an accelerator, float32 on a
            CPU. A plan has its own.
        plan: What is stored and where it waits; None: the fastest way that fits the model's longest clip.
        speed: Attention back-end, compilation, LoRA, scheduler; None: as the model folder has it.
        transformer: File or folder of Wan's weights in place of the model's; the model's adapter is laid on it.
        adapter: Adapter in place of the model's; needs `transformer`.
        speech_encoder: Folder or hub repository of a wav2vec2 network in place of the model's, see `other_speech_encoder`.

    Raises:
        SettingsError: There is no such device, or a choice cannot be followed.
        CheckpointError: There is no such model, or its folder is incomplete or does not fit.
        OutOfMemory: No plan fits.
    """
    place, speed = choose_device(device), speed or SpeedOptions()
    if speed.attention is not None:
        check_attention(speed.attention, place, getattr(torch, dtype_name(dtype, place)))
    if speed.loras:
        require_peft()
    backbone = _Backbone(*(None if path is None else Path(path) for path in (transformer, adapter)))
    folder = local_folder(name, backbone.transformer)
    if plan is None:
        plan = _default_plan(folder, place, dtype, backbone, [path for path, _ in speed.loras])
    if isinstance(folder, Path):
        check_folder(folder)
    heard = {} if speech_encoder is None else load_speech_encoder(speech_encoder, Path(folder))
    parts = heard | _large_parts(folder, plan, place, backbone)
    pipeline = FantasyTalkingPipeline.from_pretrained(
        name, dtype={"default": plan.torch_dtype, **dict.fromkeys(_PRECISE, torch.float32)}, **parts
    )
    load_loras(pipeline, speed.loras)
    apply_plan(pipeline, plan, place)
    apply_speed(pipeline, speed, place)
    return pipeline


def local_folder(name: str, transformer: Path | None = None) -> str | Path:
    """The folder of a model, downloaded from the hub where it is there; its name on the hub where that fails, which its loader explains.

    Args:
        name: As for `load_pipeline`.
        transformer: Weights that are used in place of the model's.

    Raises:
        CheckpointError: The name is neither a folder nor a possible repository name, or other weights were given for a model on the hub.
    """
    model = resolve_model(name)
    if isinstance(model, Path):
        return model
    if transformer is not None:
        raise CheckpointError(
            f"Another transformer needs a model folder on this machine, and '{name}' is on the hub; download it first."
        )
    try:
        return Path(FantasyTalkingPipeline.download(model, use_safetensors=True))
    except Exception:
        # The hub's client and diffusers raise errors of many kinds.
        return model


class _Backbone(NamedTuple):
    """Weights in place of a model's own."""

    transformer: Path | None = None
    adapter: Path | None = None


def _default_plan(
    folder: str | Path, place: torch.device, dtype: DtypeName, backbone: _Backbone, loras: Sequence[Path]
) -> MemoryPlan:
    choices: dict[str, Any] = {} if dtype == "auto" else {"dtype": dtype}
    try:
        sizes = read_sizes(Path(folder), *backbone, loras)
    except FantasyTalkingError:
        # Its loader says what is wrong with the folder or the weights.
        return MemoryPlan(dtype=dtype_name(dtype, place))  # type: ignore[arg-type]
    folder = Path(folder)
    return resolve_plan(sizes, longest_clip(folder), Machine.of(place), overrides=choices).plan


def _large_parts(folder: str | Path, plan: MemoryPlan, place: torch.device, backbone: _Backbone) -> dict[str, Any]:
    """Transformer and text encoder, read tensor by tensor: to the device at once, or mapped from their files."""
    if isinstance(folder, str):
        return {}
    target = place if plan.offload == "none" else torch.device("cpu")
    stored = torch.float8_e4m3fn if plan.quantised else plan.torch_dtype
    parts: dict[str, Any] = {}
    try:
        large = read_sizes(folder, *backbone).transformer.bytes_in(plan.torch_dtype) > _LARGE
    except FantasyTalkingError:
        # What is wrong is told by the readers below, or by `from_pretrained`.
        large = None
    if large:
        return_large_blocks()
    if backbone.transformer is not None:
        parts["transformer"] = load_backbone(backbone.transformer, folder, stored, target, backbone.adapter)
    if large is None or not (large or plan.quantised or plan.offload == "disk"):
        return parts
    method = quantisation_of(folder / "transformer")
    if method is not None and plan.quantised and not parts:
        raise SettingsError(f"The transformer of '{folder}' is quantised already; do without --quantize.")
    if method is None and not parts:
        # What is quantised is for diffusers to read, as `from_pretrained` does.
        parts["transformer"] = load_transformer(folder, stored, device=target)
    if "UMT5EncoderModel" in read_config(folder / "text_encoder").get("architectures", ()):
        parts["text_encoder"] = load_text_encoder(folder, plan.torch_dtype, device=target)
    return parts


def use_threads(pipeline: FantasyTalkingPipeline, count: int | None = None) -> int:
    """Set the number of threads of PyTorch and OpenCV in this process; the bundled face networks always use one.

    Args:
        pipeline: The model that will run.
        count: Threads of each; None: what `OMP_NUM_THREADS` says, else one for a narrow transformer on a CPU (two while speech is
            encoded), else PyTorch's choice.

    Returns:
        Threads for the video encoder: the same number, or 0 (as many as it likes) where nobody gave one.
    """
    given = torch.get_num_threads() if count is None and os.environ.get("OMP_NUM_THREADS") else count
    if given is not None:
        set_threads(given)
        return given
    config = pipeline.transformer.config
    if pipeline.device.type == "cpu" and config.num_attention_heads * config.attention_head_dim < _NARROW:
        choose_one_thread()
    return 0
