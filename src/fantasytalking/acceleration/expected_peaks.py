"""The memory that a clip is expected to take by a plan, on the device and in main memory, from shapes alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fantasytalking.acceleration.kept_memory import TEXT_TOKENS, kept_bytes
from fantasytalking.acceleration.memory_plan import GIB, Clip, MemoryPlan
from fantasytalking.acceleration.part_sizes import RELEASED_CHANNELS, ModelSizes

__all__ = ["Peaks", "expected_peaks"]

TOKEN_BYTES = 11.1
"""Bytes that a block holds at its peak for each token and unit of width, for each byte of the type. Traced over the tensors that are
alive in one call of the 14B model without values (22.1 in bfloat16 at 11,264 and at 75,600 tokens)."""
ENCODER_BYTES, DECODER_BYTES = 19_700, 20_450
"""The same for each pixel of a frame in Wan's VAE in float32, for any number of frames. The encoder's contain what its layers remember of
the chunk before, see `autoencoder.repeated_chunks`."""
TILE_ROWS = 256
TILE_PIXELS = TILE_ROWS * TILE_ROWS
WORKSPACE = 1.15
"""What the allocator's gaps and the convolutions' workspaces add to activations."""
COMPRESSION, LATENT_COPIES = 48, 8
"""How much smaller latents are than the video, and how many copies of them, each in float32, a step holds with their mask and portrait."""
VIDEO_COPIES = 4
"""Copies of the video in float32 while it is decoded, clamped and turned into bytes."""
TEXT_MATRICES = 3
"""Matrices of attention of all heads of umT5, in float32, that are there at once."""
LIBRARIES, CONTEXT = int(0.33 * GIB), int(1.1 * GIB)
"""Host memory of Python, PyTorch and diffusers (measured), and of a device's context with its libraries (estimated)."""
UNFOLDED = 20_480
"""Channels times frames times rows up to which PyTorch convolves on a CPU by a matrix product over the unfolded input, 27 copies of it, and
above which oneDNN does, which takes next to nothing besides (`use_mkldnn` in ATen's Convolution.cpp)."""
COMPUTED = ("transformer", "text_encoder", "lora")
"""Parts that have the type in which the transformer computes."""
BLOCKS_AT_ONCE = 3
"""Blocks on the device with streamed groups: the one that computes, the next, and one whose memory waits for the stream."""


@dataclass(frozen=True)
class Peaks:
    """Expected memory of a run.

    Attributes:
        device: Phase -> bytes on the device.
        host: Bytes in host memory that are the process's own. Pages of mapped files are not: the system can drop them.
    """

    device: Mapping[str, int]
    host: int

    @property
    def device_peak(self) -> int:
        """Bytes on the device in the phase with the most."""
        return max(self.device.values())


def expected_peaks(sizes: ModelSizes, plan: MemoryPlan, clip: Clip, kind: str = "cuda") -> Peaks:
    """Expected memory of generating a clip.

    Args:
        sizes: Sizes of the model's parts.
        plan: The choices.
        clip: What is generated.
        kind: Type of the device. With a CPU, or a Mac's device, which shares its memory, all of it is main memory.
    """
    weights = _weights(sizes, plan)
    resident = _resident(sizes, plan, weights)
    used = {phase: resident[phase] + extra for phase, extra in _activations(sizes, plan, clip).items()}
    if kind != "cuda":
        extra = _activations(sizes, plan, clip)
        if kind == "cpu" and sizes.canvas is None:
            unfolded = _unfolded(sizes, plan, clip)
            extra |= {phase: extra[phase] + unfolded for phase in ("condition", "decoding")}
        # Only a CPU computes with the pages of the files themselves.
        own = _own(sizes, plan, weights) if kind == "cpu" else sum(weights.values())
        host = LIBRARIES + own + max(extra.values()) + clip.video_bytes // 4
        return Peaks(dict.fromkeys(used, 0), host)
    return Peaks(used, _host(sizes, plan, clip, weights))


def _weights(sizes: ModelSizes, plan: MemoryPlan) -> dict[str, int]:
    """Component -> bytes of its weights."""
    return {
        name: part.bytes_in(plan.torch_dtype if name in COMPUTED else torch.float32, plan.quantised)
        for name, part in sizes.parts.items()
    }


