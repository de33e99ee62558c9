"""What users of diffusers type works here as it does for a stock pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image
from transformers import Wav2Vec2FeatureExtractor

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.talking_video import VideoOutput
from tests.pipeline import tiny_pipeline
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, wan_pipeline


@pytest.fixture(scope="module")
def wan() -> FantasyTalkingPipeline:
    return wan_pipeline(transformer=told_transformer())


@pytest.fixture(scope="module")
def folder(wan: FantasyTalkingPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    wan.save_pretrained(place)
    return place


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        yield


def told_transformer() -> Any:
    """A transformer that listens to its text, which the usual one hardly does."""
    model = tiny_pipeline.transformer()
    with torch.no_grad():
        for block in model.blocks:
            block.attn2.to_v.weight.mul_(30)
    return model


def latents(pipeline: FantasyTalkingPipeline, image: Any = None, audio: Any = None, **given: Any) -> torch.Tensor:
    output: Any = pipeline(
        portrait() if image is None else image, speech(0.3) if audio is None else audio, output_type="latent", **given
    )
    frames: torch.Tensor = output.frames
    return frames


def test_torch_dtype_is_another_name_for_dtype(folder: Path) -> None:
    loaded = FantasyTalkingPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
    assert loaded.transformer.blocks[0].ffn.net[2].weight.dtype == torch.bfloat16
    assert loaded(portrait(), speech(0.3)).frames.shape[0] == 7
    with pytest.raises(SettingsError, match="Both dtype and torch_dtype"):
        FantasyTalkingPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16, dtype=torch.float32)


def test_a_generator_gives_the_noise_of_its_seed_and_goes_on(wan: FantasyTalkingPipeline) -> None:
    generator = torch.Generator("cpu").manual_seed(7)
    first, second = latents(wan, generator=generator), latents(wan, generator=generator)
    assert torch.equal(first, latents(wan, seed=7)) and not torch.equal(first, second)
    video = wan(portrait(), speech(0.3), generator=torch.Generator().manual_seed(9))
    assert video.settings.seed == 9 and video.notes == ()
    assert "state of the generator" in wan(portrait(), speech(0.3), generator=generator).notes[0]
    with pytest.raises(InputError, match="Both a seed and a generator"):
        latents(wan, generator=generator, seed=7)
    with pytest.raises(InputError, match=r"The generator is a int; give a torch\.Generator"):
        latents(wan, generator=3)


def test_a_callback_gets_the_tensors_that_it_asks_for_and_may_replace_them(wan: FantasyTalkingPipeline) -> None:
    names = ["latents", "prompt_embeds", "negative_prompt_embeds"]
    other, _ = wan.encode_prompt("a woman speaks")
    seen: list[list[int]] = []

    def say_other(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append([len(tensors[name].shape) for name in names])
        return {"prompt_embeds": other} if step == 0 else {}

    given = {"steps": 3, "prompt_guidance_scale": 6.0, "callback_on_step_end": say_other}
    changed = latents(wan, **given, callback_on_step_end_tensor_inputs=names)
    assert seen == [[5, 3, 3]] * 3
    assert not torch.allclose(changed, latents(wan, steps=3, prompt_guidance_scale=6.0), atol=1e-4)
    with pytest.raises(InputError, match="'latent', which this pipeline does not have; did you mean 'latents'"):
        latents(wan, **given, callback_on_step_end_tensor_inputs=["latent"])


def test_a_run_can_be_interrupted(wan: FantasyTalkingPipeline) -> None:
    kept: list[torch.Tensor] = []

    def stop(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        kept.append(tensors["latents"])
        pipeline._interrupt = step == 1
        return {}

    assert torch.equal(latents(wan, steps=5, callback_on_step_end=stop), kept[-1]) and len(kept) == 2
    video = wan(portrait(), speech(0.3), steps=5, callback_on_step_end=stop)
    assert video.notes == ("The run was interrupted after 2 of 5 steps, so the video is unfinished.",)
    assert video.frames.shape[0] == 7 and wan.num_timesteps == 5
    assert wan(portrait(), speech(0.3)).notes == () and not wan.interrupt


def test_a_pipe_is_made_from_a_pipe(wan: FantasyTalkingPipeline) -> None:
    again = FantasyTalkingPipeline.from_pipe(wan)
    assert again.transformer is wan.transformer and again.rules == wan.rules
    assert torch.equal(latents(again), latents(wan))
    assert FantasyTalkingPipeline.from_pipe(wan, defaults={"steps": 5}).settings().steps == 5


def test_a_pipe_is_made_from_the_stock_pipe_of_wan(wan: FantasyTalkingPipeline) -> None:
    stock = WanImageToVideoPipeline(
        tokenizer=wan.tokenizer,
        text_encoder=wan.text_encoder,
        vae=wan.vae,
        scheduler=wan.scheduler,
        image_processor=wan.image_processor,
        image_encoder=wan.image_encoder,
        transformer=WanTransformer3DModel(num_attention_heads=1, attention_head_dim=12, num_layers=1, ffn_dim=8),
    )
    with pytest.raises(
        InputError, match=r"is a WanTransformer3DModel, which has no audio; give from_pipe\(\.\.\., trans"
    ):
        FantasyTalkingPipeline.from_pipe(stock)
    with pytest.raises(InputError, match="no speech encoder"):
        FantasyTalkingPipeline.from_pipe(stock, transformer=wan.transformer)
    parts = {"audio_encoder": wan.audio_encoder, "audio_processor": Wav2Vec2FeatureExtractor()}
    made = FantasyTalkingPipeline.from_pipe(
        stock, transformer=wan.transformer, **parts, longest_side=64, defaults={"steps": 2}
    )
    assert torch.equal(latents(made), latents(wan))


def test_diffusers_own_loader_opens_a_model_folder(wan: FantasyTalkingPipeline, folder: Path) -> None:
    loaded = DiffusionPipeline.from_pretrained(folder)
    assert isinstance(loaded, FantasyTalkingPipeline) and torch.equal(latents(loaded), latents(wan))


def test_samples_with_their_rate_are_a_speech(wan: FantasyTalkingPipeline) -> None:
    sound = speech(0.3)
    expected = latents(wan, audio=sound)
    for audio in ((sound.samples, 16000), (16000, sound.samples), (torch.from_numpy(sound.samples), 16000)):
        assert torch.equal(latents(wan, audio=audio), expected)


@pytest.mark.parametrize("make", [wan_pipeline, embedded_pipeline], ids=["wan", "embedded"])
def test_lists_are_a_batch_in_which_each_video_is_what_it_is_alone(make: Any) -> None:
    pipeline = make()
    images = [Image.fromarray(portrait()), portrait()[:, ::-1].copy()]
    sounds, prompts = [speech(0.3), speech(0.28)], ["a woman speaks", "a woman"]
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    calls: list[int] = []
    hook = pipeline.transformer.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    together = latents(pipeline, images, sounds, prompt=prompts, generator=generators, batch_passes="off")
    hook.remove()
    assert set(calls) == {2} and len(together) == 2
    for index, (image, sound, prompt) in enumerate(zip(images, sounds, prompts, strict=True)):
        alone = latents(pipeline, image, sound, prompt=prompt, seed=3 + index)
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=1e-5)
    videos = pipeline(images, sounds, prompt=prompts)
    assert isinstance(videos, list) and [video.settings.prompt for video in videos] == prompts
    assert [len(video.frames) for video in videos] == ([7, 6] if make is wan_pipeline else [8, 7])


def test_one_value_serves_a_whole_batch_of_any_sizes(wan: FantasyTalkingPipeline) -> None:
    wide = Image.fromarray(portrait()).resize((192, 128))
    both = latents(wan, [portrait(), wide], seed=5)
    assert isinstance(both, list) and [tuple(one.shape[-2:]) for one in both] == [(8, 8), (6, 8)]
    torch.testing.assert_close(both[0], latents(wan, seed=5), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[1], latents(wan, wide, seed=5), atol=1e-5, rtol=1e-5)
    many = latents(wan, np.stack([portrait(), portrait()]), prompt="a woman")
    assert many.shape[0] == 2 and torch.equal(many[0], many[1])


def test_a_batch_that_does_not_fit_together_is_refused(wan: FantasyTalkingPipeline, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="hold 2 of image, 3 of prompt"):
        wan([portrait(), portrait()], speech(0.3), prompt=["a", "b", "c"])
    with pytest.raises(InputError, match="call the pipeline once for each video"):
        wan([portrait(), portrait()], speech(0.3), output=VideoOutput(tmp_path / "video.mp4"))


def test_a_list_of_rows_or_of_samples_is_still_one_picture_and_one_speech(wan: FantasyTalkingPipeline) -> None:
    picture, sound = portrait(), speech(0.3)
    rows, samples = list(picture), [sound.samples, 16000]
    video: Any = wan(rows, samples)  # type: ignore[arg-type]
    assert np.array_equal(video.frames, wan(picture.tolist(), sound).frames)


def test_encoded_prompts_stand_for_prompts(wan: FantasyTalkingPipeline) -> None:
    text, negative = wan.encode_prompt("a woman speaks", "blurry")
    assert text.shape == (1, 512, 16) and negative is not None and negative.shape == text.shape
    expected = latents(wan, prompt="a woman speaks", negative_prompt="blurry")
    torch.testing.assert_close(latents(wan, prompt_embeds=text, negative_prompt_embeds=negative), expected)
    without = FantasyTalkingPipeline.from_pipe(wan, text_encoder=None, tokenizer=None)
    torch.testing.assert_close(latents(without, prompt_embeds=text, negative_prompt_embeds=negative), expected)
    assert not torch.allclose(latents(wan), expected, atol=1e-4)
    assert wan.encode_prompt(["a", "woman"], do_classifier_free_guidance=False)[1] is None
    pair, _ = wan.encode_prompt(["a woman", "a woman speaks"], num_videos_per_prompt=1)
    assert latents(wan, prompt_embeds=pair).shape[0] == 2
    assert wan.encode_prompt("a woman", max_sequence_length=77)[0].shape[1] == 77


def test_embeddings_that_do_not_fit_are_refused(wan: FantasyTalkingPipeline) -> None:
    for given, message in (
        ({"prompt_embeds": torch.zeros(1, 5, 9)}, "are 9 wide, and this model takes 16"),
        ({"prompt_embeds": torch.zeros(5, 16)}, r"must be a tensor \[B, l, d\], not \[5, 16\]"),
        ({"prompt_embeds": torch.zeros(1, 5, 16), "prompt": "a"}, "Both prompt and prompt_embeds"),
        (
            {"prompt_embeds": torch.zeros(1, 5, 16), "negative_prompt_embeds": torch.zeros(1, 6, 16)},
            "have 5 and 6 tokens",
        ),
    ):
        with pytest.raises(InputError, match=message):
            latents(wan, **given)


def test_guidance_without_a_negative_prompt_is_told(wan: FantasyTalkingPipeline) -> None:
    text, _ = wan.encode_prompt("a woman speaks")
    without = FantasyTalkingPipeline.from_pipe(wan, text_encoder=None, tokenizer=None)
    assert without(portrait(), speech(0.3), prompt_embeds=text).notes == (
        "There is no text encoder and no negative_prompt_embeds, so prompt_guidance_scale has no effect.",
    )


@pytest.mark.parametrize("output_type", ["np", "pil", "pt"])
def test_frames_come_in_every_type(wan: FantasyTalkingPipeline, output_type: str) -> None:
    expected = wan(portrait(), speech(0.3)).frames
    output: Any = wan(portrait(), speech(0.3), output_type=output_type)
    frames = output.frames[0]
    if output_type == "pil":
        frames = np.stack([np.asarray(frame) for frame in frames]) / 255
    elif output_type == "pt":
        assert output.frames.shape == (1, 7, 3, 64, 64)
        frames = frames.movedim(1, -1).numpy()
    assert np.array_equal((frames * 255).round().astype(np.uint8), expected)
    assert output.fps == 23.0 and len(output.audio) == 1
    only = wan(portrait(), speech(0.3), output_type=output_type, return_dict=False)
    assert isinstance(only, tuple) and len(only) == 1


def test_an_output_type_that_does_not_exist_offers_those_that_do(wan: FantasyTalkingPipeline) -> None:
    with pytest.raises(InputError, match="There is no output_type 'numpy'"):
        wan(portrait(), speech(0.3), output_type="numpy")


@pytest.mark.parametrize(
    ("name", "said"), [("num_inference_steps", "called steps"), ("guidance_scale", "prompt_guidance_scale")]
)
def test_arguments_of_the_stock_pipeline_say_what_they_are_called_here(
    wan: FantasyTalkingPipeline, name: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=f"There is no setting '{name}': .*{said}"):
        latents(wan, **{name: 3})
