"""Everything that training of the transformer reads, in one file of a few bytes a frame.

Face tracks hold the mesh of every frame, 5.6 KB each; the transformer needs its motion in the codec's terms alone. The file lets the
transformer be trained on another machine than the painter, in a copy of the run folder, without the videos.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fantasytalking.autoencoder.mesh_codec import MeshCodec, MeshMotion
from fantasytalking.data.motion_dataset import DescribedTrack, IntensityScale, PreparedTrack, mirror_of
from fantasytalking.errors import InputError
from fantasytalking.system.checked_arrays import read_arrays, save_arrays
from fantasytalking.system.json import read_json, write_json
from fantasytalking.training.embedded.training_tracks import Material

__all__ = ["load_packed", "packed_fingerprint", "save_packed"]

_HALF = ("expression", "told", "cells")
_MOTION = ("scale", "rotation", "translation")


def save_packed(material: Material, path: Path, fingerprint: str) -> None:
    """Write a material; the file appears complete or not at all.

    Args:
        material: Material of a run.
        path: File to write.
        fingerprint: Checksum of the data that it comes from.

    Raises:
        OutputError: The file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {f"codec.{name}": v.numpy() for name, v in material.codec.state_dict().items()}
    percentiles = material.intensity.as_percentiles()
    rows: list[list[str | int]] = []
    mirror = mirror_of(material.codec)
    for split in ("train", "val"):
        for track in getattr(material, split):
            key = str(len(rows))
            rows.append([split, track.name, track.identity, track.kind, track.first])
            arrays[f"{key}.speech"] = track.speech.half().numpy()
            arrays[f"{key}.embedding"] = track.embedding.numpy()
            for side, index in (("own", None), ("mirrored", mirror)):
                if split == "val" and index is not None:
                    continue
                described = track.described(material.codec, index)
                for name in _HALF:
                    arrays[f"{key}.{side}.{name}"] = getattr(described, name).half().numpy()
                for name in _MOTION:
                    arrays[f"{key}.{side}.{name}"] = getattr(described.motion, name).numpy()
    text = {"tracks": json.dumps(rows), "intensity": json.dumps(percentiles), "fingerprint": fingerprint}
    save_arrays(path, arrays, text)
    write_json(path.with_suffix(".json"), {"fingerprint": fingerprint})


def packed_fingerprint(path: Path) -> str:
    """Checksum of the data of a packed material, which need not be there itself but for the small file beside it.

    Raises:
        InputError: That file is missing or damaged.
    """
    stored = read_json(path.with_suffix(".json"))
    if not isinstance(stored, dict) or not isinstance(stored.get("fingerprint"), str):
        raise InputError(
            f"There is no checksum {path.with_suffix('.json')}; run the part measure of this run first, or copy its run folder here."
        )
    return str(stored["fingerprint"])


def load_packed(path: Path, coefficients: int, canvas: tuple[int, int]) -> tuple[Material, str]:
    """Read a material and the checksum of its data; its tracks have no meshes.

    Raises:
        InputError: The file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(
            f"There is no packed material {path}; run the part measure of this run first, or copy its run folder here."
        )
    try:
        arrays, text = read_arrays(path)
        codec = _codec(arrays, MeshCodec(coefficients, *canvas))
    except (InputError, RuntimeError) as error:  # torch's, of a codec of another version
        reason = " ".join(str(error).split()).removesuffix(".")
        raise InputError(
            f"{reason}; delete {path.name}, and run the part measure again, or copy it here again."
        ) from error
    material = Material(codec, [], [], IntensityScale.from_percentiles(**json.loads(text["intensity"])), 0)
    for number, (split, name, identity, kind, first) in enumerate(json.loads(text["tracks"])):
        key = str(number)
        speech = torch.from_numpy(arrays[f"{key}.speech"]).float()
        embedding = torch.from_numpy(arrays[f"{key}.embedding"])
        described = {
            side == "mirrored": _described(
                {n: torch.from_numpy(arrays[f"{key}.{side}.{n}"]) for n in (*_HALF, *_MOTION)}
            )
            for side in ("own", "mirrored")
            if f"{key}.{side}.expression" in arrays
        }
        points = torch.empty(len(described[False].expression), 0, 3)
        track = PreparedTrack(name, identity, kind, points, speech, embedding, first, described)
        getattr(material, split).append(track)
    material.speech_dim = material.train[0].speech.shape[1]
    return material, text["fingerprint"]


def _codec(arrays: Mapping[str, np.ndarray], fresh: MeshCodec) -> MeshCodec:
    prefix = "codec."
    fresh.load_state_dict(
        {n.removeprefix(prefix): torch.from_numpy(a) for n, a in arrays.items() if n.startswith(prefix)}
    )
    return fresh


def _described(arrays: dict[str, Tensor]) -> DescribedTrack:
    expression = arrays["expression"].float()
    motion = MeshMotion(expression, arrays["scale"], arrays["rotation"], arrays["translation"])
    return DescribedTrack(motion, expression, arrays["told"].float(), arrays["cells"].float())
