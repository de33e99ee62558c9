"""The pipeline: from portrait, speech and prompt to a talking video, one class for every size of model.

A call reads like the table of contents of the method: read the inputs, encode them, sample latents under three-way
guidance, decode. Whatever differs between models is in the model folder, never here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, overload

import numpy as np
import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline
from diffusers.loaders import WanLoraLoaderMixin
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.acceleration.apply_plan import memory_released
from fantasytalking.autoencoder import VideoAutoencoder, WanAutoencoder
from fantasytalking.errors import CheckpointError, FantasyTalkingError
from fantasytalking.pipeline.call_arguments import (
    Case,
    Images,
    Speeches,
    TextEmbeddings,
    cases_of,
    checked_progress,
    settings_maker,
)
from fantasytalking.pipeline.clip_batches import Clip, Run, check_text
from fantasytalking.pipeline.continued_video import CONTINUED_FRAMES
from fantasytalking.pipeline.diffusers_conventions import (
    DiffusersConventions,
    OutputType,
    check_output_type,
    frames_output,
    with_dtype,
)
from fantasytalking.pipeline.dubbing import Dubbing
from fantasytalking.pipeline.effective_settings import effective_settings
from fantasytalking.pipeline.encoders import Encoders
from fantasytalking.pipeline.generation_marks import check_signing
from fantasytalking.pipeline.inputs import ImageSource, Portrait, Speech, load_portrait, load_speech
from fantasytalking.pipeline.live_calls import LiveCalls
from fantasytalking.pipeline.live_speech import LiveSpeech
from fantasytalking.pipeline.long_output import is_long, long_video
from fantasytalking.pipeline.model_folder import (
    LIBRARY,
    check_folder,
    check_weights,
    register_components,
    register_pipeline,
    usual_dtype,
)
from fantasytalking.pipeline.model_names import is_cached, resolve_model, unreachable_model
from fantasytalking.pipeline.model_rules import ModelRules, with_rules
from fantasytalking.pipeline.parallel_calls import ParallelCalls
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.sample_clips import make_clips, sample_clips
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.step_callback import StepEnd, tensor_inputs
from fantasytalking.pipeline.stream_calls import StreamCalls
from fantasytalking.pipeline.talking_video import TalkingVideo, VideoOutput
from fantasytalking.system.prefetching import quick_switches
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["CONTINUED_FRAMES", "FantasyTalkingPipeline", "StepEnd"]

register_components("FantasyTalkingTransformer3DModel", "MeshAutoencoder", "WhisperEncoder")


@register_pipeline
class FantasyTalkingPipeline(
    Dubbing, DiffusersConventions, ParallelCalls, StreamCalls, LiveCalls, DiffusionPipeline, WanLoraLoaderMixin
):
    """Makes a portrait speak.

    Args:
        transformer: The denoiser.
        vae: Autoencoder between pixels and latents: Wan's, or one that implements `autoencoder.VideoAutoencoder`.
        scheduler: Euler flow matching as released, or any other flow scheduler of diffusers.
        text_encoder: umT5; without it the text is one zero token and prompt guidance has no effect.
        tokenizer: Tokenizer of the text encoder.
        image_encoder: CLIP; without it the model has no image attention.
        image_processor: Image processor of the image encoder.
        audio_encoder: wav2vec2, or the encoder of Whisper.
        audio_processor: Feature extractor of the audio encoder.
        defaults: Settings in which this model differs from `GenerationSettings`.
        rules: Fields of `ModelRules` by name, which diffusers stores in `model_index.json` like the defaults.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->audio_encoder->transformer->vae"
    _optional_components: ClassVar[list[str]] = [
        "text_encoder",
        "tokenizer",
        "image_encoder",
        "image_processor",
        "audio_encoder",
        "audio_processor",
    ]

    def __init__(
        self,
        transformer: FantasyTalkingTransformer3DModel,
        vae: Any,
        scheduler: Any,
        text_encoder: Any = None,
        tokenizer: Any = None,
        image_encoder: Any = None,
        image_processor: Any = None,
        audio_encoder: Any = None,
        audio_processor: Any = None,
        defaults: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
            image_processor=image_processor,
            audio_encoder=audio_encoder,
            audio_processor=audio_processor,
        )
        if type(audio_encoder).__name__ == "WhisperEncoder":
            # transformers does not export it at its top level, where diffusers would look for it.
            self.register_to_config(audio_encoder=(LIBRARY, "WhisperEncoder"))
        self._exclude_from_cpu_offload = ["vae"] if getattr(vae, "moves_as_a_whole", False) else []
        self.rules = ModelRules(**rules)
        if transformer is not None:
            transformer.mag_ratios = self.rules.mag_ratios
        GenerationSettings.create(defaults or {})
        self.register_to_config(**dataclasses.asdict(self.rules), defaults=dict(defaults or {}))
        # Defaults that name a shift are made for the scheduler beside them; any other scheduler has its own say.
        self._stored_scheduler = scheduler if "sigma_shift" in (defaults or {}) else None

    # diffusers reads from the signature which entries of `model_index.json` the constructor takes.
    __init__.__signature__ = with_rules(inspect.signature(__init__))  # type: ignore[attr-defined]

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> FantasyTalkingPipeline:
        """Load a model.

        Args:
            name: `embedded` (comes with the package), a model folder, or a hub repository as owner/name.
            options: Options of `diffusers.DiffusionPipeline.from_pretrained`, such as `dtype`; only safetensors files are read
                unless `use_safetensors=False` is given.

        Raises:
            CheckpointError: There is no such model, or its folder is incomplete or does not fit.
            SettingsError: The type is one that networks are stored in and cannot compute in.
        """
        model = resolve_model(os.fspath(name))
        if isinstance(model, Path):
            check_folder(model)
        given = {"use_safetensors": True, "dtype": usual_dtype(model), **with_dtype(options)}
        try:
            pipeline: FantasyTalkingPipeline = super().from_pretrained(os.fspath(model), **given)
        except FantasyTalkingError:
            raise
        except Exception as error:
            if isinstance(model, str) and not is_cached(model):
                raise unreachable_model(model, error) from error
            # A damaged or foreign folder makes the readers of four libraries raise errors of many kinds.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(f"The model '{name}' cannot be loaded: {reason}") from error
        # Quantised weights have other names and shapes in memory than in the files.
        if isinstance(model, Path) and not {"quantization_config", "variant"} & given.keys():
            for part in {"transformer", "vae"} - given.keys():
                check_weights(model, part, getattr(pipeline, part))
        if "scheduler" in given:
            pipeline._stored_scheduler = None
        return pipeline

    def settings(self, **overrides: Any) -> GenerationSettings:
        """Settings of a call: the library's defaults, replaced by the model's, replaced by what is given.

        Raises:
            SettingsError: An unknown name (the nearest one is offered) or a bad value.
        """
        return GenerationSettings.create(self.config.defaults, overrides)

    @property
    def encoders(self) -> Encoders:
        """The encoders and what the transformer takes, which need not be loaded."""
        return Encoders(
            self._transformer_config(),
            self._execution_device,
            self.dtype if self.transformer is None else self.transformer.dtype,
            self.text_encoder,
            self.tokenizer,
            self.image_encoder,
            self.image_processor,
            self.audio_encoder,
            self.audio_processor,
        )

    def _transformer_config(self) -> Any:
        if self.transformer is not None:
            return self.transformer.config
        # A pipeline of a folder or repository knows where it comes from; one made of parts has nowhere to look.
        return self.name_or_path and FantasyTalkingTransformer3DModel.complete_config(self.name_or_path)

    @property
    def autoencoder(self) -> VideoAutoencoder:
        """The VAE behind the interface that the pipeline uses."""
        if isinstance(self.vae, AutoencoderKLWan):
            return WanAutoencoder(self.vae)
        return self.vae  # type: ignore[no-any-return]

    @overload
    def __call__(
        self, image: list[ImageSource], audio: Speeches, settings: GenerationSettings | None = None, **arguments: Any
    ) -> list[TalkingVideo]: ...

    @overload
    def __call__(
        self, image: Images, audio: Speeches, settings: GenerationSettings | None = None, **arguments: Any
    ) -> TalkingVideo: ...

    @torch.no_grad()
    def __call__(
        self,
        image: Images,
        audio: Speeches,
        settings: GenerationSettings | None = None,
        *,
        progress: Progress | None = None,
        callback_on_step_end: StepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        previous: TalkingVideo | NDArray[np.uint8] | None = None,
        output: str | os.PathLike[str] | VideoOutput | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: OutputType | None = None,
        return_dict: bool = True,
        **overrides: Any,
    ) -> Any:
        """Make the portrait speak.

        Args:
            image: The portrait: a file, a PIL image, an array or a tensor, as `media.image.load_image` takes them; lists of portraits,
                speeches, prompts or generators make a batch.
            audio: The speech: a sound file, a video whose sound is used, an `Audio`, or (samples, sample_rate).
            settings: A complete record; None takes the model's defaults.
            progress: Shows stages and notes; None: progress bars where stderr is a terminal, else warnings for notes.
            callback_on_step_end: A `step_callback.StepEnd`; it may return tensors to go on with, and set `pipeline._interrupt` to stop.
            callback_on_step_end_tensor_inputs: Tensors that it is given, of `step_callback.TENSOR_INPUTS`.
            previous: A video of the same portrait and size, or its frames [n, H, W, 3] uint8, whose last `CONTINUED_FRAMES` frames the
                new one begins with; the new speech must begin that much before the end of the old one.
            output: New file, or `VideoOutput`, that the video is written to while it is decoded; None: none, see `TalkingVideo.save`.
            generator: Where the noise comes from, in place of a seed.
            prompt_embeds: Embeddings [B, l, d] in place of the prompt, from `encode_prompt`.
            negative_prompt_embeds: The same for the negative prompt.
            output_type: None returns `TalkingVideo`; a type of diffusers returns `FramesOutput`.
            return_dict: With an output type: whether to return a record or the tuple (frames,).
            overrides: Single settings by name, such as `steps=20`; `prompt` and `negative_prompt` may be lists.

        Returns:
            The video, as long as the speech to within a frame; a list of videos for a batch.

        Raises:
            InputError: Image, speech, a setting or another argument cannot be used.
            OutputError: The output cannot be written.
            OutOfMemory: The clip does not fit into memory.
        """
        with self._together():
            check_output_type(output_type)
            names = tensor_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs)
            text = TextEmbeddings(prompt_embeds, negative_prompt_embeds)
            cases, is_batch = cases_of(image, audio, settings_maker(self, settings), overrides, generator, text)
            told = checked_progress(progress, self._usual_progress)
            shift_given = settings is not None or "sigma_shift" in overrides
            target = None if output is None else VideoOutput.of(output)
            run = Run(told, shift_given, callback_on_step_end, names, previous, target, output_type != "latent")
        with memory_released(self), quick_switches():
            videos, latents = self._generate(cases, run)
        if output_type is not None:
            return frames_output(videos, latents, output_type, return_dict)
        return videos if is_batch else videos[0]

    def _generate(self, cases: list[Case], run: Run) -> tuple[list[TalkingVideo], list[Tensor]]:
        """The videos of some cases, and their latents [1, C, f, h, w]."""
        with self._together():
            run.check(len(cases))
            pairs = self._read_all(cases, run)
            short = [(case, parts) for case, parts in pairs if not is_long(self, case, parts[1])]
        videos, latents = make_clips(self, short, run) if short else ([], [])
        clips = iter(videos)
        with self._together():
            made = [
                long_video(self, case, *parts, run) if is_long(self, case, parts[1]) else next(clips)
                for case, parts in pairs
            ]
        return made, latents

    def _sample(self, clips: list[Clip], noise: Tensor, run: Run) -> list[Tensor]:
        """Denoise clips of one size to [1, C, f, h, w] each; benchmarks put other loops in its place."""
        return sample_clips(self, clips, noise, run)

    def _read_all(self, cases: list[Case], run: Run) -> list[tuple[Case, tuple[Portrait, Speech]]]:
        """Read what the cases need, and settle their settings."""
        self._interrupt, progress = False, run.progress
        # Nothing is left to read where it was read before this model was loaded.
        is_read = all(isinstance(case.image, Portrait) and isinstance(case.audio, Speech) for case in cases)
        with contextlib.nullcontext() if is_read else progress.stage("reading"):
            read = [self._read(case) for case in cases]
        settled = [
            self._settle(case, *one, run, f"Video {number}: " if len(cases) > 1 else "")
            for number, (case, one) in enumerate(zip(cases, read, strict=True), 1)
        ]
        return list(zip(settled, read, strict=True))

    def _settle(self, case: Case, portrait: Portrait, speech: Speech | LiveSpeech, run: Run, whose: str) -> Case:
        """A case with the settings that the model can follow; what was changed is told."""
        check_text(case, self.transformer.config.text_dim)
        if run.output is not None:
            check_signing(case.settings)
        settings, changes = effective_settings(self, case, portrait.check, run.shift_given)
        for note in (*portrait.notes, *speech.notes, *changes):
            run.progress.note(whose + note)
        return dataclasses.replace(case, settings=settings)

    def _read(self, case: Case) -> tuple[Portrait, Speech]:
        return self._read_portrait(case), load_speech(case.audio, case.settings, self.rules)

    def _read_portrait(self, case: Case) -> Portrait:
        uses_identity = self.transformer.config.identity_dim is not None and case.settings.identity_scale > 0
        return load_portrait(case.image, case.settings, self.rules, uses_identity or self.rules.needs_face)
