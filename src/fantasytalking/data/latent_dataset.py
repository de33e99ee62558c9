"""Training samples of a model with a fixed video autoencoder: windows of latents that were computed when the set was prepared.

The autoencoder is causal, so the latents of a window's first 4k-3 frames are exactly the first k latent frames of the whole window, and
the same holds for the first-frame condition: shorter windows need no computation. Speech is cut with the video: a shorter window has the
speech tokens of its own duration. (The speech network was given the whole window, whereas at inference it is given the clip; the features
differ slightly, as they do for every window of a longer recording.)

Letters: f latent frames, h x w latent size, C latent channels, t speech tokens, l text tokens, d widths.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fantasytalking.conditioning.speech_features import SAMPLE_RATE, SAMPLES_PER_TOKEN
from fantasytalking.data.motion_dataset import IntensityScale
from fantasytalking.data.prepared_set import PreparedSet, intensity
from fantasytalking.data.samples import Sample
from fantasytalking.data.set_records import ClipRow
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.geometry import NATIVE_FPS, Strides
from fantasytalking.pipeline.encoders import TEXT_TOKENS

__all__ = ["LatentDataset", "Prefix", "Window", "speech_tokens"]

Size = tuple[int, int, int]
_WAV2VEC2_LEAD = 80
"""Samples by which the window of a wav2vec2 feature (400) exceeds its step (320), so that the last step may give no feature."""


@dataclass(frozen=True)
class Prefix:
    """Windows that continue a previous segment: their first latent frames are given, not only the portrait (long video).

    In those frames the condition has mask 1 and the clean latents; the portrait, as the image encoder saw it, is from another window of
    the clip if there is one. After the given frames the condition keeps the latents of zeros after the *first* frame; the pipeline's own
    condition encodes zeros after all given frames, which differs in the few latent frames within the autoencoder's memory.

    Attributes:
        share: Share of such windows, 0..1.
        longest: Maximum number of given latent frames; the number is drawn uniformly from 1 to this. The pipeline gives 3 (9 frames).
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
    """Key of a sample.

    Attributes:
        clip: Index of the clip in the data set.
        frames: Number of latent frames to use.
    """

    clip: int
    frames: int


def speech_tokens(frames: int, fps: float, tokens: int, window: int) -> int:
    """Number of speech tokens for the first `frames` frames of a window.

    Args:
        frames: Number of frames, at most `window`.
        fps: Frames per second.
        tokens: Tokens t of the whole window, which identify the encoder: wav2vec2 omits the last, incomplete one.
        window: Frames of the whole window.
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
        prepared: Prepared set with latents.
        split: "train" or "val".
        text_dim: Width of the text embedding, for sets without one.
        text_tokens: Text tokens l that the model takes; None means 512 if the set has text, else 1.
        image: Whether samples have the image embedding; a model without an image encoder takes none.
        identity: Whether samples have the face embedding; a model without an identity module takes none.
        motion: Whether samples have motion intensities; a model without a motion network takes none.
        prefix: Windows that continue a previous segment.

    Raises:
        InputError: The set has no latents, or no clip of the split.
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
        self.fps = float(self.prepared.manifest.model.frame_rate or self.rows[0].fps or NATIVE_FPS)
        self.sizes = [self._size(row) for row in self.rows]
        self.intensity: IntensityScale | None = intensity(self.prepared) if self.motion else None

    @property
    def fingerprint(self) -> str:
        """Checksum of the data; a run is not resumed on other data."""
        return self.prepared.fingerprint

    def draw(self, key: Window, rng: np.random.Generator) -> Sample:
        """Draw one window of a clip; `rng` selects the window and decides whether it is a continuation."""
        clip = self.rows[key.clip].key
        arrays = self.prepared.arrays(clip)
        count = len(self.prepared.array(arrays, clip, "window_starts", (None,)))
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
        """Make the sample of one window.

        Args:
            clip: Index of the clip.
            arrays: Arrays of the clip.
            number: Index of the window.
            frames: Number of latent frames k to use, from the first on.
            given: Number of latent frames that the condition shows.
            portrait: Index of the window whose first frame the image encoder saw; None takes this window.
        """
        key, size = self.rows[clip].key, self.sizes[clip]

        def array(name: str, *shape: int | None) -> Tensor:
            return self.prepared.array(arrays, key, name, shape)

        latents = array(f"latents.{number}", None, *size)[:, :frames].float()
        condition = array(f"condition.{number}", None, *size)[:, :frames].float()
        masks = condition.shape[0] - latents.shape[0]
        if given > 1:
            condition[:masks, :given] = 1
            condition[masks:, :given] = latents[:, :given]
        speech = array(f"speech.{number}", None, None).float()
        whole = int(array("window_frames", None)[number])
        tokens = speech_tokens(Strides().num_frames(frames), self.fps, len(speech), whole)
        shown = f"image.{number if portrait is None else portrait}"
        image = array(shown, None, None).float() if self.image and shown in arrays else None
        return Sample(
            latents=latents,
            condition=condition,
            lip_mask=array(f"lip_mask.{number}", 1, *size)[:, :frames].float(),
            text=self._text(array("text", None, None) if "text" in arrays else None),
            audio=speech[:tokens],
            image=image,
            identity=array("embedding", None).float() if self.identity else None,
            motion=None if self.intensity is None else self.intensity(array(f"motion.{number}", 2)),
            name=f"{key}@{int(arrays['window_starts'][number])}",
        )

    def _text(self, stored: Tensor | None) -> Tensor:
        """Embedding of the caption, padded with zeros like the output of the text encoder."""
        if stored is None:
            return torch.zeros(self.text_tokens or 1, self.text_dim)
        return F.pad(stored.float(), (0, 0, 0, (self.text_tokens or TEXT_TOKENS) - len(stored)))

    def _size(self, row: ClipRow) -> Size:
        """Latent frames, rows and columns of a clip's windows."""
        if row.latent_size is not None:
            return row.latent_size
        # Only for small sets without stored sizes, as reading many arrays is slow.
        arrays = self.prepared.arrays(row.key, ("latents.0",))
        if "latents.0" not in arrays:
            raise InputError(
                f"The prepared set '{self.prepared.folder}' holds no latents (it was made for the model "
                f"{self.prepared.manifest.model.name}); prepare it with --model FOLDER of a pipeline with Wan's autoencoder."
            )
        f, h, w = arrays["latents.0"].shape[1:]
        return f, h, w
