"""What a Python program gives a call in place of what is meant: taken where it is clear, else refused in a sentence before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fantasytalking.errors import FantasyTalkingError, OutputError, SettingsError
from fantasytalking.media.video import probe_video
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.settings import GenerationSettings
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech


@pytest.fixture(scope="module")
def embedded() -> FantasyTalkingPipeline:
    return embedded_pipeline()


@pytest.mark.parametrize("kind", [str, Path])
def test_the_output_may_be_a_path(embedded: FantasyTalkingPipeline, tmp_path: Path, kind: Any) -> None:
    target = tmp_path / "out.mp4"
    video = embedded(portrait(), speech(0.4), output=kind(target))
    assert probe_video(target).frames == len(video.frames)
    with pytest.raises(OutputError, match="exists already"):
        embedded(portrait(), speech(0.4), output=kind(target))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "settings": ({"settings": {"steps": 2}}, r"The settings are of type dict; .*\*\*settings"),
    "progress": ({"progress": True}, "The progress is of type bool; give a fantasytalking.pipeline.progress.Progress"),
    "callback": ({"callback_on_step_end": 3}, "callback_on_step_end is of type int; give a function"),
    "output": ({"output": 3}, "The output must be a path, but is of type int"),
    "ending": ({"output": "x.avi"}, "The output 'x.avi' ends in '.avi'"),
    "overwrite": ({"overwrite": True}, r"no setting 'overwrite': .*output=VideoOutput\(path, overwrite=True\)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_argument_of_another_type_is_one_sentence(embedded: FantasyTalkingPipeline, kind: str) -> None:
    arguments, sentence = WRONG[kind]
    with pytest.raises(FantasyTalkingError, match=sentence):
        # of a picture that does not exist, so that only what comes before reading can answer
        embedded("nowhere.png", speech(0.4), **arguments)


@pytest.mark.parametrize("kind", ["settings", "progress", "overwrite"])
def test_all_ways_to_call_say_so(embedded: FantasyTalkingPipeline, kind: str) -> None:
    arguments, sentence = WRONG[kind]
    calls = (
        lambda: next(embedded.stream("nowhere.png", speech(0.4), **arguments)),
        lambda: embedded.live_session("nowhere.png", **arguments),
        lambda: embedded.dub("nowhere.mp4", speech(0.4), "out.mp4", **arguments),
        lambda: embedded.speak_together("nowhere.png", {0: speech(0.4)}, "out.mp4", **arguments),
    )
    for call in calls:
        with pytest.raises(FantasyTalkingError, match=sentence):
            call()


def test_numbers_of_numpy_and_pytorch_are_numbers() -> None:
    given: dict[str, Any] = {
        "steps": np.int64(7),
        "seed": torch.tensor(3),
        "w_face": np.float32(0.5),
        "fps": np.int32(30),
    }
    settings = GenerationSettings(**given)
    assert (settings.steps, settings.seed, settings.w_face, settings.fps) == (7, 3, 0.5, 30.0)
    assert {type(value) for value in (settings.steps, settings.seed)} == {int}
    assert {type(value) for value in (settings.w_face, settings.fps)} == {float}
    others: list[Any] = [np.bool_(True), np.float64(2.5), torch.tensor(True), torch.tensor([1, 2])]
    for wrong in others:
        with pytest.raises(SettingsError, match="steps must be a whole number"):
            GenerationSettings(steps=wrong)
