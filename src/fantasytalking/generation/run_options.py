"""Where and how a generation runs, with which memory and how fast: the options of `generate`, which `info --plan` explains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.pipeline.progress import quiet_frameworks
from fantasytalking.provenance.signing_identity import CERTIFICATE_VARIABLE, KEY_VARIABLE, signing_identity
from fantasytalking.system.startup import check_device, importing_frameworks

if TYPE_CHECKING:
    from fantasytalking.acceleration.apply_plan import SpeedOptions
    from fantasytalking.acceleration.memory_plan import MemoryPlan
    from fantasytalking.pipeline.settings import GenerationSettings

__all__ = [
    "MemoryOptions",
    "ProfileOptions",
    "RunOptions",
    "check_device_options",
    "check_weights_options",
    "left_out",
    "lora_files",
    "overrides_of",
    "parse_loras",
    "speed_of",
    "use_signing_options",
]


@dataclass(frozen=True)
class RunOptions:
    """How and where the command runs."""

    overwrite: bool = False
    """Replace the output if it exists."""
    json: bool = False
    """Print one JSON object instead of the output path, for programs."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights: auto is bfloat16 on an accelerator, float32 on a CPU."""
    transformer: Path | None = None
    """File or folder of Wan's weights to use in place of the model's, which keeps its adapter: safetensors, GGUF, fp8 as ComfyUI's tools
    write it, or a folder quantised by torchao."""
    adapter: Path | None = None
    """With --transformer: the adapter to lay on it in place of the model's."""
    signing_certificate: Path | None = None
    """Certificate chain, PEM, that signs the manifest of the video in place of this user's own: an organisation's."""
    signing_key: Path | None = None
    """With --signing-certificate: its private key, PEM."""
    speech_encoder: str | None = None
    """Folder or hub repository of a wav2vec2 network that hears the speech in place of the model's, such as one of other languages: of the
    same shape, as safetensors. The model was not trained with it."""
    threads: int | None = None
    """CPU threads of each part: networks, OpenCV, video encoder. By default as many as are of use, in a small model one, so that several
    commands share a machine well; OMP_NUM_THREADS is respected."""


@dataclass(frozen=True)
class MemoryOptions:
    """What is stored in which type, and where it waits."""

    memory: Literal["auto", "high", "balanced", "low", "minimal"] = "auto"
    """How much memory the run may take: high keeps all parts on the device, balanced lets whole models wait in main memory, low streams the
    transformer block by block from there, minimal from its files. auto is the fastest of them that is expected to fit;
    'fantasytalking info --plan' shows it."""
    quantize: Literal["none", "fp8"] = "none"
    """Store the transformer's large layers in fewer bits: fp8 halves them, and changes the video a little."""
    offload: Literal["auto", "none", "model", "groups", "disk"] = "auto"
    """What waits off the device, instead of what --memory says: none, model (whole models), groups (blocks, in main memory) or disk
    (blocks, in the files)."""
    vae_tiling: Annotated[Literal["auto", "on", "off"], tyro.conf.arg(name="vae-tiling")] = "auto"
    """Whether frames are encoded and decoded in tiles: needs less memory, is slower, and seams are possible."""


@dataclass(frozen=True)
class ProfileOptions:
    """How exact and how fast."""

    profile: Literal["exact", "balanced", "fast", "turbo"] = "exact"
    """exact computes every step as released; balanced skips what changes little; fast does so, too, and compiles; turbo takes few steps
    without guidance, as --lora was distilled for: its folder or its name says how many."""
    attention: str | None = None
    """Attention back-end of diffusers, such as native, flash, sage or xformers; the package that it needs must be installed."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the transformer's blocks are compiled on a CUDA device: the first step takes longer, the others are faster."""
    lora: tuple[str, ...] = ()
    """LoRA weights, FILE or FILE=WEIGHT; several are added up."""
    scheduler: Literal["auto", "euler", "lcm", "unipc", "dpm++"] = "auto"
    """Solver of the sampling; auto is the model's own."""


def overrides_of(options: MemoryOptions, dtype: str, settings: GenerationSettings) -> dict[str, Any]:
    """Fields of a memory plan that a command gives.

    Args:
        options: Options of the command.
        dtype: Type of transformer and text encoder, or `auto`.
        settings: Settings of the call.
    """
    from fantasytalking.pipeline.plan_run import overrides_of_settings

    given = overrides_of_settings(settings)
    if dtype != "auto":
        given["dtype"] = dtype
    if options.quantize != "none":
        given["quantize"] = options.quantize
    if options.offload != "auto":
        given["offload"] = options.offload
    if options.vae_tiling != "auto":
        given["vae_tiling"] = options.vae_tiling == "on"
    return given


