"""The set's list of clips and its manifest, made from the records of videos and shards.

The manifest is written last: without it a set is unfinished.
"""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fantasytalking
from fantasytalking.data.face_tracks import SAME_PERSON, nearest_faces
from fantasytalking.data.motion_dataset import IntensityScale
from fantasytalking.data.preparation.clip_records import StageClock
from fantasytalking.data.preparation.work_folder import Plan
from fantasytalking.pipeline.model_names import INDEX, resolve_model
from fantasytalking.system.digests import file_fingerprint, file_sha256
from fantasytalking.system.files import atomic_path, full_disk_error
from fantasytalking.system.json import json_text, read_json

__all__ = ["IN_VALIDATION", "build_manifest", "describe_model", "leaks", "percentiles", "write_clips"]

IN_VALIDATION = "in-validation"
"""Reason for dropping a training clip whose person is seen in a validation clip."""
# not the transformer, nor an autoencoder without stored latents: training them further does not make a set stale
_ALWAYS, _FOR_LATENTS = ("audio_encoder",), ("vae", "image_encoder", "text_encoder")

Row = dict[str, Any]


def describe_model(name: str, latents: str = "auto") -> dict[str, Any]:
    """Describe the model that a set is made for: frame rate, classes and weights of the encoders.

    Weights are identified by their fingerprints; of a repository on the hub only the name is known.

    Args:
        name: `PreparationSettings.model`.
        latents: `PreparationSettings.latents`.

    Returns:
        The content of `SetModel`.

    Raises:
        CheckpointError: There is no such model.
    """
    folder = resolve_model(name)
    described: dict[str, Any] = {"name": name, "encoders": {}, "weights": {}}
    index = read_json(folder / INDEX) if isinstance(folder, Path) else None
    if not isinstance(folder, Path) or not isinstance(index, dict):
        return described
    described["frame_rate"] = index.get("native_fps")
    classes = {part: entry[1] for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    used = _ALWAYS + (_FOR_LATENTS if latents == "auto" and classes.get("vae") == "AutoencoderKLWan" else ())
    for part in used:
        if classes.get(part):
            described["encoders"][part] = classes[part]
            for path in sorted([*(folder / part).glob("*.safetensors"), *(folder / part).glob("config.json")]):
                described["weights"][path.relative_to(folder).as_posix()] = file_fingerprint(path)
    return described


def leaks(rows: Sequence[Row]) -> dict[str, float]:
    """Find training clips whose face is that of a validation clip, by the embeddings: catalogues name clips, not people.

    Args:
        rows: Rows of all candidates; those that were kept with their embedding.

    Returns:
        Key -> largest cosine with a validation clip, where it is at least `SAME_PERSON`.
    """
    held = [row for row in rows if row["kept"] and row["split"] == "val"]
    own = [row for row in rows if row["kept"] and row["split"] == "train"]
    cosines = nearest_faces([_embedding(row) for row in own], [_embedding(row) for row in held])
    found = {row["key"]: float(cosine) for row, cosine in zip(own, cosines, strict=True)}
    return {key: cosine for key, cosine in found.items() if cosine >= SAME_PERSON}


def _embedding(row: Row) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(row["_embedding"]), "<f4")


def percentiles(rows: Iterable[Row]) -> dict[str, list[float]] | None:
    """Percentiles of the raw motion of the training clips, as in a model's motion_percentiles.json; None without a training clip."""
    raw = [motion for row in rows if row["kept"] and row["split"] == "train" for motion in row["_motion"]]
    if not raw:
        return None
    return IntensityScale.fit(torch.tensor(raw, dtype=torch.float64).float()).as_percentiles()


def write_clips(path: Path, rows: Iterable[Row]) -> None:
    """Write `clips.jsonl`, without the fields that only the end of the run needs (they begin with an underscore).

    Raises:
        OutputError: The disk is full, or the folder cannot be written.
    """
    with full_disk_error(path), atomic_path(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        for row in rows:
            file.write(json_text({k: v for k, v in row.items() if not k.startswith("_")}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def build_manifest(
    plan: Plan,
    rows: Sequence[Row],
    shards: Sequence[Mapping[str, Any]],
    model: Mapping[str, Any],
    clock: StageClock,
    clips_file: Path,
    run: Mapping[str, Any],
    passed_over: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Content of `manifest.json`, see `SetManifest`.

    Args:
        plan: Plan of the run.
        rows: Rows of all candidates, with the fields that only the end of the run needs.
        shards: Records of the shards that hold a clip.
        model: What `describe_model` gave.
        clock: Time of all stages.
        clips_file: The list of clips, which is written already.
        run: How the command ran: workers, address, seconds.
        passed_over: What the search for videos passed over, see `FolderSearch`.
    """
    kept = [row for row in rows if row["kept"]]
    return {
        "schema": plan.schema,
        "made_with": {"fantasytalking": fantasytalking.__version__, **run},
        "settings": plan.settings,
        "model": dict(model),
        "percentiles": percentiles(rows),
        "totals": {
            "videos": len(plan.videos),
            "candidates": len(rows),
            "kept": len(kept),
            "dropped": len(rows) - len(kept),
            "seconds": round(sum(row["seconds"] for row in kept), 3),
            "bytes": sum(shard["bytes"] for shard in shards),
            "splits": {split: _split(kept, split) for split in ("train", "val")},
            "passed_over": dict(passed_over or {}),
        },
        "dropped": dict(sorted(Counter(row["reason"] for row in rows if not row["kept"]).items())),
        "terms": dict(sorted(Counter(row["terms"] for row in kept).items())),
        "shards": [{name: shard[name] for name in ("name", "split", "samples", "bytes", "sha256")} for shard in shards],
        "clips_sha256": file_sha256(clips_file),
        "throughput": _throughput(clock),
        "plan": plan.as_dict(),
    }


def _split(kept: Sequence[Row], split: str) -> dict[str, Any]:
    own = [row for row in kept if row["split"] == split]
    seconds = round(sum(row["seconds"] for row in own), 3)
    return {"clips": len(own), "identities": len({row["identity"] for row in own}), "seconds": seconds}


def _throughput(clock: StageClock) -> dict[str, dict[str, float]]:
    """Clips, seconds and clips per second of one worker, by stage."""
    stages = {}
    for name, entry in clock.as_dict().items():
        seconds, clips = entry["seconds"], entry["clips"]
        stages[name] = {
            "clips": clips,
            "seconds": round(seconds, 3),
            "clips_per_second": round(clips / seconds, 3) if seconds > 0 else 0.0,
        }
    return stages
