"""Image and speech to a video, with every part real and tiny."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers.loaders import WanLoraLoaderMixin
from PIL import Image

from fantasytalking.autoencoder import Reference, from_uint8, to_uint8
from fantasytalking.errors import AudioError, OutOfMemory, OutputError, SettingsError, VideoError
from fantasytalking.media.video import probe_video, read_frames, write_video
from fantasytalking.pipeline.continued_video import CONTINUED_FRAMES
from fantasytalking.pipeline.encoders import encode_speech, encode_text
from fantasytalking.pipeline.inputs import load_speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.talking_video import VideoOutput
from fantasytalking.system.processes import threads
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, wan_pipeline


@pytest.fixture(scope="module")
def wan() -> FantasyTalkingPipeline:
    return wan_pipeline()


@pytest.fixture(scope="module")
def embedded() -> FantasyTalkingPipeline:
    return embedded_pipeline()


def test_a_portrait_and_speech_become_a_video_as_long_as_the_speech(wan: FantasyTalkingPipeline) -> None:
    video = wan(portrait(), speech(0.7))
    assert video.frames.shape == (16, 64, 64, 3) and video.frames.dtype == np.uint8
    assert video.fps == 23.0 and abs(video.duration - 0.7) <= 0.5 / 23
    assert set(video.seconds) == {"reading", "encoding", "sampling", "decoding"}


def test_the_embedded_kind_of_model_keeps_the_pictures_own_size(embedded: FantasyTalkingPipeline) -> None:
    video = embedded(portrait(201), speech(0.4))
    assert video.frames.shape == (10, 201, 201, 3) and video.fps == 25.0


def test_the_saved_file_has_picture_and_sound_of_one_length(embedded: FantasyTalkingPipeline, tmp_path: Path) -> None:
    video = embedded(portrait(), speech(0.5))
    path = video.save(tmp_path / "out.mp4")
    info = probe_video(path)
    assert (info.frames, info.width, info.height, info.has_audio) == (len(video.frames), 192, 192, True)
    frames, _ = read_frames(path)
    assert abs(frames.astype(int) - video.frames).mean() < 6


def test_a_video_is_written_while_it_is_decoded(embedded: FantasyTalkingPipeline, tmp_path: Path) -> None:
    seen: list[bool] = []

    class Watching(Progress):
        @contextmanager
        def show_stage(self, name: str, total: int) -> Iterator[Any]:
            yield lambda: seen.append(name == "decoding" and bool(list(tmp_path.glob(".*.part*"))))

    video = embedded(portrait(), speech(0.5), progress=Watching(), output=VideoOutput(tmp_path / "out.mp4"))
    assert any(seen) and list(video.seconds)[-2:] == ["decoding", "writing"]
    frames, _ = read_frames(tmp_path / "out.mp4")
    assert frames.shape == video.frames.shape and abs(frames.astype(int) - video.frames).mean() < 6
    with pytest.raises(OutputError, match="exists already"):
        VideoOutput(tmp_path / "out.mp4")


def test_an_interruption_while_frames_are_made_leaves_no_file(embedded: FantasyTalkingPipeline, tmp_path: Path) -> None:
    class Stopping(Progress):
        @contextmanager
        def show_stage(self, name: str, total: int) -> Iterator[Any]:
            def advance() -> None:
                if name == "decoding":
                    raise KeyboardInterrupt

            yield advance

    with pytest.raises(KeyboardInterrupt):
        embedded(portrait(), speech(0.5), progress=Stopping(), output=VideoOutput(tmp_path / "out.mp4"))
    assert not list(tmp_path.iterdir())


def test_the_frames_do_not_depend_on_the_number_of_threads(embedded: FantasyTalkingPipeline) -> None:
    made = []
    for count in (1, 2):
        with threads(count):
            made.append(embedded(portrait(), speech(0.5)).frames)
    assert np.array_equal(made[0], made[1])


@pytest.mark.parametrize("make", [wan_pipeline, embedded_pipeline], ids=["wan", "embedded"])
def test_the_same_seed_gives_the_same_video_and_another_seed_another(make: Any) -> None:
    pipeline = make()
    first, again, other = (pipeline(portrait(), speech(0.3), seed=seed).frames for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_call_leaves_nothing_behind_that_changes_the_next(wan: FantasyTalkingPipeline) -> None:
    before = wan(portrait(), speech(0.3)).frames
    wan(portrait(), speech(0.5), steps=3, sigma_shift=2.0, seed=5, prompt="a woman speaks")
    assert np.array_equal(before, wan(portrait(), speech(0.3)).frames)


def test_the_callback_sees_each_step_and_may_change_the_latents(wan: FantasyTalkingPipeline) -> None:
    seen: list[tuple[int, float]] = []

    def still(pipeline: Any, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]) -> Any:
        assert pipeline is wan
        seen.append((step, float(timestep)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    one, two = (wan(portrait(), speech(0.3), seed=seed, steps=3, callback_on_step_end=still) for seed in (0, 1))
    assert [step for step, _ in seen] == [0, 1, 2] * 2
    assert seen[0][1] == 1000 and seen[0][1] > seen[1][1] > seen[2][1]
    assert np.array_equal(one.frames, two.frames)


def test_progress_is_told_of_every_step_and_frame(wan: FantasyTalkingPipeline) -> None:
    class Counting(Progress):
        counts: ClassVar[dict[str, list[int]]] = {}

        @contextmanager
        def show_stage(self, name: str, total: int) -> Any:
            count = self.counts.setdefault(name, [0, total])

            def advance() -> None:
                count[0] += 1

            yield advance

    progress = Counting()
    video = wan(portrait(), speech(0.5), steps=3, progress=progress)
    assert progress.counts["sampling"] == [3, 3]
    assert progress.counts["decoding"] == [len(video.frames)] * 2


@pytest.mark.parametrize(
    ("setting", "value", "part"),
    [
        ("prompt", "a woman", "text encoder"),
        ("w_face", 0.9, "motion network"),
        ("identity_scale", 1.0, "identity module"),
    ],
)
def test_a_setting_without_a_part_for_it_is_told_in_one_sentence(setting: str, value: Any, part: str) -> None:
    pipeline = wan_pipeline(text_encoder=None, tokenizer=None)
    with pytest.warns(UserWarning, match=f"This model has no {part}, so {setting} has no effect."):
        video = pipeline(portrait(), speech(0.3), **{setting: value})
    assert video.notes == (f"This model has no {part}, so {setting} has no effect.",)


def test_nothing_is_told_when_there_is_nothing_to_tell(embedded: FantasyTalkingPipeline) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert embedded(portrait(), speech(0.3), w_face=0.9, w_body=0.1, identity_scale=1.0).notes == ()


def test_without_a_text_encoder_the_text_is_one_zero_token_and_prompt_guidance_costs_nothing() -> None:
    pipeline = wan_pipeline(text_encoder=None, tokenizer=None)
    assert not encode_text(pipeline.encoders, "a woman").any() and encode_text(pipeline.encoders, "").shape == (
        1,
        1,
        16,
    )
    seen: list[int] = []
    pipeline.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    pipeline(portrait(), speech(0.3), prompt_guidance_scale=7.0, audio_guidance_scale=3.0)
    assert seen == [2, 2]


def test_text_is_encoded_without_the_transformer_that_it_is_for(tmp_path: Path) -> None:
    for make, width in ((wan_pipeline, 512), (embedded_pipeline, 1)):
        whole, folder = make(), tmp_path / make.__name__
        whole.save_pretrained(folder)
        encoders = FantasyTalkingPipeline.from_pretrained(folder, transformer=None).encoders
        config = {name: encoders.config[name] for name in whole.transformer.plain_config()}
        assert {**config, "patch_size": tuple(config["patch_size"])} == whole.transformer.plain_config()
        told = encode_text(encoders, "a woman speaks")
        assert told.shape == (1, width, 16) and torch.equal(told, encode_text(whole.encoders, "a woman speaks"))


def test_the_rules_of_a_model_are_entries_of_its_folder(tmp_path: Path) -> None:
    rules: dict[str, Any] = {
        "native_fps": 25.0,
        "max_frames": 41,
        "longest_side": None,
        "own_size": True,
        "speech_level": -20.0,
    }
    embedded_pipeline(**rules).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index.items() >= {**rules, "needs_face": True}.items()
    assert FantasyTalkingPipeline.from_pretrained(tmp_path).rules == ModelRules(**rules, needs_face=True)


def test_a_rule_that_does_not_exist_offers_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"There is no setting 'max_frame'; did you mean 'max_frames'\?"):
        embedded_pipeline(max_frame=41)


def test_text_behind_the_prompt_is_zero_as_released(wan: FantasyTalkingPipeline) -> None:
    tokens = encode_text(wan.encoders, "a woman speaks")
    assert tokens.shape == (1, 512, 16)
    assert tokens[0, :3].abs().min() > 0 and not tokens[0, 3:].any()


@pytest.mark.parametrize("fps", [11.5, 23.0, 25.0, 46.0])
def test_windows_keep_their_width_in_speech_tokens_at_any_frame_rate(wan: FantasyTalkingPipeline, fps: float) -> None:
    loaded = load_speech(speech(1.5), GenerationSettings(fps=fps), ModelRules())
    audio = encode_speech(wan.encoders, loaded, wan.rules, 1.0)
    assert audio.ranges is not None and audio.ranges.shape[1] == (loaded.num_frames - 1) // 4 + 1
    assert audio.features.shape[1] / loaded.num_frames == pytest.approx(50 / 23, rel=0.03)
    assert set((audio.ranges[0, :, 1] - audio.ranges[0, :, 0]).tolist()) == {8}


@pytest.mark.parametrize("fps", [None, 12.5, 40.0])
def test_windows_stay_with_the_sound_of_their_frames(embedded: FantasyTalkingPipeline, fps: float | None) -> None:
    """A click at 1.2 s moves the features of the frames at 1.2 s most."""
    loaded = load_speech(speech(2.0), GenerationSettings(fps=fps), embedded.rules)
    quiet = encode_speech(embedded.encoders, loaded, embedded.rules, 1.0).features[0]
    loaded.samples[round(1.2 * 16000) : round(1.22 * 16000)] += 0.9
    loud = encode_speech(embedded.encoders, loaded, embedded.rules, 1.0).features[0]
    centre = (loud - quiet).norm(dim=1).argmax().item() + 0.5
    assert centre / len(quiet) * loaded.num_frames / loaded.fps == pytest.approx(1.21, abs=0.06)


def test_a_whole_settings_record_and_single_settings_can_be_given_together(wan: FantasyTalkingPipeline) -> None:
    record = GenerationSettings(steps=1, seed=8)
    video = wan(portrait(), speech(0.3), record, seed=9)
    assert (video.settings.steps, video.settings.seed) == (1, 9)


def test_running_out_of_memory_is_one_sentence_with_the_way_out(wan: FantasyTalkingPipeline) -> None:
    def full(module: Any, inputs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = wan.transformer.register_forward_pre_hook(full)
    try:
        with pytest.raises(OutOfMemory, match=r"does not fit into the memory .* --memory balanced or low"):
            wan(portrait(), speech(0.3))
    finally:
        hook.remove()


def test_the_example_of_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocks of docs/python.md, run as they stand in a folder with their files; a tiny model is their demo."""
    from fantasytalking.pipeline import model_names

    embedded_pipeline().save_pretrained(tmp_path / "embedded")
    monkeypatch.setattr(model_names, "EMBEDDED", "another name")
    monkeypatch.chdir(tmp_path)
    Path("examples").mkdir()
    Image.fromarray(portrait()).save("examples/portrait.png")
    Image.new("RGB", (64, 64)).save("empty_room.jpg")
    write_video("speech.mp4", [portrait(64)] * 19, 20, speech(0.96))
    Path("speech.mp4").rename("examples/speech.wav")
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for block in blocks:
        exec(block, {})
    shown = capsys.readouterr().out
    assert len(blocks) == 3 and "(24, 192, 192, 3) 25.0 ()" in shown and "No face was found" in shown
    assert probe_video("talking.mp4").frames == 24