def left_out(plan: MemoryPlan, given: Mapping[str, Any]) -> list[str]:
    """What a plan does without for want of memory, a sentence each.

    Args:
        plan: The plan.
        given: Fields of a plan that the command gives.
    """
    notes = []
    if plan.cache != given.get("cache", "none"):
        notes.append(
            f"The step cache {given['cache']} is left out, as there is too little memory for what it remembers; every step is computed."
        )
    # The plan that takes least does without them anyway.
    if plan.reuse_conditions == "off" and "reuse_conditions" not in given and plan.name != "minimal":
        notes.append(
            "Keys and values of prompt, portrait and speech are computed on each step, as there is too little memory to keep them."
        )
    return notes


def parse_loras(texts: tuple[str, ...]) -> tuple[tuple[Path, float], ...]:
    """LoRA files and their weights.

    Args:
        texts: FILE or FILE=WEIGHT.

    Raises:
        SettingsError: A weight is no number.
        CheckpointError: A file is missing.
    """
    found = []
    for text in texts:
        path, sign, weight = text.rpartition("=")
        # A file's name may hold "=" itself.
        if not sign or Path(text).is_file():
            path, weight = text, "1"
        try:
            number = float(weight)
        except ValueError:
            raise SettingsError(
                f"--lora takes FILE or FILE=WEIGHT, where the weight is a number such as 0.8, but {text!r} was given."
            ) from None
        if not Path(path).is_file():
            raise CheckpointError(f"There is no LoRA file '{path}'; check the path.")
        found.append((Path(path), number))
    return tuple(found)


def lora_files(texts: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of `parse_loras` without their weights."""
    return tuple(path for path, _ in parse_loras(texts))


def speed_of(
    options: ProfileOptions, compile_by_profile: bool, scheduler_by_profile: str | None = None
) -> SpeedOptions:
    """Single choices about speed, after the profile's."""
    from fantasytalking.acceleration.apply_plan import SpeedOptions

    return SpeedOptions(
        options.attention,
        compile_by_profile if options.compile == "auto" else options.compile == "on",
        parse_loras(options.lora),
        scheduler_by_profile if options.scheduler == "auto" else options.scheduler,
    )


def check_weights_options(transformer: Path | None, adapter: Path | None) -> None:
    """Check that the weights named by options exist, before anything is loaded.

    Raises:
        CheckpointError: There are none, or an adapter was given without a transformer.
    """
    if adapter is not None and transformer is None:
        raise CheckpointError("--adapter goes with --transformer, the weights that it is laid on; give both.")
    for option, path in (("--transformer", transformer), ("--adapter", adapter)):
        if path is not None and not path.expanduser().exists():
            raise CheckpointError(
                f"There are no weights at {option} {path}; give a .safetensors, .gguf or torch file, or a folder that holds one."
            )


def check_device_options(run: RunOptions, speed: ProfileOptions) -> None:
    """Check that the device is there, and that it and the installed packages can do what options ask for, before anything is loaded.

    Raises:
        SettingsError: There is no such device or attention back-end, the back-end cannot be used, or a LoRA has no number as its weight.
        CheckpointError: A LoRA file is missing.
        MissingDependencyError: The package for LoRA is not installed.
    """
    if parse_loras(speed.lora):
        from fantasytalking.acceleration.few_step_lora import require_peft

        require_peft()
    check_device(run.device)
    if speed.attention is None:
        return
    with importing_frameworks():
        quiet_frameworks()
        import torch

        from fantasytalking.acceleration.attention_backends import check_attention
        from fantasytalking.pipeline.plan_run import dtype_name
        from fantasytalking.system.machine import choose_device
    place = choose_device(run.device)
    check_attention(speed.attention, place, getattr(torch, dtype_name(run.dtype, place)))


def use_signing_options(run: RunOptions) -> None:
    """Make the options about signing those of this process and of all that it starts, and check them.

    Raises:
        SettingsError: Certificate and key cannot be used.
    """
    if run.signing_certificate is None and run.signing_key is None:
        return
    given = {CERTIFICATE_VARIABLE: run.signing_certificate, KEY_VARIABLE: run.signing_key}
    os.environ.update({name: str(path.expanduser().absolute()) for name, path in given.items() if path is not None})
    signing_identity()
