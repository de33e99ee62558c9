"""The pipeline: from portrait, speech and prompt to a talking video, one class for every size of model.

A call reads like the table of contents of the method: read the inputs, encode them, sample latents under three-way
guidance, decode. Whatever differs between models is in the model folder, never here.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline
from diffusers.loaders import WanLoraLoaderMixin
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.acceleration.apply_plan import advice_on_memory
from fantasytalking.autoencoder import Reference, VideoAutoencoder, WanAutoencoder, from_uint8
from fantasytalking.errors import CheckpointError, FantasyTalkingError, OutOfMemory
from fantasytalking.pipeline.continued_video import CONTINUED_FRAMES, encode_beginning
from fantasytalking.pipeline.encoders import Encoders, encode_conditions, encode_prompts
from fantasytalking.pipeline.guidance_passes import Guidance
from fantasytalking.pipeline.inputs import (
    AudioSource,
    ImageSource,
    Portrait,
    Speech,
    load_portrait,
    load_speech,
)
from fantasytalking.pipeline.model_folder import (
    LIBRARY,
    check_folder,
    check_weights,
    refuse_float8,
    register_components,
)
from fantasytalking.pipeline.model_names import is_cached, resolve_model, unreachable_model
from fantasytalking.pipeline.model_rules import ModelRules, with_rules
from fantasytalking.pipeline.noise_schedule import make_schedule
from fantasytalking.pipeline.portrait_face import held_back
from fantasytalking.pipeline.progress import Progress, default_progress
from fantasytalking.pipeline.sampling import Hooks, StepHook, continuation, denoise
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.talking_video import TalkingVideo, VideoOutput, collect_frames, written
from fantasytalking.system.execution_device import execution_device
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["CONTINUED_FRAMES", "FantasyTalkingPipeline", "StepEnd"]

StepEnd = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]
"""A callback as diffusers has it: (pipeline, step, timestep, {"latents": ...}) -> tensors to replace."""


register_components("FantasyTalkingTransformer3DModel", "MeshAutoencoder", "WhisperEncoder")


class FantasyTalkingPipeline(DiffusionPipeline, WanLoraLoaderMixin):
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
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]

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
        GenerationSettings.create(defaults or {})
        self.register_to_config(**dataclasses.asdict(self.rules), defaults=dict(defaults or {}))

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
        given = {"use_safetensors": True, "dtype": refuse_float8(options.pop("dtype", torch.float32)), **options}
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

    @property
    def _execution_device(self) -> torch.device:
        # diffusers' is that of the first component, which need not be the one that the latents go through.
        if self.transformer is None:
            return super()._execution_device  # type: ignore[no-any-return]
        return execution_device(self.transformer)

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

    @torch.no_grad()
    def __call__(
        self,
        image: ImageSource,
        audio: AudioSource,
        settings: GenerationSettings | None = None,
        *,
        progress: Progress | None = None,
        callback_on_step_end: StepEnd | None = None,
        previous: TalkingVideo | NDArray[np.uint8] | None = None,
        output: VideoOutput | None = None,
        **overrides: Any,
    ) -> TalkingVideo:
        """Make the portrait speak.

        Args:
            image: The portrait: a file, a PIL image, an array or a tensor, as `media.image.load_image` takes them.
            audio: The speech: a sound file, a video whose sound is used, an `Audio`, or (samples, sample_rate).
            settings: A complete record; None takes the model's defaults.
            progress: Shows stages and notes; None: progress bars where stderr is a terminal, else warnings for notes.
            callback_on_step_end: Called as diffusers does, `(pipeline, step, timestep, {"latents": ...})`; may return
                a dict with other latents.
            previous: A video of the same portrait and size that this one continues, or its frames [n, H, W, 3] uint8. The new video
                begins with its last `CONTINUED_FRAMES` frames, so the new speech must begin that much before the end of the old one;
                cut these frames from one of the two videos to join them.
            output: File that the video is written to while it is decoded; None: none, see `TalkingVideo.save`.
            overrides: Single settings by name, such as `steps=20`.

        Returns:
            The video, as long as the speech to within a frame.

        Raises:
            InputError: Image, speech or a setting cannot be used.
            OutputError: The output cannot be written.
            OutOfMemory: The clip does not fit into memory.
        """
        settings = self.settings(**overrides) if settings is None else settings.replace(**overrides)
        progress = progress or default_progress(getattr(self, "_progress_bar_config", {}).get("disable", False))
        try:
            return self._generate(image, audio, settings, progress, callback_on_step_end, previous, output)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"The clip does not fit into the memory of the device; {advice_on_memory(self)}"
            ) from error
        finally:
            self.maybe_free_model_hooks()

    def _generate(
        self,
        image: ImageSource,
        audio: AudioSource,
        settings: GenerationSettings,
        progress: Progress,
        callback: StepEnd | None,
        previous: TalkingVideo | NDArray[np.uint8] | None,
        output: VideoOutput | None,
    ) -> TalkingVideo:
        if isinstance(image, Portrait) and isinstance(audio, Speech):
            # read before this model was loaded
            portrait, speech = image, audio
        else:
            with progress.stage("reading"):
                portrait, speech = self._read(image, audio, settings)
        without_effect = self._without_effect(settings)
        settings, doubts = held_back(settings, self.settings(), portrait.check, self.transformer.config.motion)
        for note in (*portrait.notes, *doubts, *speech.notes, *without_effect):
            progress.note(note)
        reference = Reference(
            from_uint8(portrait.pixels)[None].to(self._execution_device),
            None if portrait.face is None else (portrait.face,),
        )
        with progress.stage("encoding"):
            encoders = self.encoders
            text, negative = encode_prompts(encoders, settings)
            conditions = encode_conditions(encoders, self.rules, portrait, speech, settings, text)
            guidance = Guidance.of_settings(settings, conditions, negative, self.autoencoder.audio_channels)
            beginning = None
            if previous is not None:
                beginning = encode_beginning(previous, speech.video_frames, reference, self.autoencoder)
            image_latents = self.autoencoder.condition(reference, speech.num_frames, beginning)
        shape = self.autoencoder.latent_shape(speech.num_frames, *portrait.pixels.shape[:2])
        known = None if beginning is None else beginning.latents
        latents = self._sample(shape, image_latents, guidance, settings, progress, callback, known)
        write_to = written(output, speech.fps, speech.soundtrack, progress)
        with write_to as write, progress.stage("decoding", speech.video_frames) as advance:
            frames = self._decode(latents, reference, speech.video_frames, advance, beginning is not None, write)
        return TalkingVideo(frames, speech.fps, speech.soundtrack, settings, tuple(progress.notes), progress.seconds)

    def _sample(
        self,
        shape: tuple[int, ...],
        image_latents: Tensor,
        guidance: Guidance,
        settings: GenerationSettings,
        progress: Progress,
        callback: StepEnd | None,
        known: Tensor | None,
    ) -> Tensor:
        """Draw noise of a shape (C, f, h, w) and denoise it to [1, C, f, h, w]; `known` are the first latents of a continued video."""
        # Drawn on the CPU, so that a seed means the same video on every device.
        noise = torch.randn(1, *shape, generator=torch.Generator("cpu").manual_seed(settings.seed))
        noise = noise.to(self._execution_device)
        schedule = make_schedule(self.scheduler, settings, noise.device)
        after_step: list[StepHook] = [] if known is None else [continuation(known, noise, schedule)]
        if callback is not None:
            after_step.append(lambda *seen: self._call_back(callback, *seen))
        hooks = Hooks(progress, tuple(after_step))
        latents = denoise(self.transformer, schedule, noise, image_latents, guidance, hooks)
        given = 0 if known is None else known.shape[2]
        return self.autoencoder.enliven(latents, settings.seed, settings.w_face, given)

    def _call_back(self, callback: StepEnd, step: int, timestep: Tensor, latents: Tensor) -> Tensor | None:
        return (callback(self, step, timestep, {"latents": latents}) or {}).get("latents")

    def _read(self, image: ImageSource, audio: AudioSource, settings: GenerationSettings) -> tuple[Portrait, Speech]:
        uses_identity = self.transformer.config.identity_dim is not None and settings.identity_scale > 0
        portrait = load_portrait(image, settings, self.rules, uses_identity or self.rules.needs_face)
        return portrait, load_speech(audio, settings, self.rules)

    def _decode(
        self,
        latents: Tensor,
        reference: Reference,
        video_frames: int,
        advance: Callable[[], None],
        continued: bool,
        write: Callable[[NDArray[np.uint8]], None] | None,
    ) -> NDArray[np.uint8]:
        frames = self.autoencoder.decode_frames(latents, reference, continued)
        return collect_frames(frames, video_frames, advance, write)

    def _without_effect(self, settings: GenerationSettings) -> list[str]:
        """A sentence for each setting that was changed although this model has no part that uses it."""
        usual, config = self.settings(), self.transformer.config
        parts = {
            "prompt": ("text encoder", self.text_encoder is not None),
            "w_face": ("motion network", config.motion),
            "w_body": ("motion network", config.motion),
            "identity_scale": ("identity module", config.identity_dim is not None),
        }
        return [
            f"This model has no {part}, so {name} has no effect."
            for name, (part, there) in parts.items()
            if not there and getattr(settings, name) != getattr(usual, name)
        ]
