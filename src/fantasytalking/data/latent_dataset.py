"""Training samples of a model with a fixed video autoencoder: windows of latents that were made when the set was prepared.

The autoencoder is causal, so the latents of a window's first 4k-3 frames are the first k latent frames of the whole window's, exactly, and
so are those of the first-frame condition: shorter windows cost nothing. Speech moves with the video: a shorter window has the speech
tokens that its own time gives. (The speech network has heard the whole window, whereas in inference it hears the clip: the features
differ a little, as they do for every window of a longer recording.)

Letters: f latent frames, h x w latent size, C latent channels, t speech tokens, l text tokens, d widths.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fantasytalking.conditioning.speech_features import SAMPLE_RATE, SAMPLES_PER_TOKEN
from fantasytalking.data.motion_dataset import IntensityScale
from fantasytalking.data.prepared_set import PreparedSet, intensity
from fantasytalking.data.samples import Sample
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.geometry import Strides
from fantasytalking.pipeline.encoders import TEXT_TOKENS

__all__ = ["LatentDataset", "Prefix", "Window", "speech_tokens"]

Size = tuple[int, int, int]
_WAV2VEC2_LEAD = 80
"""Samples that wav2vec2's first feature takes beyond its 320: its windows of 400 samples give one feature less than there are steps."""


@dataclass(frozen=True)
class Prefix:
    """Windows that go on where a previous segment ended: their first latent frames are given, not only the portrait (long video).

    The condition then has mask 1 and the clean latents there; the portrait, as the image encoder saw it, is of another time of the clip
    where it has another window. What follows the given frames in the condition keeps the latents of zeros after the *first* frame; the
    pipeline's own condition encodes zeros after all given frames, which differs in the few latent frames that the autoencoder still
    remembers.

    Attributes:
        share: of the windows, 0..1.
        longest: most latent frames that are given; from 1 on, evenly. 3 are what the pipeline gives (9 frames).
    """

    share: float = 0.0
    longest: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.longest < 1:
            raise SettingsError(
                f"A prefix has a share from 0 to 1 and at least 1 latent frame, but share {self.share} and longest {self.longest} "
                "were given."
            )


@dataclass(frozen=True)
class Window:
    """Key of a sample: number of the clip in the data set, and latent frames that are used."""

    clip: int
    frames: int


def speech_tokens(frames: int, fps: float, tokens: int, window: int) -> int:
    """Speech tokens of the first `frames` frames of a window.

    Args:
        frames: wanted, at most `window`.
        fps: frames a second.
        tokens: t of the whole window, by which the encoders are told apart: wav2vec2 leaves the last, incomplete one out.
        window: frames of the whole window.
    """

    def samples(count: int) -> int:
        return round(count / fps * SAMPLE_RATE)

    if frames == window:
        return tokens
    if tokens == (samples(window) - _WAV2VEC2_LEAD) // SAMPLES_PER_TOKEN:
        return max(1, (samples(frames) - _WAV2VEC2_LEAD) // SAMPLES_PER_TOKEN)
    return max(1, round(samples(frames) / SAMPLES_PER_TOKEN))


@dataclass
class LatentDataset:
    """Windows of the clips of one split.

    Attributes:
        prepared: a set with latents.
        split: train or val.
        text_dim: width of the text embedding, for sets without one.
        text_tokens: l that the model wants; None: 512 where the set has text, else 1.
        image, identity, motion: whether the samples carry image embedding, face embedding and intensities; a model without such a part
            wants none.
        prefix: continuations.

    Raises:
        InputError: the set has no latents, or no clip of the split.
    """

    prepared: PreparedSet
    split: str = "train"
    text_dim: int = 4096
    text_tokens: int | None = None
    image: bool = True
    identity: bool = True
    motion: bool = True
    prefix: Prefix = field(default_factory=Prefix)

    def __post_init__(self) -> None:
        self.rows = self.prepared.clips(self.split)
        if not self.rows:
            raise InputError(
                f"The prepared set '{self.prepared.folder}' has no clip of the split {self.split}; prepare some, its report says why "
                "clips were dropped."
            )
        self.fps = float(self.prepared.manifest["model"].get("frame_rate") or self.rows[0]["fps"])
        self.sizes = [self._size(row) for row in self.rows]
        self.intensity: IntensityScale | None = intensity(self.prepared) if self.motion else None

    @property
    def fingerprint(self) -> str:
        """Checksum of the data: a run is not resumed on other data."""
        return self.prepared.fingerprint

    def draw(self, key: Window, rng: np.random.Generator) -> Sample:
        """One window of a clip: which one, and whether it is a continuation, decides `rng`."""
        arrays = self.prepared.arrays(self.rows[key.clip]["key"])
        count = len(arrays["window_starts"])
        number = int(rng.integers(count))
        given, portrait = 1, number
        if rng.random() < self.prefix.share:
            given = min(int(rng.integers(1, self.prefix.longest + 1)), key.frames)
            portrait = int(rng.integers(count))
        return self.window(key.clip, arrays, number, key.frames, given, portrait)

    def window(
        self,
        clip: int,
        arrays: dict[str, Tensor],
        number: int,
        frames: int,
        given: int = 1,
        portrait: int | None = None,
    ) -> Sample:
        """One window.

        Args:
            clip: its number.
            arrays: of the clip.
            number: of the window.
            frames: latent frames k that are used, from the first on.
            given: latent frames that the condition shows.
            portrait: window whose first frame the image encoder saw; None: this one.
        """
        latents = arrays[f"latents.{number}"][:, :frames].float()
        condition = arrays[f"condition.{number}"][:, :frames].float()
        masks = condition.shape[0] - latents.shape[0]
        if given > 1:
            condition[:masks, :given] = 1
            condition[masks:, :given] = latents[:, :given]
        speech = arrays[f"speech.{number}"].float()
        whole = int(arrays["window_frames"][number])
        tokens = speech_tokens(Strides().num_frames(frames), self.fps, len(speech), whole)
        image = arrays.get(f"image.{number if portrait is None else portrait}") if self.image else None
        motion = None if self.intensity is None else self.intensity(arrays[f"motion.{number}"])
        return Sample(
            latents=latents,
            condition=condition,
            lip_mask=arrays[f"lip_mask.{number}"][:, :frames].float(),
            text=self._text(arrays.get("text")),
            audio=speech[:tokens],
            image=None if image is None else image.float(),
            identity=arrays["embedding"].float() if self.identity else None,
            motion=motion,
            name=f"{self.rows[clip]['key']}@{int(arrays['window_starts'][number])}",
        )

    def _text(self, stored: Tensor | None) -> Tensor:
        """Embedding of the caption, padded with zeros as the text encoder's output is."""
        if stored is None:
            return torch.zeros(self.text_tokens or 1, self.text_dim)
        return F.pad(stored.float(), (0, 0, 0, (self.text_tokens or TEXT_TOKENS) - len(stored)))

    def _size(self, row: dict[str, Any]) -> Size:
        """(f, h, w) of a clip's windows."""
        if "latent_size" in row:
            f, h, w = row["latent_size"]
            return int(f), int(h), int(w)
        # sets of a few clips only: reading the arrays of many takes long
        arrays = self.prepared.arrays(row["key"], ("latents.0",))
        if "latents.0" not in arrays:
            raise InputError(
                f"The prepared set '{self.prepared.folder}' holds no latents (it was made for the model "
                f"{self.prepared.manifest['model'].get('name')}); prepare it with --model FOLDER of a pipeline with Wan's autoencoder."
            )
        f, h, w = arrays["latents.0"].shape[1:]
        return f, h, w
