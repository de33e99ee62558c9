"""A memory plan: what is stored in which type, where it waits, what is kept over the steps, and how the clip is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from fantasytalking.geometry import NATIVE_FPS, Strides
from fantasytalking.system.records import field, record

__all__ = ["GIB", "Clip", "MemoryPlan"]

GIB = 2**30

Dtype = Literal["bfloat16", "float16", "float32"]
Offload = Literal["none", "model", "groups", "disk"]


@record
class MemoryPlan:
    """Choices of a run about memory, each of which can be given by itself.

    Raises:
        SettingsError: A name that is none of those accepted.
    """

    name: Annotated[Literal["high", "balanced", "low", "minimal"], field("Name of the plan.")] = "high"
    dtype: Annotated[Dtype, field("Type in which the transformer and the text encoder compute.")] = "bfloat16"
    quantize: Annotated[
        Literal["none", "fp8"],
        field(
            "Type in which the transformer's large layers are stored: fp8 halves them, and changes the video a little."
        ),
    ] = "none"
    offload: Annotated[
        Offload,
        field(
            "What waits off the device until it is needed: none; whole models in host memory; groups, which are streamed block by block "
            "from host memory while the one before computes; or disk, the same from the mapped files."
        ),
    ] = "none"
    batch_passes: Annotated[
        Literal["on", "off"],
        field("Whether the guidance passes of a step run as one batch: faster, but needs more memory."),
    ] = "on"
    vae_tiling: Annotated[
        bool, field("Whether frames are encoded and decoded in tiles: less memory, slower, and seams are possible.")
    ] = False
    reuse_conditions: Annotated[
        Literal["on", "off"],
        field("Whether keys and values of prompt, portrait and speech are kept over the steps: exact and faster."),
    ] = "on"
    cache: Annotated[str, field("Step cache, a value of the setting of that name, or none.")] = "none"

    @property
    def torch_dtype(self) -> torch.dtype:
        """Type in which the transformer and the text encoder compute."""
        return getattr(torch, self.dtype)  # type: ignore[no-any-return]

    @property
    def quantised(self) -> bool:
        """Whether the transformer's large layers take one byte a number."""
        return self.quantize == "fp8"

    def describe(self) -> dict[str, str]:
        """The choices in words, by what they are about."""
        stored = "float8 with scales, each layer widened for its call" if self.quantised else self.dtype
        places = {
            "none": "all parts stay on the device",
            "model": "whole models wait in host memory",
            "groups": "blocks wait in host memory and are streamed while others compute",
            "disk": "blocks are read from the mapped files and streamed while others compute",
        }
        return {
            "transformer": stored,
            "text encoder": self.dtype,
            "VAE, image and audio encoder": "float32",
            "offload": places[self.offload],
            "guidance passes": "one batch" if self.batch_passes == "on" else "one after another",
            "VAE": "in tiles" if self.vae_tiling else "whole frames",
            "keys and values": "kept over the steps" if self.reuse_conditions == "on" else "computed on each step",
        }


@dataclass(frozen=True)
class Clip:
    """What is generated, as far as memory depends on it.

    Attributes:
        frames: Video frames, a multiple of 4 plus 1.
        height: Pixels.
        width: Pixels.
        passes: Guidance passes of a step with the most.
        fps: Frames per second.
        audio_tokens: Features of the speech.
    """

    frames: int
    height: int
    width: int
    passes: int = 2
    fps: float = NATIVE_FPS
    audio_tokens: int = 176

    def tokens(self, canvas: tuple[int, int] | None = None) -> int:
        """Tokens of the transformer, for latents of h x w, or None: of the picture's size."""
        strides = Strides()
        sides = canvas or (-(-self.height // strides.height), -(-self.width // strides.width))
        rows, columns = (-(-side // patch) for side, patch in zip(sides, strides.patch[1:], strict=True))
        return strides.latent_frames(self.frames) * rows * columns

    @property
    def video_bytes(self) -> int:
        """The video in float32."""
        return self.frames * self.height * self.width * 3 * 4
