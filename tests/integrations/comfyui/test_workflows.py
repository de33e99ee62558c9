"""Each example workflow runs from its file to the written video, with real models, as ComfyUI runs it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fantasytalking.errors import FaceError, SettingsError
from fantasytalking.integrations.comfyui.node_folder import WORKFLOWS
from fantasytalking.media.audio import load_audio
from fantasytalking.media.video import read_frames, write_video
from fantasytalking.pipeline.progress import Nested, QuietProgress
from fantasytalking.verification import verify
from tests.integrations.comfyui.conftest import ROOT, load_custom_node
from tests.integrations.comfyui.run_workflow import InvalidPromptError, Server
from tests.pipeline.test_dubbing import nodding, side_by_side
from tests.pipeline.tiny_pipeline import portrait, wan_pipeline

SECONDS = 0.4
NAMES = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))


@pytest.fixture
def server(folders: Path) -> Server:
    """A ComfyUI with our nodes, and in its input folder all that the workflows name, small."""
    inputs = folders / "input"
    Image.fromarray(portrait()).save(inputs / "fantasytalking_portrait.png")
    Image.fromarray(side_by_side(1)[0]).save(inputs / "two_people.png")
    write_video(inputs / "footage.mp4", nodding(10), 25, None)
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
    found = verify(file)
    assert found.manifest.state == "valid" and found.manifest.identifier
    # a picture of 64 pixels has no room for the watermark
    assert found.agree is not False and (found.watermark.found or frames.shape[2] == 64)


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


def test_only_what_changed_runs_again_by_the_same_model_with_the_pipelines_own_frames(
    server: Server, folders: Path
) -> None:
    prompt = workflow("portrait_and_speech")
    first = server.run(prompt)
    server.runs.clear()
    assert server.run(prompt).keys() == first.keys() and server.runs == []
    changed = copy.deepcopy(prompt)
    changed["6"]["inputs"]["seed"] = 5
    again = server.run(changed)
    assert server.runs == ["FantasyTalkingSampler", "FantasyTalkingSave"]
    assert again["3"][0].loaded is first["3"][0].loaded and again["3"][0].loaded._pipeline is not None
    images, audio, fps, marks, _ = again["6"]
    assert images.dtype == torch.float32 and images.shape == (10, 192, 192, 3) and 0 <= images.min() < images.max() <= 1
    assert audio["waveform"].shape[:2] == (1, 1) and fps == 25.0 and marks.model == "embedded"
    assert not torch.equal(images, first["6"][0])
    assert len(list((folders / "output" / "video").iterdir())) == 2
    sound, pipeline = again["2"][0], again["3"][0].loaded._pipeline
    video = pipeline(
        portrait(),
        (sound["waveform"][0].numpy(), sound["sample_rate"]),
        progress=QuietProgress(),
        seed=5,
        max_seconds=SECONDS,
        face_check="off",
    )
    np.testing.assert_array_equal((images.numpy() * 255).round(), video.frames)


def test_a_model_that_is_not_kept_gives_its_memory_back_and_other_nodes_their_threads(server: Server) -> None:
    import comfy.utils

    def shown(value: int, total: int) -> bool:
        # the real ComfyUI keeps no list
        return not hasattr(comfy.utils, "shown") or (value, total) in comfy.utils.shown

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        made = server.run(workflow("portrait_and_speech", keep_loaded=False, threads=1))
        assert made["3"][0].loaded._pipeline is None
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert shown(4, 4), "sampling is not on the bar"
    assert shown(10, 10), "decoding is not on the bar"


@pytest.mark.parametrize(("name", "after"), [("portrait_and_speech", 4), ("dub", 14)])
def test_the_user_can_stop_a_run_in_the_middle(
    name: str, after: int, server: Server, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfy import model_management

    calls = [0]
    look = model_management.throw_exception_if_processing_interrupted

    def asked() -> None:
        calls[0] += 1
        if calls[0] == after:
            model_management.interrupt_current_processing()
        look()

    monkeypatch.setattr(model_management, "throw_exception_if_processing_interrupted", asked)
    with pytest.raises(model_management.InterruptProcessingException):
        server.run(workflow(name))
    assert calls[0] == after
    assert not list((folders / "output").rglob("*.mp4"))
    if name != "dub":
        # the button is up again, and the same run goes through
        server.run(workflow(name))
        check_video(server, folders)


def test_a_long_video_can_be_stopped_between_the_steps_of_a_segment() -> None:
    """Segments are not shown by a bar of their own."""
    from comfy import model_management

    from fantasytalking.integrations.comfyui.run_in_comfyui import ComfyProgress

    with Nested(ComfyProgress()).stage("sampling", 4) as advance:
        advance()
        model_management.interrupt_current_processing()
        with pytest.raises(model_management.InterruptProcessingException):
            advance()
        advance()


def test_a_mistake_is_told_before_the_model_is_loaded(server: Server) -> None:
    prompt = workflow("portrait_and_speech")
    prompt["6"]["inputs"]["steps"] = 1001
    with pytest.raises(InvalidPromptError, match="steps: 1001 outside"):
        server.run(prompt)
    prompt["6"]["inputs"]["steps"] = 0
    with pytest.raises(SettingsError, match="steps must be"):
        server.run(prompt)
    prompt["6"]["inputs"] |= {"steps": 4, "image": ["1", 0]}
    prompt["5"]["inputs"]["face"] = 3
    with pytest.raises(FaceError):
        server.run(prompt)
    assert "FantasyTalkingSave" not in server.runs


def test_a_long_video_that_was_stopped_goes_on_where_it_was(
    server: Server, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfy import model_management

    prompt = workflow("long_video", max_seconds=2.0)
    (settings,) = (node for node in workflow("several_speakers").values() if node["class_type"].endswith("Settings"))
    settings["inputs"] |= {"segment_seconds": 1.0, "settings": ["4", 0]}
    prompt |= {"9": settings}
    prompt["5"]["inputs"]["settings"] = ["9", 0]
    look = model_management.throw_exception_if_processing_interrupted

    def asked() -> None:
        if list((folders / "output" / "video").glob("*.unfinished/segment-0000.mp4")):
            model_management.interrupt_current_processing()
        look()

    monkeypatch.setattr(model_management, "throw_exception_if_processing_interrupted", asked)
    with pytest.raises(model_management.InterruptProcessingException):
        server.run(prompt)
    monkeypatch.setattr(model_management, "throw_exception_if_processing_interrupted", look)
    _, path, notes = server.run(prompt)["5"]
    assert "this one goes on from there" in notes
    assert [file.name for file in (folders / "output" / "video").iterdir()] == [Path(path).name]
    assert len(read_frames(path)[0]) == 50
