"""Short talking videos and manifests about them, for the tests of benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fantasytalking.evaluation.benchmark.benchmark_manifest import Case, Manifest, MethodSpec, Window
from fantasytalking.evaluation.footage import file_digest
from fantasytalking.media.audio import Audio
from fantasytalking.media.video import write_video
from tests.pipeline.tiny_pipeline import portrait, speech


def talking_video(path: Path, seconds: float, pitch: float = 220.0, fps: float = 25.0, side: int = 192) -> Path:
    """The example portrait, swaying by a pixel, with a tone of some pitch."""
    face = portrait(side)
    frames = [np.roll(face, index % 3, axis=1) for index in range(round(seconds * fps))]
    time = np.arange(round(seconds * 16000)) / 16000
    voice = speech(seconds).samples * np.sin(2 * np.pi * pitch * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, frames, fps, Audio(voice.astype(np.float32), 16000), preset="ultrafast")


def case(data: Path, file: str, seconds: float, start: float = 0.0, **changes: Any) -> Case:
    """A case about a file, its own identity."""
    name = Path(file).stem
    window = Window(file, file_digest(data / file), start, seconds)
    values: dict[str, Any] = {"portrait": None, "audio": None, "prompt": "", "settings": {"seed": 0}}
    return Case(**{"name": name, "identity": name, "reference": window, **values, **changes})


def manifest(*cases: Case, methods: tuple[MethodSpec, ...] = (), **changes: Any) -> Manifest:
    """A manifest called `tiny`, of a method with its own and one with other speech unless told otherwise."""
    usual = (method("own"), method("other", speech="other"))
    values: dict[str, Any] = {"description": "of a test", "terms": "none", "expectations": ()}
    return Manifest(**{"name": "tiny", "cases": cases, "methods": methods or usual, **values, **changes})


def method(name: str, **changes: Any) -> MethodSpec:
    """A method of the model `$TINY`."""
    return MethodSpec(**{"name": name, "model": "$TINY", "settings": {}, "speech": "own", "note": "", **changes})
