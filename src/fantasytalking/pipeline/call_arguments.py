"""The arguments of a call as cases, one for each video: lists make a batch, a generator may stand for a seed.

Dimensions: B cases, C latent channels, f latent frames, h and w latent rows and columns, l text tokens, d their width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.media.audio import Audio
from fantasytalking.media.python_inputs import is_tensor
from fantasytalking.pipeline.inputs import AudioSource, ImageSource, Portrait, Speech
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["Case", "Images", "Speeches", "TextEmbeddings", "cases_of", "checked_progress", "drawn", "settings_maker"]

Images = ImageSource | list[ImageSource]
"""One portrait, or a list of them."""
Speeches = AudioSource | list[AudioSource]
"""One speech, or a list of them."""
Generators = torch.Generator | list[torch.Generator] | None

STOCK_NAMES = {
    "num_inference_steps": "it is called steps here",
    "guidance_scale": "it is called prompt_guidance_scale here",
    "num_frames": "the video is as long as the speech; max_seconds uses less of it",
    "height": "the size follows from the portrait; longest_side limits it",
    "width": "the size follows from the portrait; longest_side limits it",
    "num_videos_per_prompt": "give the image as a list that repeats it, and a list of generators",
    "latents": "give a generator or a seed",
    "image_embeds": "the image is always encoded here",
    "attention_kwargs": "set the scale of a LoRA with set_adapters",
    "max_sequence_length": "the text is always padded to 512 tokens, as released; encode_prompt takes another length",
    "last_image": "FantasyTalking has no last image",
    "overwrite": "give output=VideoOutput(path, overwrite=True), of fantasytalking.pipeline.talking_video",
}
"""Arguments of diffusers' WanImageToVideoPipeline and of `TalkingVideo.save` that have no place here, and what to do instead."""


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings that stand for the prompts, as `encode_prompt` makes them.

    Attributes:
        prompt: [B or 1, l, d], or None.
        negative: [B or 1, l, d], or None.
    """

    prompt: Tensor | None = None
    negative: Tensor | None = None


@dataclass(frozen=True)
class Case:
    """One video of a call.

    Attributes:
        image: The portrait.
        audio: The speech.
        settings: Settings of this video.
        generator: Where its noise comes from; None: from the seed.
        text: Embeddings of its prompts, a batch of one each.
    """

    image: ImageSource
    audio: AudioSource
    settings: GenerationSettings
    generator: torch.Generator | None = None
    text: TextEmbeddings = TextEmbeddings()


def cases_of(
    image: Images,
    audio: Speeches,
    settings: Callable[..., GenerationSettings],
    overrides: Mapping[str, Any],
    generator: Generators = None,
    text: TextEmbeddings | None = None,
) -> tuple[list[Case], bool]:
    """The videos of a call.

    Args:
        image: A portrait; or a list of them, or a batch of pictures with four dimensions.
        audio: A speech or a list of them.
        settings: Makes the settings from single ones by name.
        overrides: Single settings; `prompt` and `negative_prompt` may be lists.
        generator: A generator, which serves all videos in turn, or a list.
        text: Embeddings in place of the prompts.

    Returns:
        The cases, and whether the call asked for a batch.

    Raises:
        InputError: Lists of different lengths, or both a text and its embeddings, or both a seed and a generator.
        SettingsError: An unknown name, or a bad value.
    """
    text = text or TextEmbeddings()
    _check_names(overrides, generator, text)
    embeddings = {"prompt_embeds": text.prompt, "negative_prompt_embeds": text.negative}
    lists: dict[str, Sequence[Any] | None] = {
        "image": _images(image),
        "audio": _speeches(audio),
        "generator": generator if isinstance(generator, list) else None,
        **{name: overrides[name] for name in _PROMPTS if isinstance(overrides.get(name), list | tuple)},
        **{name: list(value.split(1)) for name, value in embeddings.items() if value is not None and len(value) > 1},
    }
    given = {name: values for name, values in lists.items() if values is not None}
    count = _common_length(given)
    rest = {"image": image, "audio": audio, "generator": generator, **embeddings}
    plain = {name: value for name, value in overrides.items() if name not in given}
    cases = []
    for index in range(count):
        one = {name: values[index] for name, values in given.items()}
        prompts = {name: one.pop(name) for name in _PROMPTS if name in one}
        named = {**rest, **one}
        mine = TextEmbeddings(named["prompt_embeds"], named["negative_prompt_embeds"])
        seed = {} if named["generator"] is None else {"seed": named["generator"].initial_seed() % 2**32}
        chosen = settings(**plain, **prompts, **seed)
        cases.append(Case(named["image"], named["audio"], chosen, named["generator"], mine))
    return cases, bool(given)


_PROMPTS = ("prompt", "negative_prompt")


def settings_maker(pipeline: Any, settings: GenerationSettings | None) -> Callable[..., GenerationSettings]:
    """What makes the settings of a call from single ones by name.

    Args:
        pipeline: The pipeline that is called.
        settings: A complete record that they replace values of; None: the model's defaults.

    Raises:
        SettingsError: The settings are no such record; the function raises it for an unknown name or a bad value.
    """
    if settings is not None and not isinstance(settings, GenerationSettings):
        raise SettingsError(
            f"The settings are of type {type(settings).__name__}; give what pipeline.settings(steps=20) returns, or single settings by "
            "name, such as **settings for those of a mapping."
        )
    make: Callable[..., GenerationSettings] = pipeline.settings if settings is None else settings.replace

    def made(**overrides: Any) -> GenerationSettings:
        for name in overrides.keys() & STOCK_NAMES.keys():
            raise SettingsError(f"There is no setting '{name}': {STOCK_NAMES[name]}.")
        return make(**overrides)

    return made


def checked_progress(progress: Progress | None, usual: Callable[[], Progress]) -> Progress:
    """What shows the stages and notes of a call.

    Args:
        progress: As it was given.
        usual: Makes what is used where nothing was.

    Raises:
        InputError: It is no `Progress`.
    """
    if progress is not None and not isinstance(progress, Progress):
        raise InputError(
            f"The progress is of type {type(progress).__name__}; give a fantasytalking.pipeline.progress.Progress, or leave it out."
        )
    return usual() if progress is None else progress


def drawn(cases: Sequence[Case], shape: Sequence[int], tell: Callable[[str], None]) -> Tensor:
    """Draw the noise [B, C, f, h, w] of some videos.

    Without a generator it is drawn on the CPU, so that a seed means the same video on every device.

    Args:
        cases: B videos.
        shape: (C, f, h, w).
        tell: Told if the seed in the settings does not give a video again.
    """
    noise = []
    for case in cases:
        again = torch.Generator("cpu").manual_seed(case.settings.seed)
        generator = case.generator or again
        if generator.device.type != "cpu" or not torch.equal(generator.get_state(), again.get_state()):
            tell("The noise comes from the state of the generator, so the seed alone does not give it again.")
        noise.append(torch.randn(1, *shape, generator=generator, device=generator.device))
    return torch.cat(noise)


def _check_names(overrides: Mapping[str, Any], generator: Generators, text: TextEmbeddings) -> None:
    if generator is not None:
        for one in generator if isinstance(generator, list) else [generator]:
            if not isinstance(one, torch.Generator):
                raise InputError(f"The generator is a {type(one).__name__}; give a torch.Generator or a list of them.")
        if "seed" in overrides:
            raise InputError("Both a seed and a generator were given; give one of them.")
    for name, embedding in (("prompt", text.prompt), ("negative_prompt", text.negative)):
        if embedding is None:
            continue
        if name in overrides:
            raise InputError(f"Both {name} and {name}_embeds were given; give one of them.")
        if not isinstance(embedding, Tensor) or embedding.ndim != 3:
            shape = list(getattr(embedding, "shape", ())) or type(embedding).__name__
            raise InputError(f"{name}_embeds must be a tensor [B, l, d], not {shape}; make it with encode_prompt.")


def _common_length(lists: Mapping[str, Sequence[Any]]) -> int:
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        said = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise InputError(
            f"The lists of a call must have one length, but hold {said}; give a list, or one value for all."
        )
    return next(iter(lengths.values()), 1)


def _images(image: Any) -> list[Any] | None:
    if isinstance(image, list) and image and all(map(_is_picture, image)):
        return image
    pictures = (isinstance(image, np.ndarray) or is_tensor(image)) and image.ndim == 4 and len(image) > 1
    return list(image) if pictures else None


def _is_picture(value: Any) -> bool:
    """Whether a member of a list is a picture by itself, and no row or pixel of one."""
    if isinstance(value, np.ndarray) or is_tensor(value):
        return value.ndim in (3, 4) or (value.ndim == 2 and value.shape[1] > 4)
    return isinstance(value, str | os.PathLike | Image.Image | Portrait)


def _speeches(audio: Any) -> list[Any] | None:
    members = (str, os.PathLike, Audio, Speech, Mapping, tuple)
    return audio if isinstance(audio, list) and audio and all(isinstance(one, members) for one in audio) else None
