"""Each example workflow runs from its file to the written video, with real models, as ComfyUI runs it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fantasytalking.integrations.comfyui.node_folder import WORKFLOWS
from fantasytalking.media.audio import load_audio
from fantasytalking.media.video import read_frames, write_video
from tests.integrations.comfyui.conftest import ROOT, load_custom_node
from tests.integrations.comfyui.run_workflow import InvalidPromptError, Server
from tests.pipeline.test_dubbing import nodding, side_by_side
from tests.pipeline.tiny_pipeline import portrait, wan_pipeline

SECONDS = 0.6
NAMES = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))


@pytest.fixture
def server(folders: Path) -> Server:
    """A ComfyUI with our nodes, and in its input folder all that the workflows name, small."""
    inputs = folders / "input"
    Image.fromarray(portrait()).save(inputs / "fantasytalking_portrait.png")
    Image.fromarray(side_by_side(1)[0]).save(inputs / "two_people.png")
    write_video(inputs / "footage.mp4", nodding(15), 25, None)
    speech = (inputs / "fantasytalking_speech.wav").read_bytes()
    for name in ("anna.wav", "ben.wav"):
        (inputs / name).write_bytes(speech)
    return Server(load_custom_node(ROOT)[1])


def workflow(name: str, **changes: Any) -> dict[str, Any]:
    """A workflow in API format, with a short speech and other changes of settings, for all nodes that have them."""
    prompt: dict[str, Any] = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())
    for node in prompt.values():
        inputs = node["inputs"]
        for key, value in {"max_seconds": SECONDS, "face_check": "off", **changes}.items():
            if key in inputs:
                inputs[key] = value
    return prompt


def check_video(server: Server, folders: Path, fps: float = 25.0) -> None:
    """The one video in the output folder is what the server showed, and as long as the speech."""
    (file,) = (folders / "output").rglob("*.*")
    assert file == folders / "output" / "video" / "FantasyTalking_00001_.mp4"
    shown = {"filename": file.name, "subfolder": "video", "type": "output"}
    assert server.shown == [{"images": [shown], "animated": (True,)}]
    frames, rate = read_frames(file)
    assert len(frames) == round(SECONDS * fps) and float(rate) == fps
    assert np.ptp(frames, 0).max() > 30, "nothing moves"
    assert load_audio(file).seconds == pytest.approx(SECONDS, abs=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_workflow_writes_its_video(name: str, server: Server, folders: Path) -> None:
    changes: dict[str, Any] = {}
    if name == "released_14b":
        wan_pipeline().save_pretrained(folders / "models" / "fantasytalking" / "FantasyTalking-14B")
        # of real size, as the folder's models are not
        server = Server(load_custom_node(ROOT)[1])
        changes = {"longest_side": 64, "steps": 2}
    server.run(workflow(name, **changes))
    check_video(server, folders, 23.0 if name == "released_14b" else 25.0)
