"""The clips of a call, encoded, and those of one size joined to a batch that is denoised together.

Letters: B clips, C latent channels, f latent frames, h and w latent rows and columns, l text tokens, d their width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.acceleration.ranks import Ranks
from fantasytalking.autoencoder import Beginning, Reference, VideoAutoencoder, from_uint8
from fantasytalking.autoencoder.interface import prepare_decoding
from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.errors import InputError
from fantasytalking.pipeline.call_arguments import Case
from fantasytalking.pipeline.continued_video import CONTINUED_FRAMES, encode_beginning
from fantasytalking.pipeline.encoders import Encoders, encode_conditions
from fantasytalking.pipeline.guidance_passes import Guidance
from fantasytalking.pipeline.inputs import Portrait, Speech
from fantasytalking.pipeline.kept_footage import KeptFootage
from fantasytalking.pipeline.kept_steps import KeptSteps
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.step_callback import StepEnd
from fantasytalking.pipeline.talking_video import FrameSource, TalkingVideo, VideoOutput, take_frames, written
from fantasytalking.provenance.marks import Marks

__all__ = ["Clip", "Run", "alike", "check_text", "decoded", "encode_clip", "joined", "reference_of"]


@dataclass(frozen=True)
class Run:
    """What the clips of a call have in common besides settings.

    Attributes:
        progress: Shows stages and notes.
        shift_given: Whether the call names `sigma_shift`, and not only the defaults.
        callback: Called after each step, or None.
        tensor_names: Tensors that the callback is given.
        previous: The video that is continued, or None.
        output: The file to write, or None.
        decoded: Whether the latents are decoded.
        kept: Footage that shows outside the area that is dubbed, or None.
        steps: Keeps the steps of a sampling for the case that it is interrupted, or None.
    """

    progress: Progress
    shift_given: bool = False
    callback: StepEnd | None = None
    tensor_names: tuple[str, ...] = ("latents",)
    previous: TalkingVideo | NDArray[np.uint8] | None = None
    output: VideoOutput | None = None
    decoded: bool = True
    kept: KeptFootage | None = None
    steps: KeptSteps | None = None

    @property
    def previous_frames(self) -> NDArray[np.uint8] | None:
        """The last frames of the video that is continued."""
        if self.previous is None:
            return None
        if isinstance(self.previous, TalkingVideo):
            return self.previous.last_frames(CONTINUED_FRAMES)
        return np.asarray(self.previous[-CONTINUED_FRAMES:], np.uint8)

    def check(self, count: int) -> None:
        """Check that all this can be done for a number of clips.

        Raises:
            InputError: A video to continue or a file to write was given for several clips, or a file for latents.
        """
        if (count > 1 and (self.previous is not None or self.output is not None)) or (self.output and not self.decoded):
            raise InputError("previous and output belong to one decoded video; call the pipeline once for each video.")

    @property
    def aside(self) -> bool:
        """Whether a second thread may work beside this one."""
        return self.output is None or self.output.threads != 1


@dataclass(frozen=True)
class Clip:
    """One clip, ready to be sampled.

    Attributes:
        case: Its arguments, with settings that the model can follow.
        speech: The speech as read.
        reference: The portrait.
        conditions: Conditions of one sample.
        negative: [1, l, d] embeddings of the negative prompt; None where it does not differ from the prompt.
        image_latents: [1, 4 + C, f, h, w].
        shape: (C, f, h, w).
        beginning: Frames that it begins with, or None.
        marks: What its video is marked with.
    """

    case: Case
    speech: Speech
    reference: Reference
    conditions: Conditions
    negative: Tensor | None
    image_latents: Tensor
    shape: tuple[int, int, int, int]
    beginning: Beginning | None = None
    marks: Marks | None = None


def reference_of(portrait: Portrait, settings: GenerationSettings, device: torch.device) -> Reference:
    """The portrait of a video as autoencoders take it."""
    faces = None if portrait.face is None else (portrait.face,)
    return Reference(from_uint8(portrait.pixels)[None].to(device), faces, ((settings.w_face, settings.w_body),))


def encode_clip(
    encoders: Encoders,
    autoencoder: VideoAutoencoder,
    rules: ModelRules,
    case: Case,
    portrait: Portrait,
    speech: Speech,
    prompts: tuple[Tensor, Tensor | None],
    run: Run,
    is_only: bool,
) -> Clip:
    """Encode portrait and speech of a clip.

    Args:
        encoders: Encoders of the model.
        autoencoder: Its autoencoder.
        rules: Its rules.
        case: Arguments of the clip, with settings that the model can follow.
        portrait: The portrait as read.
        speech: The speech as read.
        prompts: Text tokens of its prompt and negative prompt, from `encode_prompts`.
        run: What the clips of the call have in common.
        is_only: Whether it is the only clip of the call.
    """
    reference = reference_of(portrait, case.settings, encoders.device)
    if is_only and run.decoded and run.aside:
        prepare_decoding(autoencoder, reference)
    text, negative = prompts
    conditions = encode_conditions(encoders, rules, portrait, speech, case.settings, text)
    beginning = None
    if run.previous is not None:
        beginning = encode_beginning(run.previous, speech.video_frames, reference, autoencoder)
    image_latents = autoencoder.condition(reference, speech.num_frames, beginning)
    shape = autoencoder.latent_shape(speech.num_frames, *portrait.pixels.shape[:2])
    return Clip(case, speech, reference, conditions, negative, image_latents, shape, beginning)


def alike(clips: Sequence[Clip]) -> list[list[Clip]]:
    """The clips by size: those of one size and length can be denoised together."""
    groups: dict[tuple[int, ...], list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.shape, []).append(clip)
    return list(groups.values())


def joined(clips: Sequence[Clip], audio_channels: Tensor | None, ranks: Ranks | None = None) -> tuple[Guidance, Tensor]:
    """Guidance of B clips of one size, and their image latents [B, 4 + C, f, h, w].

    Args:
        clips: The clips; the scales are those of the first.
        audio_channels: [C], where guidance of speech beyond 1 acts; None: on all.
        ranks: Processes that share the guidance passes, or None.
    """
    conditions, negative = clips[0].conditions, clips[0].negative
    if len(clips) > 1:
        conditions = Conditions.cat([clip.conditions for clip in clips])
        if any(clip.negative is not None for clip in clips):
            # A prompt that equals its negative prompt is guided away from itself, which changes nothing.
            rows = [clip.conditions.text if clip.negative is None else clip.negative for clip in clips]
            negative = torch.cat(rows)
    guidance = Guidance.of_settings(clips[0].case.settings, conditions, negative, audio_channels, ranks)
    return guidance, torch.cat([clip.image_latents for clip in clips])


def check_text(case: Case, width: int) -> None:
    """Check the embeddings of a case against the model before anything is encoded.

    Raises:
        InputError: They have another width, or differ in length.
    """
    given = [one for one in (case.text.prompt, case.text.negative) if one is not None]
    for one in given:
        if one.shape[-1] != width:
            raise InputError(
                f"The prompt's embeddings are {one.shape[-1]} wide, and this model takes {width}; make them with its encode_prompt."
            )
    if len({one.shape[1] for one in given}) > 1:
        lengths = " and ".join(str(one.shape[1]) for one in given)
        raise InputError(
            f"prompt_embeds and negative_prompt_embeds have {lengths} tokens; pad them to one length, 512 as released."
        )


def decoded(autoencoder: VideoAutoencoder, clip: Clip, latents: Tensor, run: Run, writes: bool = True) -> TalkingVideo:
    """The finished video of a clip; without frames where they are not asked for.

    Args:
        autoencoder: The autoencoder.
        clip: The clip.
        latents: [1, C, f, h, w].
        run: What the clips of the call have in common.
        writes: Whether this process writes the output; where another does, this one decodes when it is asked for frames.
    """
    speech, progress, reference = clip.speech, run.progress, clip.reference
    size: tuple[int, int] = (int(reference.images.shape[-2]), int(reference.images.shape[-1]))

    def make(aside: bool = True) -> Iterator[NDArray[np.uint8]]:
        return autoencoder.decode_frames(latents, reference, clip.beginning is not None, aside, speech.video_frames)

    @torch.no_grad()
    def again() -> Iterator[NDArray[np.uint8]]:
        yield from itertools.islice(make(), speech.video_frames)

    source = FrameSource(speech.video_frames if run.decoded else 0, size, again)
    if run.decoded and (writes or run.output is None):
        kept: list[NDArray[np.uint8]] = []
        with (
            written(run.output, speech.fps, speech.soundtrack, progress, clip.marks) as write,
            progress.stage("decoding", speech.video_frames) as advance,
        ):
            take_frames(make(run.aside), speech.video_frames, advance, write or kept.append)
        if write is None:
            source = FrameSource.of(np.stack(kept))
    notes = tuple(progress.notes)
    settings, seconds = clip.case.settings, progress.seconds
    return TalkingVideo(source, speech.fps, speech.soundtrack, settings, notes, seconds, marks=clip.marks)
