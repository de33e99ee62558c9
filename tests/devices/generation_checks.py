"""What generation must do on a device: the frames of the CPU, by every way through the guidance. Shared by tests/devices and tests/gpu."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import dispatch_model
from diffusers import UniPCMultistepScheduler
from numpy.typing import NDArray

from fantasytalking.acceleration.apply_plan import apply_plan
from fantasytalking.acceleration.memory_plan import MemoryPlan
from fantasytalking.checkpoints import load_backbone
from fantasytalking.data.preparation.clip_latents import LatentEncoder
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import Progress
from tests.checkpoints.backbone_files import write_scaled_fp8
from tests.pipeline.tiny_pipeline import EXAMPLE, embedded_pipeline, portrait, speech, wan_pipeline
from tests.training.latent_set import made_up

__all__ = ["CASES", "CHECKS", "GPU_CHECKS", "generate", "generate_as_on_the_cpu"]

Frames = NDArray[np.uint8]
MODELS: dict[str, Callable[..., FantasyTalkingPipeline]] = {"wan": wan_pipeline, "embedded": embedded_pipeline}
SECONDS = 0.45
EXAMPLE_FILES = (EXAMPLE / "portrait.png", EXAMPLE / "speech.wav")
SHORT: dict[str, Any] = {"steps": 2, "max_seconds": 0.4, "longest_side": 192, "seed": 1}
TOLERANCE, BF16_TOLERANCE = 0.05, 0.15
"""Largest accepted mean differences from the CPU's frames in float32, in levels of 0..255: sums in another order, rounded to whole levels,
differ by less than 0.01; the packaged model in bfloat16 by 0.05, and with another motion intensity or guidance by 0.25 and more."""


class Quiet(Progress):
    """Says nothing of the settings that a model has no part for."""

    def show_note(self, text: str) -> None:
        pass


def guided(prompt: float, audio: float, **more: Any) -> dict[str, Any]:
    return {"prompt_guidance_scale": prompt, "audio_guidance_scale": audio} | more


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "wan, speech alone": ("wan", guided(1, 1)),
    "wan, speech and negative": ("wan", guided(3, 3, batch_passes="on")),
    "wan, speech and negative one by one": ("wan", guided(3, 3, batch_passes="off")),
    "wan, speech and text": ("wan", guided(1, 2, batch_passes="on")),
    "wan, text and negative": ("wan", guided(3, 0, batch_passes="on")),
    "wan, all three": ("wan", guided(3, 2, batch_passes="on")),
    "wan, all three one by one": ("wan", guided(3, 2, batch_passes="off")),
    "wan, passes batched by free memory": ("wan", guided(3, 2, batch_passes="auto")),
    "wan, speech at clip level": ("wan", guided(3, 2, batch_passes="on", audio_level="clip")),
    "wan, speech of another strength at another rate": ("wan", guided(3, 2, audio_scale=0.5, fps=20.0)),
    "embedded, speech alone": ("embedded", guided(1, 1)),
    "embedded, speech and text": ("embedded", guided(1, 2, batch_passes="on", w_face=0.8, w_body=0.2)),
    "embedded, speech and text one by one": ("embedded", guided(1, 2, batch_passes="off", identity_scale=1.0)),
    "embedded, speech at clip level": ("embedded", guided(1, 2, audio_level="clip")),
    "embedded, speech on some of the steps": ("embedded", guided(1, 2, audio_end_percent=50.0)),
}
"""Name -> model and settings; between them every pass runs alone, in a batch, and one after the other."""


@cache
def on_cpu(model: str) -> FantasyTalkingPipeline:
    return MODELS[model]()


def generate(pipeline: FantasyTalkingPipeline, previous: Frames | None = None, **settings: Any) -> Frames:
    """Frames [F, H, W, 3] of the example portrait and a tone."""
    with_prompt: dict[str, Any] = {"prompt": "a woman speaks", "negative_prompt": "blurry", "seed": 5} | settings
    seconds = SECONDS if previous is None else SECONDS + 0.2
    return pipeline(portrait(), speech(seconds), progress=Quiet(), previous=previous, **with_prompt).frames


def close(found: Frames, wanted: Frames, tolerance: float = TOLERANCE) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted.astype(int)).mean() < tolerance


def generate_as_on_the_cpu(device: torch.device, name: str) -> None:
    """One of `CASES`."""
    model, settings = CASES[name]
    close(generate(MODELS[model]().to(device), **settings), generate(on_cpu(model), **settings))


def _continue(device: torch.device, model: str) -> None:
    first = generate(on_cpu(model))
    made, wanted = (generate(p, first, **guided(2, 2)) for p in (MODELS[model]().to(device), on_cpu(model)))
    close(made, wanted)


def _other_scheduler(device: torch.device) -> None:
    """A multistep scheduler keeps velocities of earlier steps."""

    def pipeline() -> FantasyTalkingPipeline:
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
        return wan_pipeline(scheduler=scheduler)

    close(generate(pipeline().to(device), steps=3), generate(pipeline(), steps=3))


def _change_latents(device: torch.device) -> None:
    def louder(pipeline: Any, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]) -> Any:
        assert {t.device for t in (timestep, *tensors.values())} == {pipeline.transformer.device}
        return {"latents": tensors["latents"] * 1.1}

    made, wanted = (
        generate(p, callback_on_step_end=louder, **guided(2, 2)) for p in (wan_pipeline().to(device), on_cpu("wan"))
    )
    close(made, wanted)


def _offload(device: torch.device, model: str, by_layers: bool) -> None:
    """Each part, or each layer, waits on the CPU until it is needed."""
    pipeline = MODELS[model]()
    if by_layers:
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.enable_model_cpu_offload(device=device)
    close(generate(pipeline, **guided(3, 2)), generate(on_cpu(model), **guided(3, 2)))
    by_itself = "meta" if by_layers else "cpu"
    assert pipeline.transformer.device.type == by_itself
    # the embedded model's autoencoder stays whole: its codec computes on the CPU, wherever the rest is
    assert pipeline.vae.device.type == (device.type if by_layers and model == "embedded" else by_itself)


def _order_of_parts(device: torch.device) -> None:
    """With parts that wait on the CPU, encoders have left when the transformer comes, and come once each."""
    pipeline = wan_pipeline()
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    inner = {
        "text_encoder": pipeline.text_encoder.encoder,
        "image_encoder": next(pipeline.image_encoder.children()),
        "audio_encoder": pipeline.audio_encoder.encoder,
        "transformer": pipeline.transformer.blocks[0],
        "vae": pipeline.vae.encoder,
    }
    seen: list[tuple[str, set[str]]] = []

    def take_down(name: str) -> None:
        present = {other for other, part in networks.items() if next(part.parameters()).device.type == device.type}
        if not seen or seen[-1][0] != name:
            seen.append((name, present))

    for name, module in inner.items():
        module.register_forward_pre_hook(lambda *_, name=name: take_down(name))
    pipeline.enable_model_cpu_offload(device=device)
    generate(pipeline, **guided(3, 3))
    assert [name for name, _ in seen] == ["text_encoder", "image_encoder", "audio_encoder", "vae", "transformer"]
    assert dict(seen)["transformer"] == {"transformer", "vae"}
    assert not any(next(part.parameters()).device.type == device.type for part in networks.values())


def _device_map(device: torch.device, model: str, places: dict[str, str | torch.device], main: Any = None) -> None:
    """The transformer's parts in several places, as `from_pretrained(device_map=...)` puts them there.

    Args:
        device: The accelerator.
        model: Name in `MODELS`.
        places: Place of parts by name: the CPU, the accelerator, or "disk"; "" is the place of all others.
        main: Where the model's inputs go; with the CPU, what is there computes there, else it waits there for the accelerator.
    """
    pipeline = MODELS[model]()
    if main is None:
        for name, part in pipeline.components.items():
            if isinstance(part, torch.nn.Module) and name != "transformer":
                part.to(device)
    network = pipeline.transformer
    names = [name for name, _ in network.named_children() if name != "blocks"]
    names += [name for name, _ in network.named_parameters(recurse=False)]
    everything = [*names, *(f"blocks.{i}" for i in range(len(network.blocks)))]
    with tempfile.TemporaryDirectory() as folder:
        places_of_all = {name: places.get(name, places[""]) for name in everything}
        with warnings.catch_warnings():
            # accelerate itself puts parameters into such maps, and then warns of them
            warnings.filterwarnings("ignore", message="The following device_map keys do not match any submodules")
            dispatch_model(network, places_of_all, main_device=main, offload_dir=folder)
        for _ in range(2):
            close(generate(pipeline, **guided(3, 2)), generate(on_cpu(model), **guided(3, 2)))


def _parts_on_two_devices(device: torch.device, first: int) -> None:
    """Every second network on the accelerator, without hooks that move inputs."""
    pipeline = wan_pipeline()
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    for network in networks[first::2]:
        network.to(device)
    close(generate(pipeline, **guided(3, 2)), generate(on_cpu("wan"), **guided(3, 2)))


def _batch(device: torch.device) -> None:
    """Two videos together, with embeddings made on the CPU and a generator of the CPU."""
    wanted = [generate(on_cpu("wan"), seed=seed, **guided(3, 2)) for seed in (3, 4)]
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    text, negative = on_cpu("wan").encode_prompt("a woman speaks", "blurry")
    given = {"generator": generators, "prompt_embeds": text, "negative_prompt_embeds": negative, **guided(3, 2)}
    pipeline = wan_pipeline().to(device)
    videos = pipeline([portrait(), portrait()], speech(SECONDS), progress=Quiet(), **given)
    for video, frames in zip(videos, wanted, strict=True):
        close(video.frames, frames)


def _float8_backbone(device: torch.device) -> None:
    """Weights that stay in 8-bit floats, with scales, beside the adapter in float32."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        on_cpu("wan").save_pretrained(folder / "model")
        file = write_scaled_fp8(on_cpu("wan").transformer, folder / "wan.safetensors")
        made, wanted = (
            wan_pipeline(transformer=load_backbone(file, folder / "model", torch.float32, place)).to(place)
            for place in (device, torch.device("cpu"))
        )
    close(generate(made, **guided(3, 2)), generate(wanted, **guided(3, 2)))