def test_low_rank_adapters_of_wan_can_be_loaded_through_diffusers() -> None:
    assert issubclass(FantasyTalkingPipeline, WanLoraLoaderMixin)
    assert FantasyTalkingPipeline.transformer_name == "transformer"


@pytest.mark.parametrize("make", [wan_pipeline, embedded_pipeline], ids=["wan", "embedded"])
def test_a_video_goes_on_where_a_previous_one_ended(make: Any) -> None:
    pipeline = make()
    first = pipeline(portrait(), speech(0.6), seed=1)
    second = pipeline(portrait(), speech(0.9), seed=2, previous=first)
    alone = pipeline(portrait(), speech(0.9), seed=2)
    last = from_uint8(first.frames[-CONTINUED_FRAMES:]).movedim(0, 1)[None]
    size = first.frames.shape[1:3]
    still = from_uint8(np.asarray(Image.fromarray(portrait()).resize(size[::-1])))[None]
    if make is wan_pipeline:  # its VAE has random weights: what is given looks as it makes of the last frames
        last = pipeline.autoencoder.decode(pipeline.autoencoder.encode(last, Reference(still)), Reference(still))
    known = to_uint8(last[0].movedim(1, 0)).astype(int)
    apart = [np.abs(v.frames[:5] - known[:5]).mean() for v in (second, alone)]
    assert apart[0] < 0.7 * apart[1]
    assert np.array_equal(second.frames, pipeline(portrait(), speech(0.9), seed=2, previous=first.frames).frames)


def test_a_previous_video_of_another_size_or_too_little_speech_is_refused(embedded: FantasyTalkingPipeline) -> None:
    first = embedded(portrait(), speech(0.5))
    with pytest.raises(VideoError, match="portrait's size"):
        embedded(portrait(160), speech(0.6), previous=first)
    with pytest.raises(AudioError, match="given"):
        embedded(portrait(), speech(0.3), previous=first)
