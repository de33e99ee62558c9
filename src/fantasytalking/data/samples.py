"""Samples and batches of a training step, and the dropout of conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fantasytalking.conditioning.audio_windows import window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition
from fantasytalking.geometry import TIME_STRIDE


@dataclass(frozen=True)
class Sample:
    """One clip in the form in which the transformer is trained on it. Letters as in the transformer.

    Attributes:
        latents: Clean latents [C, f, h, w].
        condition: Latents of the portrait, 4 mask channels and C latent channels [4 + C, f, h, w].
        lip_mask: Lip-tracing mask [1, f, h, w], 0..1.
        text: Text embedding [l, dt].
        audio: Speech features of exactly the clip's duration [t, d], or None.
        image: Image embedding [li, di], or None.
        identity: Face embedding [e], or None.
        motion: Motion intensities w_face and w_body [2], 0..1, or None.
        name: Clip and position that it was cut from, for reports.
    """

    latents: Tensor
    condition: Tensor
    lip_mask: Tensor
    text: Tensor
    audio: Tensor | None = None
    image: Tensor | None = None
    identity: Tensor | None = None
    motion: Tensor | None = None
    name: str = ""


@dataclass(frozen=True)
class Batch:
    """Collated samples of one size, after the dropout of conditions.

    Attributes:
        latents: Clean latents [B, C, f, h, w].
        condition: Latents of the portraits [B, 4 + C, f, h, w]; zero where dropped.
        lip_mask: Lip-tracing masks [B, 1, f, h, w], 0..1.
        conditions: Everything else that the transformer is given.
    """

    latents: Tensor
    condition: Tensor
    lip_mask: Tensor
    conditions: Conditions

    def to(self, device: torch.device) -> Batch:
        """Copy of the batch on a device."""
        return Batch(
            self.latents.to(device), self.condition.to(device), self.lip_mask.to(device), self.conditions.to(device)
        )


def _stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [t for t in tensors if t is not None]
    return torch.stack(present) if len(present) == len(tensors) and present else None


def collate(samples: Sequence[Sample], mode: str, identity_scale: float, kept: Tensor) -> Batch:
    """Join samples of one size and drop conditions.

    Per sample, dropped audio or identity gets scale 0, a dropped prompt or image embedding becomes zeros, and a dropped portrait means
    a zero condition (mask included) and no identity.

    Args:
        samples: Samples of equal latent size.
        mode: "clip" (stage 1) or "frame" (stage 2).
        identity_scale: Scale lambda_2 of the paper.
        kept: Draws [B, 3]: 0 where reference, audio or text is dropped, 1 elsewhere.
    """
    keep_reference, keep_audio, keep_text = kept.unbind(1)
    latents = torch.stack([s.latents for s in samples])
    condition = torch.stack([s.condition for s in samples]) * keep_reference.view(-1, 1, 1, 1, 1)
    text = torch.stack([s.text for s in samples]) * keep_text.view(-1, 1, 1)
    image = _stack([s.image for s in samples])
    identity = _stack([s.identity for s in samples])
    conditions = Conditions(
        text=text,
        image=None if image is None else image * keep_reference.view(-1, 1, 1),
        audio=_collate_audio([s.audio for s in samples], latents.shape[2], mode, keep_audio),
        identity=None if identity is None else IdentityCondition(identity, identity_scale * keep_reference),
        motion=_stack([s.motion for s in samples]),
    )
    return Batch(latents, condition, torch.stack([s.lip_mask for s in samples]), conditions)


def _collate_audio(
    features: Sequence[Tensor | None], latent_frames: int, mode: str, scale: Tensor
) -> AudioCondition | None:
    present = [f for f in features if f is not None]
    if not present or len(present) < len(features):
        return None
    lengths = torch.tensor([len(f) for f in present])
    padded = torch.nn.utils.rnn.pad_sequence(list(present), batch_first=True)
    if mode == "clip":
        return AudioCondition(padded, None, lengths, scale)
    num_frames = (latent_frames - 1) * TIME_STRIDE + 1
    ranges = torch.stack([window_ranges(len(f), num_frames) for f in present])
    return AudioCondition(padded, ranges, lengths, scale)
