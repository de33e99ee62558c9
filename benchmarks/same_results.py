"""Digests of what the program makes, to compare two commits on one machine: frames, losses, weights, figures, bytes of a set.

    python benchmarks/same_results.py inputs FOLDER                 once: the inputs that both commits read
    python benchmarks/same_results.py run FOLDER --json before.json in a checkout of each commit
    python benchmarks/same_results.py compare before.json after.json

`run` works through the command line alone, so that it serves any layout of the code, and in a temporary folder:

* `generate`: decoded frames of two portraits and three seeds, and of a tiny model of the released architecture;
* `prepare`: every file of a prepared set but its pages and clocks;
* `train` by the recipes embedded, adapter-tiny, lora-tiny and distil, 20 steps each: the loss of every step, and the weights;
* `evaluate` on four clips: all figures of `report.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import safe_open

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, 1, 2)
STEPS = 20
CLOCKS = frozenset(
    ["throughput", "created", "seconds", "measured_at", "versions", "version", "machine", "command", "commit", "time"]
)
"""Keys of records that may differ between two runs of one commit."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make inputs, run, or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("inputs").add_argument("folder", type=Path)
    run = commands.add_parser("run")
    run.add_argument("folder", type=Path, help="inputs")
    run.add_argument("--json", type=Path, help="file for the digests")
    run.add_argument("--only", nargs="+", choices=sorted(PARTS), default=sorted(PARTS))
    compare = commands.add_parser("compare")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "inputs":
        make_inputs(options.folder)
        return 0
    if options.command == "compare":
        return report(json.loads(options.before.read_text()), json.loads(options.after.read_text()))
    found: dict[str, Any] = {}
    for name in options.only:
        with tempfile.TemporaryDirectory() as scratch:
            for key, value in PARTS[name](options.folder.resolve(), Path(scratch)):
                found[key] = value
                print(key, value, flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def make_inputs(folder: Path) -> None:
    """Raw videos, two portraits, a speech, a tiny model of Wan's architecture and a set with its latents."""
    sys.path.insert(0, str(ROOT))
    from tests.pipeline.tiny_pipeline import EXAMPLE, wan_pipeline
    from tests.training.latent_set import made_up, write_set

    folder.mkdir(parents=True)
    portrait = Image.open(EXAMPLE / "portrait.png").convert("RGB")
    portrait.save(folder / "first.png")
    ImageOps.mirror(portrait.crop((64, 0, 384, 320))).save(folder / "second.png")
    (folder / "speech.wav").write_bytes((EXAMPLE / "speech.wav").read_bytes())
    subprocess.run(
        [sys.executable, str(ROOT / "examples/raw_videos.py"), str(folder / "raw"), "--minutes", "1"], check=True
    )
    wan_pipeline().save_pretrained(folder / "base")
    clips = {f"clip{i}": made_up(13, seed=i) for i in range(4)} | {f"val{i}": made_up(9, seed=9 + i) for i in range(2)}
    write_set(folder / "latents", wan_pipeline(), clips)
    _call("prepare", folder / "raw", "--output", folder / "set", "--workers", 0)


def frames(inputs: Path, scratch: Path) -> Iterator[tuple[str, str]]:
    """Decoded frames and sound of `generate`."""
    for picture in ("first", "second"):
        for seed in SEEDS:
            video = scratch / f"{picture}-{seed}.mp4"
            told = ("--image", inputs / f"{picture}.png", "--audio", inputs / "speech.wav", "--output", video)
            _call("generate", *told, "--max-seconds", 2, "--seed", seed)
            yield f"generate/{picture}/{seed}", _video_digest(video)
    video = scratch / "wan.mp4"
    told = (
        "--model",
        inputs / "base",
        "--image",
        inputs / "first.png",
        "--audio",
        inputs / "speech.wav",
        "--output",
        video,
    )
    _call(
        "generate", *told, "--max-seconds", 1, "--prompt", "a woman speaks", "--steps", 3, "--audio-guidance-scale", 3
    )
    yield "generate/wan", _video_digest(video)


def prepared(inputs: Path, scratch: Path) -> Iterator[tuple[str, str]]:
    """Every file of a prepared set."""
    made = scratch / "set"
    _call("prepare", inputs / "raw", "--output", made, "--workers", 0)
    for path in sorted(made.rglob("*")):
        name = path.relative_to(made).as_posix()
        if path.suffix in (".tar", ".jsonl"):
            yield f"prepare/{name}", hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    yield "prepare/manifest", _digest(_without_clocks(json.loads((made / "manifest.json").read_text())), scratch)


def trained(inputs: Path, scratch: Path) -> Iterator[tuple[str, str]]:
    """Loss of every step and the weights that come out, by recipe."""
    recipes: dict[str, tuple[Any, ...]] = {
        "embedded": ("--data", inputs / "set", "--painter-steps", 3, "--pairs-per-identity", 8),
        "adapter-tiny": ("--data", inputs / "latents", "--base", inputs / "base"),
        "lora-tiny": ("--data", inputs / "latents", "--base", inputs / "base"),
        "distil": ("--data", inputs / "set", "--teacher", _own_model()),
    }
    for recipe, told in recipes.items():
        output = scratch / recipe
        kind = "transformer" if "--transformer.log-every" in _call("train", recipe, "--help") else "train"
        _call("train", recipe, *told, "--output", output, "--steps", STEPS, "--threads", 1, f"--{kind}.log-every", 1)
        log = next(output.rglob("transformer/log.jsonl"), None) or next(output.rglob("log.jsonl"))
        records = [json.loads(line) for line in log.read_text().splitlines()]
        for record in records:
            if "loss" in record:
                yield f"train/{recipe}/loss/{record['step']}", str(record["loss"])
        for path in sorted(output.rglob("*.safetensors")):
            # not checkpoints, whose names and optimiser state are the run's own, nor cached measurements
            if not {"tracks"} & set(path.parts) and "step-" not in str(path.relative_to(output)):
                yield f"train/{recipe}/{path.relative_to(output).as_posix()}", _weights_digest(path)


def evaluated(inputs: Path, scratch: Path) -> Iterator[tuple[str, str]]:
    """Figures of `evaluate` on four clips."""
    generated, reference = scratch / "generated", scratch / "reference"
    generated.mkdir()
    reference.mkdir()
    for name, other in (("anna", "berta"), ("berta", "clara"), ("clara", "anna"), ("out-of-step", "anna")):
        (generated / f"{name}.mp4").symlink_to(inputs / "raw" / f"{name}.mp4")
        (reference / f"{name}.mp4").symlink_to(inputs / "raw" / f"{other}.mp4")
    told = ("--generated", generated, "--reference", reference, "--output", scratch / "report", "--protocol", "small")
    _call("evaluate", *told)
    stored = _without_clocks(json.loads((scratch / "report" / "report.json").read_text()))
    for key in ("columns", "comparisons", "methods", "problems", "protocol", "reference", "warnings"):
        yield f"evaluate/{key}", _digest(stored[key], scratch)


PARTS: dict[str, Callable[[Path, Path], Iterator[tuple[str, str]]]] = {
    "generate": frames,
    "prepare": prepared,
    "train": trained,
    "evaluate": evaluated,
}


def report(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Print what differs; 1 if anything does."""
    different = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    for key in different:
        print(f"{key}: {before.get(key)} before, {after.get(key)} after")
    print(f"{len(before)} digests before, {len(after)} after, {len(different)} differ")
    return int(bool(different))


def _own_model() -> Path:
    models = ROOT / "src" / "fantasytalking" / "models"
    return next(folder for folder in sorted(models.iterdir()) if (folder / "model_index.json").is_file())


def _call(*words: Any) -> str:
    command = [sys.executable, "-m", "fantasytalking.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def _video_digest(path: Path) -> str:
    found = hashlib.sha256()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            found.update(frame.to_ndarray(format="rgb24").tobytes())
    with av.open(str(path)) as container:
        for heard in container.decode(audio=0):
            found.update(np.ascontiguousarray(heard.to_ndarray()).tobytes())
    return found.hexdigest()[:16]


def _weights_digest(path: Path) -> str:
    found = hashlib.sha256()
    with safe_open(path, "pt") as file:
        for key in sorted(file.keys()):
            found.update(key.encode())
            found.update(file.get_tensor(key).contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clocks(one) for key, one in value.items() if key not in CLOCKS}
    if isinstance(value, list):
        return [_without_clocks(one) for one in value]
    return value


def _digest(value: Any, scratch: Path) -> str:
    # reports name the paths of what they read
    text = json.dumps(value, sort_keys=True).replace(str(scratch), "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
