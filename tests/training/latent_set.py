"""A prepared set with latents, of made-up clips, for a tiny pipeline of real parts: written as `fantasytalking prepare` writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from fantasytalking.data.preparation.clip_latents import LatentEncoder
from fantasytalking.data.preparation.measure_motion import BodyTrack
from fantasytalking.data.preparation.shard_writer import writing_shard
from fantasytalking.data.set_verification import files_sha256
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.system.digests import file_sha256
from tests.pipeline.tiny_pipeline import portrait, speech
from tests.training.synthetic import make_track

FPS = 23.0
FACE_DIM = 192
WINDOW = 9


@dataclass
class Clip:
    """What `LatentEncoder.encode` takes."""

    frames: NDArray[np.uint8]
    samples: NDArray[np.float32]
    lip_masks: NDArray[np.bool_]
    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    joints: BodyTrack
    caption: str

    def encode(self, encoder: LatentEncoder) -> dict[str, Tensor]:
        parts = (self.lip_masks, self.points, self.scores, self.joints, self.caption)
        return encoder.encode(self.frames, self.samples, FPS, *parts)


def made_up(frames: int, height: int = 64, width: int = 64, seed: int = 0, caption: str = "a woman speaks") -> Clip:
    """A portrait that sways, with a tone for speech and lips that stay put."""
    rng = np.random.default_rng(seed)
    picture = portrait(96)
    corners = rng.integers(0, 96 - max(height, width) + 1, (frames, 2))
    video = np.stack([picture[y : y + height, x : x + width] for y, x in corners])
    masks = np.zeros((frames, height, width), bool)
    masks[:, height // 2 : 3 * height // 4, width // 4 : 3 * width // 4] = True
    track = make_track("made-up", f"person{seed}", frames, seed)
    joints = BodyTrack(np.zeros((frames, 33, 3), np.float32), (11, 12), (0, 11, 12))
    sound = speech(frames / FPS + 0.1).samples + 0.01 * rng.standard_normal(round((frames / FPS + 0.1) * 16000))
    return Clip(video, sound.astype(np.float32), masks, track.points, track.scores, joints, caption)


def write_set(folder: Path, pipeline: FantasyTalkingPipeline, clips: dict[str, Clip], window: int = WINDOW) -> Path:
    """Write the clips, all but those whose key begins with val into the training split."""
    encoder = LatentEncoder(pipeline, window, 2)
    (folder / "shards").mkdir(parents=True)
    rows, shards = [], []
    for split in ("train", "val"):
        own = {key: clip for key, clip in clips.items() if key.startswith("val") == (split == "val")}
        name = f"{split}-000000"
        path = folder / "shards" / f"{name}.tar"
        with writing_shard(path) as shard:
            for number, (key, clip) in enumerate(own.items()):
                arrays = clip.encode(encoder)
                generator = torch.Generator().manual_seed(number)
                face = torch.nn.functional.normalize(torch.randn(FACE_DIM, generator=generator), dim=0)
                arrays |= {"embedding": face, "points": torch.from_numpy(clip.points)}
                row = {"key": key, "kept": True, "split": split, "shard": name, "fps": FPS, "frames": len(clip.frames)}
                files = {"safetensors": save(arrays)}
                row |= {"latent_size": list(arrays["latents.0"].shape[1:]), "caption": clip.caption}
                rows.append(row | {"sha256": files_sha256(files)})
                shard.add(key, rows[-1], files)
        if own:
            size = {"samples": len(own), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
            shards.append({"name": name, "split": split} | size)
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = {
        "schema": 1,
        "settings": {},
        "model": {"name": "tiny", "frame_rate": FPS, "encoders": {"vae": "AutoencoderKLWan"}},
        "percentiles": {"w_face": np.linspace(0, 2e-3, 21).tolist(), "w_body": np.linspace(0, 2e-3, 21).tolist()},
        "shards": shards,
        "clips_sha256": file_sha256(folder / "clips.jsonl"),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
