"""Peak memory while a large transformer is loaded, compared with the size of its weights.

Writes a synthetic Wan transformer (fp32 shards under the original names) and a FantasyTalking adapter to a temporary
folder, loads them as bf16 in a separate process, and prints one JSON object. The limit is the size of the weights in
their final type plus 2 GB.

    python benchmarks/loading.py                    # 2 GB of fp32 files
    python benchmarks/loading.py --gigabytes 0.2 --dtype float32
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from fantasytalking.system.startup import importing_frameworks

ALLOWED_BYTES = 2 * 10**9
HEAD = 128


def write_files(folder: Path, gigabytes: float, width: int) -> int:
    """Write the synthetic files and return their size in bytes."""
    with importing_frameworks():
        from fantasytalking.checkpoints.adapter_layouts import ADAPTER_TABLES, part_of
        from fantasytalking.checkpoints.fill_model import build_empty
        from fantasytalking.checkpoints.wan_layouts import TRANSFORMER_ORIGINAL
        from fantasytalking.checkpoints.weights_writer import Entry, write_checkpoint
        from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

    feed_forward, audio = 3 * width, width // 4
    block = 10 * width**2 + 2 * width * feed_forward + 2 * width * audio
    layers = max(1, round(gigabytes * 10**9 / 4 / block))
    model = build_empty(
        lambda: FantasyTalkingTransformer3DModel(
            num_attention_heads=width // HEAD,
            attention_head_dim=HEAD,
            ffn_dim=feed_forward,
            num_layers=layers,
            image_dim=1280,
            added_kv_proj_dim=width,
            audio_dim=audio,
        )
    )
    files: dict[str, list[Entry]] = {"wan": [], "adapter": []}
    for key, value in model.state_dict().items():
        adapter = part_of(key) is not None
        piece = (ADAPTER_TABLES["safetensors"] if adapter else TRANSFORMER_ORIGINAL).backward(key)
        assert piece is not None
        shape = tuple(value.shape)
        entry = Entry(piece.source, shape, torch.float32, lambda shape=shape: torch.ones(shape))  # type: ignore[misc]
        files["adapter" if adapter else "wan"].append(entry)
    written = write_checkpoint(folder / "wan", "diffusion_pytorch_model", files["wan"], max_shard_bytes=10**9)
    written += write_checkpoint(folder, "adapter", files["adapter"])
    return sum(file.stat().st_size for file in written)


def load(folder: Path, dtype: str) -> None:
    """Load and print time and memory; run in a separate process, because a peak never goes down."""
    # Imported first, so that the libraries are not counted as memory of loading.
    with importing_frameworks():
        import fantasytalking.transformer.model  # noqa: F401
        from fantasytalking.checkpoints import load_transformer

    before = peak_bytes()
    started = time.perf_counter()
    model = load_transformer(folder / "wan", getattr(torch, dtype), adapter=folder / "adapter.safetensors")
    seconds = time.perf_counter() - started
    touched = sum(float(value.sum()) for value in model.parameters())
    weights = sum(value.nbytes for value in model.parameters())
    peak = peak_bytes()
    print(
        json.dumps(
            {"before": before, "weights": weights, "peak": peak, "seconds": seconds, "finite": touched == touched}
        )
    )


def peak_bytes() -> int:
    """Largest resident memory of this process so far in bytes, mapped pages included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    """Write, load in a separate process and report; the exit status is 1 if the limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the files in GB")
    parser.add_argument("--width", type=int, default=2048, help="width of the transformer, a multiple of 128")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        load(options.load, options.dtype)
        return 0
    with tempfile.TemporaryDirectory() as name:
        size = write_files(Path(name), options.gigabytes, options.width)
        command = [sys.executable, __file__, "--load", name, "--dtype", options.dtype]
        done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    peak, weights = result["peak"], result["weights"]
    report = {
        "files_gb": round(size / 1e9, 3),
        "weights_gb": round(weights / 1e9, 3),
        "dtype": options.dtype,
        "peak_gb": round(peak / 1e9, 3),
        "peak_of_libraries_gb": round(result["before"] / 1e9, 3),
        "over_weights_gb": round((peak - weights) / 1e9, 3),
        "allowed_over_weights_gb": ALLOWED_BYTES / 1e9,
        "seconds": round(result["seconds"], 2),
        "within_bound": peak <= weights + ALLOWED_BYTES,
    }
    print(json.dumps(report))
    return 0 if report["within_bound"] else 1


if __name__ == "__main__":
    sys.exit(main())
