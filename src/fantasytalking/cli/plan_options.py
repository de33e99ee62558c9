"""Options about memory and speed, which `generate` follows and `info --plan` explains; and the plan that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fantasytalking.errors import SettingsError

if TYPE_CHECKING:
    from fantasytalking.acceleration.apply_plan import SpeedOptions

__all__ = ["MemoryOptions", "ProfileOptions", "overrides_of", "parse_loras", "speed_of"]


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
    """exact computes every step as released; balanced skips what changes little; fast does so, too, and compiles; turbo takes few steps without
    guidance, as --lora was distilled for: its folder or its name says how many."""
    attention: str | None = None
    """Attention back-end of diffusers, such as native, flash, sage or xformers; the package that it needs must be installed."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the transformer's blocks are compiled on a CUDA device: the first step takes longer, the others are faster."""
    lora: tuple[str, ...] = ()
    """LoRA weights, FILE or FILE=WEIGHT; several are added up."""
    scheduler: Literal["auto", "euler", "lcm", "unipc", "dpm++"] = "auto"
    """Solver of the sampling; auto is the model's own."""


def overrides_of(options: MemoryOptions, dtype: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a memory plan that the options give.

    Args:
        options: Options of the command.
        dtype: Type of transformer and text encoder.
        settings: Settings of the call by name; uses the batching of passes.
    """
    given: dict[str, Any] = {"dtype": dtype}
    if options.quantize != "none":
        given["quantize"] = options.quantize
    if options.offload != "auto":
        given["offload"] = options.offload
    if options.vae_tiling != "auto":
        given["vae_tiling"] = options.vae_tiling == "on"
    if settings.get("batch_passes", "auto") != "auto":
        given["batch_passes"] = settings["batch_passes"]
    return given


def parse_loras(texts: tuple[str, ...]) -> tuple[tuple[Path, float], ...]:
    """LoRA files and their weights.

    Args:
        texts: FILE or FILE=WEIGHT.

    Raises:
        SettingsError: A weight is no number.
    """
    found = []
    for text in texts:
        path, sign, weight = text.rpartition("=")
        # A file's name may hold "=" itself.
        if not sign or Path(text).is_file():
            path, weight = text, "1"
        try:
            found.append((Path(path), float(weight)))
        except ValueError:
            raise SettingsError(
                f"--lora takes FILE or FILE=WEIGHT, where the weight is a number such as 0.8, but {text!r} was given."
            ) from None
    return tuple(found)


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