def _resident(sizes: ModelSizes, plan: MemoryPlan, weights: Mapping[str, int]) -> dict[str, int]:
    """Phase -> bytes of weights on the device."""
    text, image, audio = (weights.get(f"{name}_encoder", 0) for name in ("text", "image", "audio"))
    vae, transformer, lora = weights["vae"], weights["transformer"], weights.get("lora", 0)
    if plan.offload == "none":
        return dict.fromkeys(("text", "image and speech", "condition", "sampling", "decoding"), sum(weights.values()))
    if plan.offload == "model":
        return {
            "text": text,
            "image and speech": max(image, audio),
            "condition": audio + vae,
            "sampling": transformer + lora + vae,
            "decoding": vae,
        }
    part = sizes.transformer
    blocks = part.blocks * part.block_parameters
    outer = dataclasses.replace(
        part,
        parameters=part.parameters - blocks,
        castable=0,
        precise=min(part.precise, part.parameters - blocks),
        kept=0,
        kept_bytes=0,
    ).bytes_in(plan.torch_dtype)
    block = -(-(transformer - outer + lora) // max(1, part.blocks))
    layers = [
        3 * sizes.parts[name].largest_layer * 4 for name in ("image_encoder", "audio_encoder") if name in sizes.parts
    ]
    # The vocabulary is one layer of the text encoder, and far larger than the others.
    text_layers = sizes.parts["text_encoder"].largest_layer * plan.torch_dtype.itemsize if text else 0
    return {
        "text": vae + text_layers,
        "image and speech": vae + max(layers, default=0),
        "condition": vae,
        "sampling": vae + outer + min(BLOCKS_AT_ONCE, part.blocks) * block,
        "decoding": vae,
    }


def _activations(sizes: ModelSizes, plan: MemoryPlan, clip: Clip) -> dict[str, int]:
    """Phase -> bytes besides the weights."""
    batch = clip.passes if plan.batch_passes == "on" else 1
    sampling = batch * clip.tokens(sizes.canvas) * sizes.width * TOKEN_BYTES * plan.torch_dtype.itemsize
    # A quantised layer is expanded as a whole, and the biggest belongs to the feed-forward network.
    expanded = plan.quantised or sizes.transformer.kept > 0
    sampling += sizes.transformer.largest_layer * plan.torch_dtype.itemsize if expanded else 0
    encode = decode = 0.0
    if sizes.canvas is None:
        sampling += LATENT_COPIES * clip.video_bytes / COMPRESSION
        pixels = clip.height * clip.width
        seen = min(pixels, TILE_PIXELS) if plan.vae_tiling else pixels
        held = VIDEO_COPIES * clip.video_bytes
        encode = ENCODER_BYTES * sizes.vae_share * seen + clip.video_bytes
        decode = max(DECODER_BYTES * sizes.vae_share * seen + (held if plan.vae_tiling else clip.video_bytes), held)
    text = TEXT_MATRICES * sizes.text_heads * TEXT_TOKENS**2 * 4
    return {
        "text": text,
        "image and speech": text,
        "condition": int(WORKSPACE * encode),
        "sampling": int(WORKSPACE * sampling) + kept_bytes(sizes, plan, clip),
        "decoding": int(WORKSPACE * decode),
    }


def _unfolded(sizes: ModelSizes, plan: MemoryPlan, clip: Clip) -> int:
    """Bytes of a chunk of frames that a CPU unfolds in the VAE's first level; 0 at the released width, but for very low pictures."""
    rows, pixels = clip.height, clip.height * clip.width
    if plan.vae_tiling:
        rows, pixels = min(rows, TILE_ROWS), min(pixels, TILE_PIXELS)
    channels, frames, kernel = RELEASED_CHANNELS * sizes.vae_share, 4, 3
    # An input is padded on all sides; the frames of the chunk before pad it in time.
    if channels * (frames + kernel - 1) * (rows + kernel - 1) > UNFOLDED:
        return 0
    return int(kernel**3 * channels * frames * pixels * 4)


def _own(sizes: ModelSizes, plan: MemoryPlan, weights: Mapping[str, int]) -> int:
    """Bytes of weights on a CPU that are no pages of their files: what is stored in another type than it computes in."""
    own = {
        name: size
        for name, size in weights.items()
        if not sizes.parts[name].mapped_in(plan.torch_dtype if name in COMPUTED else torch.float32)
    }
    if plan.quantised and "transformer" not in own:
        own["transformer"] = sizes.transformer.castable
    return sum(own.values())


def _mapped(sizes: ModelSizes, plan: MemoryPlan) -> set[str]:
    """Components whose weights are pages of their files."""
    names = {"text_encoder"} if plan.quantised else {"text_encoder", "transformer"}
    return {name for name in names & sizes.parts.keys() if sizes.parts[name].mapped_in(plan.torch_dtype)}


def _host(sizes: ModelSizes, plan: MemoryPlan, clip: Clip, weights: Mapping[str, int]) -> int:
    """Bytes of host memory with an accelerator."""
    large = {"transformer", "text_encoder"}
    small = sum(size for name, size in weights.items() if name not in large)
    base = LIBRARIES + CONTEXT + small + clip.video_bytes // 4
    if plan.offload == "none":
        # The large parts go to the device tensor by tensor.
        return base
    if plan.offload == "disk":
        part = sizes.transformer
        own = sum(weights[name] for name in large & weights.keys() if name not in _mapped(sizes, plan))
        return base + own + 2 * part.block_parameters * plan.torch_dtype.itemsize
    # What has been on the device comes back into memory of its own; streamed blocks wait in pinned memory.
    return base + sum(weights.get(name, 0) for name in large)