def _packaged(device: torch.device) -> None:
    """The model that comes with the package, at its own sizes."""
    pipeline = FantasyTalkingPipeline.from_pretrained("embedded").to(device)
    close(pipeline(*EXAMPLE_FILES, **SHORT, progress=Quiet()).frames, _packaged_frames())


@cache
def _packaged_frames() -> Frames:
    return FantasyTalkingPipeline.from_pretrained("embedded")(*EXAMPLE_FILES, **SHORT, progress=Quiet()).frames


def _packaged_in_bfloat16(device: torch.device) -> None:
    """As `load_pipeline` loads it for an accelerator: the small networks stay in float32."""
    precise = dict.fromkeys(("vae", "audio_encoder"), torch.float32)
    pipeline = FantasyTalkingPipeline.from_pretrained("embedded", dtype={"default": torch.bfloat16, **precise})
    assert pipeline.transformer.dtype == torch.bfloat16
    close(pipeline.to(device)(*EXAMPLE_FILES, **SHORT, progress=Quiet()).frames, _packaged_frames(), BF16_TOLERANCE)


def _encode_clips(device: torch.device) -> None:
    """Latents of a prepared set, which are computed with the same encoders."""
    clip = made_up(13)
    made, wanted = (clip.encode(LatentEncoder(p, 9, 2)) for p in (wan_pipeline().to(device), on_cpu("wan")))
    assert made.keys() == wanted.keys()
    for name, array in wanted.items():
        assert made[name].device.type == "cpu"
        torch.testing.assert_close(made[name].float(), array.float(), rtol=2e-2, atol=2e-2)


