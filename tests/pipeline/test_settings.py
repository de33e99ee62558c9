"""Each knob exists once, is checked, and reaches the pipeline."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fantasytalking.errors import CheckpointError, FaceError, MissingDependencyError, SettingsError
from fantasytalking.media.audio import load_audio
from fantasytalking.media.video import read_frames, write_video
from fantasytalking.pipeline.model_names import INDEX, embedded_folder
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.settings import GenerationSettings, settings_list, settings_table
from fantasytalking.pipeline.talking_video import TalkingVideo
from fantasytalking.provenance.marks import Marks
from tests.perception.pictures import with_mask
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, wan_pipeline

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(scope="module")
def wan() -> FantasyTalkingPipeline:
    defaults = {"steps": 2, "prompt_guidance_scale": 3.0, "audio_guidance_scale": 2.0}
    return wan_pipeline(defaults=defaults, longest_side=32)


@pytest.fixture(scope="module")
def embedded() -> FantasyTalkingPipeline:
    return embedded_pipeline()


def run(pipeline: FantasyTalkingPipeline, **settings: Any) -> TalkingVideo:
    made: TalkingVideo = pipeline(portrait(), speech(), **settings)
    return made


def sampled(pipeline: FantasyTalkingPipeline, **settings: Any) -> list[torch.Tensor]:
    """The latents after each step; they are not decoded."""
    latents: list[torch.Tensor] = []
    pipeline(
        portrait(),
        speech(),
        callback_on_step_end=lambda pipeline, step, timestep, tensors: latents.append(tensors["latents"].clone()),
        output_type="latent",
        **settings,
    )
    return latents


@functools.cache
def usual_latents(pipeline: FantasyTalkingPipeline) -> torch.Tensor:
    """What `sampled` ends with where no setting is given."""
    return sampled(pipeline)[-1]


def changes_the_latents(pipeline: FantasyTalkingPipeline, **settings: Any) -> bool:
    return not torch.equal(usual_latents(pipeline), sampled(pipeline, **settings)[-1])


def batch_sizes(pipeline: FantasyTalkingPipeline, **settings: Any) -> list[int]:
    """How many passes each call of the transformer held."""
    seen: list[int] = []
    hook = pipeline.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    try:
        sampled(pipeline, **settings)
    finally:
        hook.remove()
    return seen


def calls_of(pipeline: FantasyTalkingPipeline, part: str, **settings: Any) -> int:
    """How often a part of the transformer ran."""
    seen: list[int] = []
    hook = pipeline.transformer.get_submodule(part).register_forward_hook(lambda *_: seen.append(1))
    try:
        sampled(pipeline, **settings)
    finally:
        hook.remove()
    return len(seen)


def refuses_a_face_that_is_not_there(pipeline: FantasyTalkingPipeline) -> bool:
    with pytest.raises(FaceError, match="no face 7"):
        run(pipeline, face=7)
    return True


def looks_closely(pipeline: FantasyTalkingPipeline) -> bool:
    masked = with_mask(portrait(256), (235, 235, 235))
    with pytest.warns(UserWarning, match="mouth can hardly be seen"):
        told = pipeline(masked, speech()).notes
    return bool(told) and pipeline(masked, speech(), face_check="off").notes == ()


def long(pipeline: FantasyTalkingPipeline, **settings: Any) -> NDArray[np.uint8]:
    """A video of two segments or windows."""
    return pipeline(portrait(), speech(2.0), **{"segment_seconds": 1.1, **settings}).frames


@functools.cache
def usual_long(pipeline: FantasyTalkingPipeline, long_video: str) -> NDArray[np.uint8]:
    """What `long` gives where no other setting is given."""
    return long(pipeline, long_video=long_video)


def continued_differs(pipeline: FantasyTalkingPipeline, **settings: Any) -> bool:
    """Whether settings change the second segment, and it alone."""
    usual, other = usual_long(pipeline, "continue"), long(pipeline, long_video="continue", **settings)
    return np.array_equal(usual[:16], other[:16]) and not np.array_equal(usual, other)


def dubs_otherwise(pipeline: FantasyTalkingPipeline, **settings: Any) -> bool:
    """Whether dubbed footage differs, in its picture or its sound."""
    with tempfile.TemporaryDirectory() as folder:
        film = write_video(f"{folder}/film.mp4", [portrait()] * 8, 25, speech(0.32), preset="ultrafast")
        made = [
            pipeline.dub(film, speech(0.2), f"{folder}/{number}.mp4", **given).path
            for number, given in enumerate(({}, settings))
        ]
        pictures, sounds = [read_frames(path)[0] for path in made], [load_audio(path).samples for path in made]
    return not np.array_equal(pictures[0], pictures[1]) or not np.array_equal(sounds[0], sounds[1])


def marks_of(pipeline: FantasyTalkingPipeline, **settings: Any) -> Marks:
    """What the files of a video are marked with; that these are in the files is tested in tests/provenance."""
    marks = run(pipeline, **settings).marks
    assert marks is not None
    return marks


def asks_for_the_separator(pipeline: FantasyTalkingPipeline) -> bool:
    with pytest.raises((MissingDependencyError, CheckpointError), match="separate_speech"):
        run(pipeline, separate_speech="on")
    return True


Reaches = Callable[[FantasyTalkingPipeline, FantasyTalkingPipeline], bool]

REACHES: dict[str, Reaches] = {
    "steps": lambda wan, embedded: len(sampled(wan, steps=3)) == 3,
    "prompt_guidance_scale": lambda wan, embedded: changes_the_latents(wan, prompt_guidance_scale=4.0),
    "audio_guidance_scale": lambda wan, embedded: changes_the_latents(wan, audio_guidance_scale=4.0),
    "audio_start_percent": lambda wan, embedded: changes_the_latents(wan, audio_start_percent=40),
    "audio_end_percent": lambda wan, embedded: changes_the_latents(wan, audio_end_percent=50),
    "guidance_start_percent": lambda wan, embedded: (
        batch_sizes(wan, steps=4, batch_passes="on", guidance_start_percent=50) == [1, 1, 3, 3]
    ),
    "guidance_end_percent": lambda wan, embedded: (
        batch_sizes(wan, steps=4, batch_passes="on", guidance_end_percent=50) == [3, 3, 1, 1]
    ),
    "audio_scale": lambda wan, embedded: changes_the_latents(wan, audio_scale=0.5),
    "audio_level": lambda wan, embedded: (
        changes_the_latents(wan, audio_level="clip") and changes_the_latents(embedded, audio_level="clip")
    ),
    "identity_scale": lambda wan, embedded: changes_the_latents(embedded, identity_scale=2.0),
    "w_face": lambda wan, embedded: changes_the_latents(embedded, w_face=1.0),
    "w_body": lambda wan, embedded: changes_the_latents(embedded, w_body=1.0),
    "sigma_shift": lambda wan, embedded: changes_the_latents(wan, sigma_shift=2.0),
    "seed": lambda wan, embedded: changes_the_latents(wan, seed=1),
    "fps": lambda wan, embedded: (made := run(wan, fps=30)).fps == 30 and len(made.frames) == 15,
    "max_seconds": lambda wan, embedded: len(run(wan, max_seconds=0.3).frames) == 7,
    "separate_speech": lambda wan, embedded: asks_for_the_separator(wan),
    "long_video": lambda wan, embedded: not np.array_equal(usual_long(wan, "auto"), usual_long(wan, "continue")),
    "segment_seconds": lambda wan, embedded: (
        not np.array_equal(usual_long(wan, "auto"), long(wan, segment_seconds=1.5))
    ),
    "window_weights": lambda wan, embedded: (
        not np.array_equal(usual_long(wan, "auto"), long(wan, window_weights="pyramid"))
    ),
    "prefix_noise": lambda wan, embedded: continued_differs(wan, prefix_noise=0.0),
    "anchor_audio": lambda wan, embedded: continued_differs(wan, anchor_audio="on"),
    "hold_look": lambda wan, embedded: continued_differs(wan, hold_look="off"),
    "longest_side": lambda wan, embedded: run(wan, longest_side=80).frames.shape[1:] == (80, 80, 3),
    "face": lambda wan, embedded: refuses_a_face_that_is_not_there(wan),
    "face_check": lambda wan, embedded: looks_closely(embedded),
    "dub_area": lambda wan, embedded: dubs_otherwise(wan, dub_area="face"),
    "dub_strength": lambda wan, embedded: dubs_otherwise(wan, steps=4, dub_strength=0.25),
    "dub_volume": lambda wan, embedded: dubs_otherwise(wan, dub_volume=1.0),
    "manifest": lambda wan, embedded: marks_of(wan).manifest and not marks_of(wan, manifest="off").manifest,
    "watermark": lambda wan, embedded: not marks_of(wan, watermark="off").watermark and marks_of(wan).watermark,
    "label": lambda wan, embedded: (marks_of(wan).label, marks_of(wan, label="always").label) == ("off", "always"),
    "label_text": lambda wan, embedded: marks_of(wan, label_text="KI").label_text == "KI",
    "prompt": lambda wan, embedded: changes_the_latents(wan, prompt="a woman speaks"),
    "negative_prompt": lambda wan, embedded: changes_the_latents(wan, negative_prompt="blurry"),
    "batch_passes": lambda wan, embedded: (
        batch_sizes(wan, batch_passes="on") == [3, 3] and batch_sizes(wan, batch_passes="off") == [1] * 6
    ),
    "reuse_conditions": lambda wan, embedded: (
        calls_of(wan, "audio_projector", reuse_conditions="on") == 1
        and calls_of(wan, "audio_projector", reuse_conditions="off") == 2
    ),
    "cache": lambda wan, embedded: calls_of(wan, "blocks.1.ffn", steps=4, cache="first-block", cache_threshold=1) == 3,
    "cache_threshold": lambda wan, embedded: (
        calls_of(wan, "blocks.1.ffn", steps=4, cache="first-block", cache_threshold=0) == 12
    ),
    "cache_interval": lambda wan, embedded: (
        calls_of(wan, "blocks.1.ffn", steps=8, batch_passes="on", cache="taylorseer", cache_interval=2) == 5
        and calls_of(wan, "blocks.1.ffn", steps=8, batch_passes="on", cache="taylorseer", cache_interval=4) == 4
    ),
}


def test_every_setting_has_a_proof_that_it_reaches_the_pipeline() -> None:
    assert set(REACHES) == {setting.name for setting in settings_list()}


@pytest.mark.filterwarnings("ignore:Only the first")
@pytest.mark.parametrize("name", REACHES)
def test_the_setting_reaches_the_pipeline(
    name: str, wan: FantasyTalkingPipeline, embedded: FantasyTalkingPipeline
) -> None:
    assert REACHES[name](wan, embedded)


def test_an_unknown_setting_offers_the_nearest_name(wan: FantasyTalkingPipeline) -> None:
    with pytest.raises(
        SettingsError, match="There is no setting 'audio_guidance'; did you mean 'audio_guidance_scale'"
    ):
        wan(portrait(), speech(), audio_guidance=3)


@pytest.mark.parametrize("setting", settings_list(), ids=lambda setting: setting.name)
def test_a_value_outside_its_range_is_refused_in_one_sentence(setting: Any) -> None:
    bad: list[Any] = [object()]
    if setting.minimum is not None:
        bad += [setting.minimum - 1, setting.maximum + 1, float("nan"), True, "much"]
    for value in bad:
        with pytest.raises(SettingsError) as caught:
            GenerationSettings(**{setting.name: value})
        message = str(caught.value)
        assert message.startswith(f"{setting.name} must be ") and repr(value) in message and message.endswith(".")


@pytest.mark.parametrize("setting", settings_list(), ids=lambda setting: setting.name)
def test_the_ends_of_a_range_are_accepted(setting: Any) -> None:
    for value in (setting.minimum, setting.maximum):
        if value is not None and not setting.name.endswith(("_start_percent", "_end_percent")):
            assert getattr(GenerationSettings(**{setting.name: value}), setting.name) == value


def test_whole_numbers_may_be_given_as_floats_and_floats_as_whole_numbers() -> None:
    settings = GenerationSettings(steps=4.0, fps=25)  # type: ignore[arg-type]
    assert settings.steps == 4 and isinstance(settings.steps, int) and isinstance(settings.fps, float)


@pytest.mark.parametrize("what", ["audio", "guidance"])
def test_a_window_that_ends_before_it_starts_is_refused(what: str) -> None:
    with pytest.raises(SettingsError, match=f"^{what}_start_percent must not exceed {what}_end_percent"):
        GenerationSettings(**{f"{what}_start_percent": 60, f"{what}_end_percent": 40})  # type: ignore[arg-type]


def test_what_is_given_wins_over_the_model_and_the_model_over_the_library() -> None:
    pipeline = wan_pipeline(defaults={"steps": 7, "audio_guidance_scale": 3.0})
    settings = pipeline.settings(audio_guidance_scale=6.0)
    assert (settings.steps, settings.audio_guidance_scale, settings.prompt_guidance_scale) == (7, 6.0, 5.0)


def test_a_model_folder_with_an_unknown_default_is_refused() -> None:
    with pytest.raises(SettingsError, match="did you mean 'steps'"):
        wan_pipeline(defaults={"step": 3})


def test_texts_are_parsed_as_on_a_command_line() -> None:
    parsed = {setting.name: setting for setting in settings_list()}
    assert parsed["steps"].parse("12") == 12
    assert parsed["fps"].parse("23.976") == 23.976
    assert parsed["fps"].parse("none") is None
    assert parsed["prompt"].parse("none") == "none"
    with pytest.raises(SettingsError, match="steps must be a whole number from 1 to 1000, but 'many' was given"):
        parsed["steps"].parse("many")


def test_the_documented_table_is_made_from_the_fields() -> None:
    assert settings_table() in DOCS.read_text(), "paste settings_table() into docs/settings.md"


def test_the_page_gives_the_embedded_models_own_defaults() -> None:
    own = json.loads((embedded_folder() / INDEX).read_text())["defaults"]
    assert f"own: {', '.join(f'`{name}` {value:g}' for name, value in sorted(own.items()))}." in DOCS.read_text()
