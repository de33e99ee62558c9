"""What users of diffusers expect of a pipeline besides its call: encoded prompts, a way to stop, pipes from pipes, output types."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from fantasytalking.checkpoints.quantised_layers import refuse_quantised
from fantasytalking.checkpoints.scaled_weights import FLOAT8
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.media.audio import Audio
from fantasytalking.pipeline.effective_settings import settings_to_store
from fantasytalking.pipeline.encoders import TEXT_TOKENS, encode_text
from fantasytalking.pipeline.progress import Progress, QuietProgress, default_progress
from fantasytalking.pipeline.step_callback import TENSOR_INPUTS
from fantasytalking.pipeline.talking_video import TalkingVideo
from fantasytalking.system.execution_device import execution_device
from fantasytalking.system.records import nearest_name
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["DiffusersConventions", "FramesOutput", "OutputType", "check_output_type", "frames_output", "with_dtype"]

OutputType = Literal["np", "pil", "pt", "latent"]
"""np: float [B, F, H, W, 3] in 0..1; pil: lists of images; pt: float [B, F, 3, H, W] in 0..1; latent: [B, C, f, h, w], not decoded."""


@dataclass
class FramesOutput(BaseOutput):
    """What a call with an `output_type` returns, like diffusers' `WanPipelineOutput`.

    Attributes:
        frames: The videos in the type asked for; a list where they differ in size or length.
        fps: Frames per second.
        audio: Sound of each video.
    """

    frames: Any
    fps: float
    audio: list[Audio]


def check_output_type(output_type: str | None) -> None:
    """Refuse an output type that does not exist.

    Raises:
        InputError: There is no such type; the accepted ones are named.
    """
    if output_type is not None and output_type not in get_args(OutputType):
        names = get_args(OutputType)
        raise InputError(f"There is no output_type {output_type!r}; {nearest_name(str(output_type), names, 'types')}")


def frames_output(
    videos: Sequence[TalkingVideo], latents: Sequence[Tensor], output_type: str, return_dict: bool
) -> FramesOutput | tuple[Any]:
    """Finished videos in a type of diffusers.

    Args:
        videos: The videos, without frames for "latent".
        latents: [1, C, f, h, w] of each video.
        output_type: A member of `OutputType`.
        return_dict: Whether to return a record or a tuple with the frames alone.
    """
    frames: Any
    if output_type == "latent":
        frames = torch.cat(list(latents)) if len({one.shape for one in latents}) == 1 else list(latents)
    elif output_type == "pil":
        frames = [[Image.fromarray(frame) for frame in video.frames] for video in videos]
    else:
        arrays = [video.frames.astype(np.float32) / 255 for video in videos]
        alike = len({array.shape for array in arrays}) == 1
        if output_type == "pt":
            tensors = [torch.from_numpy(array).movedim(-1, 1) for array in arrays]
            frames = torch.stack(tensors) if alike else tensors
        else:
            frames = np.stack(arrays) if alike else arrays
    if not return_dict:
        return (frames,)
    return FramesOutput(frames=frames, fps=videos[0].fps, audio=[video.audio for video in videos])


def with_dtype(options: dict[str, Any]) -> dict[str, Any]:
    """Options of loading, in which `torch_dtype` is another name for `dtype`.

    Raises:
        SettingsError: Both are given, or a type that nothing computes in.
    """
    wanted = options.get("dtype") or options.get("torch_dtype")
    for one in wanted.values() if isinstance(wanted, dict) else [wanted]:
        if one in FLOAT8:
            raise SettingsError(
                f"A pipeline cannot compute in {str(one).removeprefix('torch.')}; load it in torch.bfloat16 with "
                f"transformer=fantasytalking.checkpoints.load_transformer(folder, dtype={one}), which stores the matrices of the blocks so "
                "and widens each when it is used, or call transformer.enable_layerwise_casting."
            )
    if options.get("torch_dtype") is None:
        return {name: value for name, value in options.items() if name != "torch_dtype"}
    if options.get("dtype") is not None:
        raise SettingsError("Both dtype and torch_dtype were given, which mean the same; give dtype.")
    rest = {name: value for name, value in options.items() if name not in ("torch_dtype", "dtype")}
    return {**rest, "dtype": options["torch_dtype"]}


class DiffusersConventions:
    """Methods that stock pipelines have, for `FantasyTalkingPipeline`, whose attributes they use."""

    _callback_tensor_inputs: ClassVar[list[str]] = list(TENSOR_INPUTS)
    _interrupt: bool = False
    _num_timesteps: int = 0
    _stored_scheduler: Any = None

    @property
    def interrupt(self) -> bool:
        """Whether the run in progress is to stop; a callback sets `_interrupt`."""
        return self._interrupt

    @property
    def _execution_device(self) -> torch.device:
        # diffusers' is that of the first component, which need not be the one that the latents go through.
        transformer = self.transformer  # type: ignore[attr-defined]
        if transformer is None:
            return super()._execution_device  # type: ignore[misc, no-any-return]
        return execution_device(transformer)

    def _usual_progress(self) -> Progress:
        """The progress of a call that is given none, by `set_progress_bar_config`; of several processes the first alone speaks."""
        if not self._writes:  # type: ignore[attr-defined]
            return QuietProgress()
        return default_progress(getattr(self, "_progress_bar_config", {}).get("disable", False))

    @property
    def current_timestep(self) -> float | None:
        """Timestep of the step that is computed, 1000 (noise) to 0 (data), as diffusers' caches ask for it; None between calls."""
        transformer: Any = self.transformer  # type: ignore[attr-defined]
        return None if transformer is None else transformer.current_timestep

    @property
    def num_timesteps(self) -> int:
        """Number of steps of the last run."""
        return self._num_timesteps

    @torch.no_grad()
    def encode_prompt(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        do_classifier_free_guidance: bool = True,
        num_videos_per_prompt: int = 1,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        max_sequence_length: int = TEXT_TOKENS,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Encode prompts, to be given to the call as `prompt_embeds` and `negative_prompt_embeds`.

        Args:
            prompt: A prompt, or B of them; None: the model's default.
            negative_prompt: The same for what the video must not show.
            do_classifier_free_guidance: Whether the negative prompt is encoded.
            num_videos_per_prompt: How often each embedding is repeated.
            prompt_embeds: Embeddings that are returned in place of new ones.
            negative_prompt_embeds: The same for the negative prompt.
            max_sequence_length: Length that texts are cut or padded to; the released model needs 512.
            device: Where the embeddings go; None: where the model computes.
            dtype: Their type; None: the transformer's.

        Returns:
            [B, l, d] twice; None in place of the second without classifier-free guidance.
        """
        pipeline: Any = self
        encoders, usual = pipeline.encoders, pipeline.settings()

        def encoded(text: str | list[str] | None, default: str, given: Tensor | None, count: int) -> Tensor:
            if given is None:
                texts = [default if text is None else text] * count if not isinstance(text, list) else text
                given = torch.cat([encode_text(encoders, one, max_sequence_length) for one in texts])
                given = given.repeat_interleave(num_videos_per_prompt, 0)
            return given.to(device or encoders.device, dtype or encoders.dtype)

        count = len(prompt) if isinstance(prompt, list) else 1
        text = encoded(prompt, usual.prompt, prompt_embeds, 1)
        if not do_classifier_free_guidance:
            return text, None
        return text, encoded(negative_prompt, usual.negative_prompt, negative_prompt_embeds, count)

    @classmethod
    def from_pipe(cls, pipeline: Any, **changes: Any) -> Any:
        """Make a pipeline that shares the parts of another, which may be diffusers' `WanImageToVideoPipeline`.

        Args:
            pipeline: The other pipeline.
            changes: Parts, `defaults` and rules that differ; `dtype` (or `torch_dtype`) casts the parts, which otherwise stay as they are.

        Raises:
            InputError: The transformer is not FantasyTalking's, or a part is missing.
        """
        dtype = (changes := with_dtype(changes)).pop("dtype", None)
        names = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
        config = {name: value for name, value in dict(pipeline.config).items() if name in names}
        parts = {name: part for name, part in pipeline.components.items() if name in names}
        given = {**config, **parts, **changes}
        transformer = given.get("transformer")
        if not isinstance(transformer, FantasyTalkingTransformer3DModel):
            raise InputError(
                f"The transformer of that pipeline is a {type(transformer).__name__}, which has no audio; "
                "give from_pipe(..., transformer=load_transformer(WEIGHTS, adapter=ADAPTER)) of fantasytalking.checkpoints."
            )
        if given.get("audio_encoder") is None or given.get("audio_processor") is None:
            raise InputError(
                "That pipeline has no speech encoder; give from_pipe(..., audio_encoder=..., audio_processor=...)."
            )
        made: Any = cls(**given)
        if "scheduler" not in changes and hasattr(pipeline, "_stored_scheduler"):
            made._stored_scheduler = pipeline._stored_scheduler
        made.register_to_config(_name_or_path=dict(pipeline.config).get("_name_or_path", ""))
        return made if dtype is None else made.to(dtype=dtype)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *arguments: Any, **options: Any) -> None:
        """Write a model folder, see diffusers; the shift of a scheduler of the user's becomes the model's default."""
        pipeline: Any = self
        refuse_quantised(pipeline.transformer)
        defaults = settings_to_store(pipeline)
        if defaults != pipeline.config.defaults:
            pipeline.register_to_config(defaults=defaults)
        super().save_pretrained(save_directory, *arguments, **options)  # type: ignore[misc]
