"""The conditions of the transformer, everything that it is given besides noise and time, as one frozen record.

Letters: B batch, f latent frames, h and w token rows and columns of a latent frame, t speech tokens, l text tokens, li image tokens,
d width of a token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fantasytalking.conditioning.audio_windows import window_width
from fantasytalking.errors import InputError

Scale = float | torch.Tensor


@dataclass(frozen=True)
class AudioCondition:
    """Speech that the video follows.

    Attributes:
        features: [B, t, d] features of the speech encoder, not yet projected.
        ranges: int64 [B, f, 2] from `audio_windows.window_ranges`: each latent frame listens to its own window (frame
            mode, stage 2 and inference). None: all video tokens listen to the whole clip (clip mode, stage 1).
        lengths: int64 [B], number of real features of each clip; the rest is masked. None: all are real.
        scale: Weight of the audio attention, a number or [B]; 1 as trained, 0 is exactly "no audio".
        width: `audio_windows.window_width` of the ranges, found here while they are on the CPU: a model that reads it from its device
            waits for that device on each call, and is not compiled as one graph. None: not known, or clip mode.
        region: [B, h, w] share of each video token that hears this speech, in every latent frame. None: all tokens hear it.
        others: Speech of other people who are seen, each with a region of its own; a token hears the sum of what reaches it.
    """

    features: torch.Tensor
    ranges: torch.Tensor | None = None
    lengths: torch.Tensor | None = None
    scale: Scale = 1.0
    width: int | None = None
    region: torch.Tensor | None = None
    others: tuple[AudioCondition, ...] = ()

    def __post_init__(self) -> None:
        if self.ranges is not None and self.ranges.device.type == "cpu" and self.ranges.numel():
            object.__setattr__(self, "width", window_width(self.ranges))
        batch = self.features.shape[0]
        _check("audio.features [B, t, d]", self.features, (batch, None, None))
        _check("audio.ranges [B, f, 2]", self.ranges, (batch, None, 2))
        _check("audio.lengths [B]", self.lengths, (batch,))
        _check_scale("audio.scale [B]", self.scale, batch)
        _check("audio.region [B, h, w]", self.region, (batch, None, None))
        if self.others:
            _check_voices(self.voices)

    @property
    def voices(self) -> tuple[AudioCondition, ...]:
        """The speech of each person by itself, this one first."""
        return (dataclasses.replace(self, others=()), *self.others) if self.others else (self,)

    @property
    def is_off(self) -> bool:
        """Whether it is exactly "no audio": all scales are the number 0."""
        return all(isinstance(voice.scale, int | float) and voice.scale == 0 for voice in self.voices)

    @staticmethod
    def together(voices: Sequence[AudioCondition]) -> AudioCondition:
        """Speech of several people as one condition."""
        return dataclasses.replace(voices[0], others=tuple(voices[1:]))

    def map(self, function: Callable[[AudioCondition], AudioCondition]) -> AudioCondition:
        """The same with the speech of each person replaced by what a function makes of it."""
        return AudioCondition.together([function(voice) for voice in self.voices])


@dataclass(frozen=True)
class IdentityCondition:
    """Face whose identity the video keeps.

    Attributes:
        embedding: [B, e] unit-length face embedding.
        scale: Weight of the identity attention, a number or [B]; 0.5 in the paper.
    """

    embedding: torch.Tensor
    scale: Scale = 0.5

    def __post_init__(self) -> None:
        batch = self.embedding.shape[0]
        _check("identity.embedding [B, e]", self.embedding, (batch, None))
        _check_scale("identity.scale [B]", self.scale, batch)


@dataclass(frozen=True)
class Conditions:
    """Conditions of a batch; `replace(conditions, audio=None)` makes those of a guidance branch.

    Attributes:
        text: [B, l, dt] text embeddings. Wan does not mask their padding, so l matters: the released model needs 512,
            padded with zeros.
        image: [B, li, di] image embeddings of the portrait. None: the model has no image attention, or it is off.
        audio: Speech. None is the same as audio scale 0.
        identity: Face. None is the same as identity scale 0.
        motion: [B, 2] intensities (face, body) in 0..1. None: nothing is added to the timestep embedding.
    """

    text: torch.Tensor
    image: torch.Tensor | None = None
    audio: AudioCondition | None = None
    identity: IdentityCondition | None = None
    motion: torch.Tensor | None = None

    def __post_init__(self) -> None:
        batch = self.text.shape[0]
        _check("text [B, l, d]", self.text, (batch, None, None))
        _check("image [B, l, d]", self.image, (batch, None, None))
        _check("motion [B, 2]", self.motion, (batch, 2))
        if self.audio is not None:
            _check("audio.features [B, t, d]", self.audio.features, (batch, None, None))
        if self.identity is not None:
            _check("identity.embedding [B, e]", self.identity.embedding, (batch, None))

    @property
    def batch_size(self) -> int:
        """Number of samples B."""
        return self.text.shape[0]

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> Conditions:
        """Copy on a device; embeddings and features are also cast to `dtype`, scales and intensities keep their type."""

        def cast(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device=device, dtype=dtype, non_blocking=non_blocking)

        def move(value: object) -> object:
            return value.to(device=device, non_blocking=non_blocking) if isinstance(value, torch.Tensor) else value

        changes: dict[str, object] = {"text": cast(self.text), "motion": move(self.motion)}
        if self.image is not None:
            changes["image"] = cast(self.image)
        if self.audio is not None:
            changes["audio"] = self.audio.map(
                lambda voice: dataclasses.replace(
                    voice,
                    features=cast(voice.features),
                    **{name: move(getattr(voice, name)) for name in ("ranges", "lengths", "scale", "region")},  # type: ignore[arg-type]
                )
            )
        if self.identity is not None:
            scale = move(self.identity.scale)
            changes["identity"] = IdentityCondition(cast(self.identity.embedding), scale)  # type: ignore[arg-type]
        return replace(self, **changes)

    @staticmethod
    def cat(parts: Sequence[Conditions]) -> Conditions:
        """Concatenate batches of different clips or guidance branches.

        Speech of different lengths is padded and masked; the rows of a part without audio or identity get scale 0.

        Raises:
            InputError: Nothing is given, or the parts differ in text length, in having an image or intensities, or
                in their audio mode.
        """
        if not parts:
            raise InputError("There are no conditions to join; give at least one.")
        texts = {part.text.shape[1:] for part in parts}
        if len(texts) > 1:
            raise InputError(f"Joined conditions must have one text length and width, but have {sorted(texts)}.")
        return Conditions(
            text=torch.cat([part.text for part in parts]),
            image=_cat_or_none("image", [part.image for part in parts]),
            audio=_cat_audio(parts),
            identity=_cat_identity(parts),
            motion=_cat_or_none("motion", [part.motion for part in parts]),
        )


def replace(conditions: Conditions, **changes: object) -> Conditions:
    """A copy with some fields changed; a misspelt name is a TypeError."""
    return dataclasses.replace(conditions, **changes)  # type: ignore[arg-type]


def with_tensor_scales(conditions: Conditions) -> Conditions:
    """The same with scales [B] as tensors; audio and identity whose scale is the number 0 are left out."""
    audio, identity, batch = conditions.audio, conditions.identity, conditions.batch_size
    if audio is not None:
        audio = (
            None
            if audio.is_off
            else audio.map(lambda one: dataclasses.replace(one, scale=scale_rows(one.scale, batch, one.features)))
        )
    if identity is not None:
        is_off = isinstance(identity.scale, int | float) and identity.scale == 0
        scale = scale_rows(identity.scale, batch, identity.embedding)
        identity = None if is_off else dataclasses.replace(identity, scale=scale)
    return replace(conditions, audio=audio, identity=identity)


def scale_rows(scale: Scale, batch: int, like: torch.Tensor) -> torch.Tensor:
    """A scale as float32 [B] on the device of `like`."""
    return torch.as_tensor(scale, dtype=torch.float32, device=like.device).expand(batch)


def _cat_audio(parts: Sequence[Conditions]) -> AudioCondition | None:
    """Joined audio: the first person's of all parts, the second's, and so on, as far as any part has them."""
    voices = [() if part.audio is None else part.audio.voices for part in parts]
    count = max(map(len, voices), default=0)
    joined = []
    for number in range(count):
        one = [
            replace(part, audio=own[number] if number < len(own) else None)
            for part, own in zip(parts, voices, strict=True)
        ]
        joined.append(_cat_voice(one))
    return AudioCondition.together(joined) if joined else None


def _cat_voice(parts: Sequence[Conditions]) -> AudioCondition:
    present = [part.audio for part in parts if part.audio is not None]
    frames = {None if audio.ranges is None else audio.ranges.shape[1] for audio in present}
    if len(frames) > 1:
        raise InputError(
            f"Joined audio must have one mode and one number of latent frames, but has {frames} (None is clip mode)."
        )
    longest, widths = max(audio.features.shape[1] for audio in present), [audio.width for audio in present]
    rows = [_audio_rows(part, present[0], longest) for part in parts]
    return AudioCondition(
        features=torch.cat([row.features for row in rows]),
        ranges=_cat_or_none("audio.ranges", [row.ranges for row in rows]),
        lengths=_cat_or_none("audio.lengths", [row.lengths for row in rows]),
        scale=torch.cat([scale_rows(row.scale, row.features.shape[0], row.features) for row in rows]),
        width=None if None in widths else max(width for width in widths if width is not None),
        region=_cat_regions(rows),
    )


def _audio_rows(part: Conditions, like: AudioCondition, longest: int) -> AudioCondition:
    """The audio of one part, padded to `longest` features with explicit lengths; silent rows where it has none."""
    batch = part.batch_size
    if part.audio is None:
        ranges = None if like.ranges is None else like.ranges.new_zeros(batch, *like.ranges.shape[1:])
        lengths = torch.zeros(batch, dtype=torch.int64, device=like.features.device)
        return AudioCondition(like.features.new_zeros(batch, longest, like.features.shape[2]), ranges, lengths, 0.0)
    features = part.audio.features
    count = features.shape[1]
    given = part.audio.lengths
    real = torch.full((batch,), count, device=features.device) if given is None else given.to(torch.int64)
    return dataclasses.replace(part.audio, features=F.pad(features, (0, 0, 0, longest - count)), lengths=real)


def _cat_regions(rows: Sequence[AudioCondition]) -> torch.Tensor | None:
    """Joined regions; rows that have none hear everywhere, as do all where no row has any."""
    like = next((row.region for row in rows if row.region is not None), None)
    if like is None:
        return None
    regions = [
        like.new_ones(row.features.shape[0], *like.shape[1:]) if row.region is None else row.region for row in rows
    ]
    if len({region.shape[1:] for region in regions}) > 1:
        raise InputError(
            f"Joined regions must be of one size, but are {sorted({tuple(one.shape[1:]) for one in regions})} [h, w]."
        )
    return torch.cat(regions)


def _check_voices(voices: Sequence[AudioCondition]) -> None:
    """Check that speech of several people belongs to the same clips, and that each has a region."""
    batch, first = voices[0].features.shape[0], voices[0]
    frames = [None if voice.ranges is None else voice.ranges.shape[1] for voice in voices]
    if any(voice.others for voice in voices[1:]) or any(voice.features.shape[0] != batch for voice in voices):
        raise InputError("Speech of several people must be of the same clips, and hold no further people's itself.")
    if any(voice.region is None for voice in voices) or len(set(frames)) > 1:
        raise InputError(
            "Speech of several people needs a region for each of them, and one mode and number of latent frames, but the latent frames "
            f"are {frames} (None is clip mode)."
        )
    if len({voice.region.shape for voice in voices if voice.region is not None}) > 1:
        assert first.region is not None
        raise InputError(f"All regions must have the size {tuple(first.region.shape[1:])} [h, w] of the first.")


def _cat_identity(parts: Sequence[Conditions]) -> IdentityCondition | None:
    present = [part.identity for part in parts if part.identity is not None]
    if not present:
        return None
    like = present[0].embedding
    rows = [
        part.identity or IdentityCondition(like.new_zeros(part.batch_size, like.shape[1]), scale=0.0) for part in parts
    ]
    return IdentityCondition(
        embedding=torch.cat([row.embedding for row in rows]),
        scale=torch.cat([scale_rows(row.scale, row.embedding.shape[0], row.embedding) for row in rows]),
    )


def _cat_or_none(name: str, tensors: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    if present and len(present) < len(tensors):
        raise InputError(f"Joined conditions must all have `{name}` or none of them, but only some have it.")
    return torch.cat(present) if present else None


def _check(name: str, tensor: torch.Tensor | None, shape: tuple[int | None, ...]) -> None:
    if tensor is None:
        return
    fits = tensor.ndim == len(shape) and all(
        want is None or got == want for got, want in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        wanted = tuple("any" if side is None else side for side in shape)
        raise InputError(f"Condition {name} must have the shape {wanted}, but has {tuple(tensor.shape)}.")


def _check_scale(name: str, scale: Scale, batch: int) -> None:
    if isinstance(scale, torch.Tensor) and scale.shape not in ((), (batch,)):
        raise InputError(f"Condition {name} must be a number or hold {batch} numbers, but has {tuple(scale.shape)}.")
