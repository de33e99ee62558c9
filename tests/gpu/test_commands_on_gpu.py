"""The commands on a GPU, from raw videos to a model and from a portrait to a video: what users type there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fantasytalking.cli.__main__ import main
from fantasytalking.media.video import probe_video
from fantasytalking.pipeline.load_pipeline import load_pipeline
from tests.cli.test_train import make_video
from tests.devices.generation_checks import BF16_TOLERANCE, EXAMPLE_FILES, SHORT, Quiet, close
from tests.pipeline.tiny_pipeline import EXAMPLE

pytestmark = pytest.mark.gpu


def generate(model: str, output: Path, *more: str) -> Path:
    """The command's video of the example."""
    words = ["generate", "--image", str(EXAMPLE / "portrait.png"), "--audio", str(EXAMPLE / "speech.wav")]
    words += ["--model", model, "--output", str(output), "--max-seconds", "0.6", "--steps", "2"]
    assert main([*words, *more]) == 0
    return output


def test_the_device_is_chosen_by_itself_and_the_model_loaded_in_bfloat16(device: torch.device) -> None:
    pipeline = load_pipeline("embedded")
    assert pipeline.transformer.device == device
    assert pipeline.transformer.dtype == torch.bfloat16
    on_cpu = load_pipeline("embedded", device="cpu")
    made, wanted = (p(*EXAMPLE_FILES, **SHORT, progress=Quiet()).frames for p in (pipeline, on_cpu))
    close(made, wanted, BF16_TOLERANCE)


@pytest.mark.parametrize("dtype", ["auto", "float32", "float16"])
def test_generate_writes_a_video(dtype: str, device: torch.device, tmp_path: Path) -> None:
    made = generate("embedded", tmp_path / "talking.mp4", "--device", "cuda", "--dtype", dtype)
    assert probe_video(made).frames == 15


def test_raw_videos_become_a_model_that_talks(device: torch.device, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    rows = []
    for number, (start, split) in enumerate(((0.2, "train"), (2.2, "train"))):
        make_video(tmp_path / "videos" / f"{number}.mp4", start, number)
        rows.append({"file": f"{number}.mp4", "identity": f"person{number}", "kind": "real", "split": split})
    (tmp_path / "videos" / "catalogue.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert main(["train", "tiny", "--data", str(tmp_path / "videos"), "--output", str(tmp_path / "run")]) == 0
    assert probe_video(generate(str(tmp_path / "run" / "model"), tmp_path / "talking.mp4")).frames == 15