CHECKS: dict[str, Callable[[torch.device], None]] = {
    "wan, a continued video": lambda device: _continue(device, "wan"),
    "embedded, a continued video": lambda device: _continue(device, "embedded"),
    "wan, a multistep scheduler": _other_scheduler,
    "wan, a callback that changes latents": _change_latents,
    "wan, parts offloaded to the CPU": lambda device: _offload(device, "wan", by_layers=False),
    "wan, the order of parts that wait on the CPU": _order_of_parts,
    "wan, layers offloaded to the CPU": lambda device: _offload(device, "wan", by_layers=True),
    "embedded, parts offloaded to the CPU": lambda device: _offload(device, "embedded", by_layers=False),
    "embedded, layers offloaded to the CPU": lambda device: _offload(device, "embedded", by_layers=True),
    "wan, a block on another device": lambda device: _device_map(device, "wan", {"": "cpu", "blocks.1": device}, "cpu"),
    "embedded, all but a block on another device": lambda device: _device_map(
        device, "embedded", {"": device, "blocks.0": "cpu", "patch_embedding": "cpu", "rope": "cpu"}, "cpu"
    ),
    "wan, a block that waits on the CPU": lambda device: _device_map(device, "wan", {"": device, "blocks.1": "cpu"}),
    "embedded, blocks that wait on the CPU and on disk": lambda device: _device_map(
        device, "embedded", {"": device, "blocks.0": "cpu", "blocks.1": "disk"}
    ),
    "wan, every second network on the device": lambda device: _parts_on_two_devices(device, 0),
    "wan, the other networks on the device": lambda device: _parts_on_two_devices(device, 1),
    "the packaged model": _packaged,
    "the packaged model in bfloat16": _packaged_in_bfloat16,
    "latents of a prepared set": _encode_clips,
    "wan, a batch with embeddings and generators": _batch,
    "wan, a backbone in 8-bit floats": _float8_backbone,
}
"""Name -> what else generation does."""


def _streamed(device: torch.device, model: str, offload: Any) -> None:
    """Blocks that wait on the CPU or in files and come while others compute, twice: order is traced at first, then used."""
    pipeline = MODELS[model]()
    apply_plan(pipeline, MemoryPlan(dtype="float32", offload=offload), device)
    for _ in range(2):
        close(generate(pipeline, **guided(3, 2)), generate(on_cpu(model), **guided(3, 2)))
    assert pipeline.transformer.blocks[0].ffn.net[2].weight.device.type == "cpu"


GPU_CHECKS: dict[str, Callable[[torch.device], None]] = {
    "wan, blocks streamed from main memory": lambda device: _streamed(device, "wan", "groups"),
    "wan, blocks streamed from where they are mapped": lambda device: _streamed(device, "wan", "disk"),
    "embedded, blocks streamed from main memory": lambda device: _streamed(device, "embedded", "groups"),
}
"""Name -> what only a real device can do: diffusers gives parameters the data of another device, which the pretended one cannot."""
