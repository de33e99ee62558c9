"""A folder of short videos, good and bad ones, and the settings that they are prepared with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from fantasytalking.data.preparation.preparation_settings import PreparationSettings, RunSettings
from fantasytalking.media.audio import Audio
from fantasytalking.media.video import write_video
from fantasytalking.system.digests import file_sha256
from tests.media.files import tone

# few looks: the stages have tests of their own
SETTINGS = PreparationSettings(sync="off", body_every=1.0, face_every=1.0, quality=30)


def running(**changes: Any) -> RunSettings:
    """A run in this process with a candidate a shard."""
    return RunSettings(**{"clips_per_shard": 1, "workers": 0, **changes})


def make_videos(folder: Path, talking: Path) -> Path:
    """Two clips of a face, one without a face, and a file that is no video."""
    (folder / "deep").mkdir(parents=True)
    shutil.copy(talking / "calm.mp4", folder / "calm.mp4")
    shutil.copy(talking / "lively.mp4", folder / "deep" / "lively.mov")
    write_video(
        folder / "grey.mp4", np.full((60, 64, 64, 3), 90, np.uint8), 25, Audio(tone(2.4), 16000), preset="ultrafast"
    )
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def checksums(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of what a set is made of."""
    files = [*sorted((folder / "shards").iterdir()), folder / "clips.jsonl"]
    return {path.name: file_sha256(path) for path in files}
