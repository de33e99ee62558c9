"""`fantasytalking info`: versions, devices and installed parts, for bug reports and to see what this installation can do; plans."""

from __future__ import annotations

import importlib.util
import json as json_module
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fantasytalking import __version__
from fantasytalking.cli.options import parse
from fantasytalking.cli.show_plan import PlanQuestion, collect_plan, plan_text
from fantasytalking.generation.run_options import MemoryOptions
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.system.machine import installed_version, usable_cores

__all__ = ["collect", "main"]

_PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "huggingface-hub",
    "av",
    "opencv-python-headless",
    "ai-edge-litert",
    "numpy",
    "soxr",
)

# Module -> (extra that installs it, what it enables).
_OPTIONAL = {
    "ray": ("prepare", "preparing data in several processes, on one machine or a cluster"),
    "peft": ("train", "LoRA"),
    "gguf": ("gguf", "Wan backbones as GGUF files"),
    "tensorboard": ("train", "curves of training"),
    "bitsandbytes": ("train", "the 8-bit optimiser"),
    "insightface": ("perception", "the InsightFace backend of face embeddings"),
    "matplotlib": ("eval", "plots of the benchmarks"),
    "pillow_heif": ("heif", "portraits in HEIC, as phones make them"),
    "hibari": ("tts", "speech from text, by a neural voice, in the service"),
}


@dataclass(frozen=True)
class Info:
    """Show versions, devices, installed parts and what they make possible."""

    json: bool = False
    """Print one JSON object, for programs."""
    plan: bool = False
    """Show instead how a model would run: what is stored in which type, what waits where, and the memory that this is expected to take."""
    question: PlanQuestion = field(default_factory=PlanQuestion)
    """With --plan: model, machine and clip."""
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    """With --plan: choices about memory, as for generate."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking info --help`."""
    options = parse(Info, "info", arguments)
    if options.plan:
        facts = collect_plan(options.question, options.memory)
        shown = {name: value for name, value in facts.items() if name != "lines"}
        print(json_module.dumps(shown, indent=2) if options.json else plan_text(facts))
        return 0
    facts = collect()
    print(json_module.dumps(facts, indent=2) if options.json else _text(facts))
    return 0


def collect() -> dict[str, Any]:
    """Collect everything that `info` prints, as plain values for JSON."""
    return {
        "fantasytalking": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed_version(name) for name in _PACKAGES},
        "devices": _devices(),
        "optional": [
            {"module": name, "installed": importlib.util.find_spec(name) is not None, "extra": extra, "enables": what}
            for name, (extra, what) in _OPTIONAL.items()
        ],
        "embedded_model": _embedded_model(),
        "encoders": _encoders(),
        "metrics": _metrics(),
    }


def _devices() -> list[dict[str, Any]]:
    import torch

    name = platform.processor() or platform.machine()
    found: list[dict[str, Any]] = [{"device": "cpu", "name": name, "cores": usable_cores()}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = round(properties.total_memory / 2**30, 1)
        found.append({"device": f"cuda:{index}", "name": properties.name, "memory_gib": memory})
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU"})
    return found


def _embedded_model() -> dict[str, Any]:
    folder = embedded_folder()
    weights = list(folder.rglob("*.safetensors"))
    megabytes = round(sum(path.stat().st_size for path in weights) / 1e6, 1)
    return {"installed": (folder / "model_index.json").is_file(), "megabytes": megabytes}


def _encoders() -> dict[str, bool]:
    from av.codec import codecs_available

    return {name: name in codecs_available for name in ("libx264", "aac")}


def _metrics() -> dict[str, list[str]]:
    """Metric -> parts that its standard implementation lacks; where any is missing, a proxy is measured instead."""
    from fantasytalking.evaluation.metrics.registry import METRICS, lacking

    return {name: lacking(name) for name in METRICS}


def _text(facts: dict[str, Any]) -> str:
    lines = [f"fantasytalking {facts['fantasytalking']} on Python {facts['python']}, {facts['platform']}"]
    lines += ["", "packages"]
    lines += [f"  {name:<24}{version or 'not installed'}" for name, version in facts["packages"].items()]
    lines += ["", "devices"]
    for device in facts["devices"]:
        sizes = [f"{device[key]} {unit}" for key, unit in (("cores", "cores"), ("memory_gib", "GiB")) if key in device]
        lines.append("  " + " ".join([f"{device['device']:<24}{device['name']}", *sizes]))
    lines += ["", "what this enables"]
    model, encoders = facts["embedded_model"], facts["encoders"]
    lines.append(_row(model["installed"], f"the embedded model ({model['megabytes']} MB), without any download"))
    lines.append(_row(all(encoders.values()), "mp4 files with H.264 picture and AAC sound"))
    lines.append(_row(len(facts["devices"]) > 1, "the 14B model at a usable speed (needs a GPU)"))
    for part in facts["optional"]:
        way = "" if part["installed"] else f": pip install 'fantasytalking[{part['extra']}]'"
        lines.append(_row(part["installed"], f"{part['enables']} ({part['module']}){way}"))
    lines += ["", "metrics measured by their standard networks (otherwise by a labelled proxy)"]
    for name, absent in facts["metrics"].items():
        lines.append(_row(not absent, name + (f": there is no {', no '.join(absent)}" if absent else "")))
    return "\n".join(lines)


def _row(works: bool, text: str) -> str:
    return f"  {'yes' if works else 'no':<5}{text}"
