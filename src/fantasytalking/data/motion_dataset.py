"""Training samples of the embedded model, cut from cached face tracks.

Draws depend only on the given generator; speech and face are always cut and stretched together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fantasytalking.autoencoder.mesh_codec import LIDS, POSE_DIMENSIONS, MeshCodec, MeshMotion, smooth_over_time
from fantasytalking.conditioning.audio_windows import resample_features
from fantasytalking.data.face_tracks import TRACK_FPS, FaceTrack
from fantasytalking.data.identity_sampler import IdentitySampler
from fantasytalking.data.lip_mask import lip_mask_to_latents
from fantasytalking.data.samples import Sample
from fantasytalking.geometry import AUDIO_TOKEN_RATE
from fantasytalking.perception.landmarks import lip_mask

SPEECH_PER_FRAME = int(AUDIO_TOKEN_RATE / TRACK_FPS)
RANKS = 21
"""Number of percentiles of an `IntensityScale`, in steps of 5 %."""
_FLIP = torch.tensor([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Augmentation:
    """Augmentation to compensate for few identities; all zeros leave the windows unchanged (validation).

    Attributes:
        mirror: Probability of a left-right mirror.
        tempo: Maximum relative change of speed; speech and face are stretched together.
        speech_noise: Standard deviation of noise on speech features (their own is about 0.8).
        identity_noise: Standard deviation of noise on the unit-norm face embedding, relative to the size of its components.
    """

    mirror: float = 0.5
    tempo: float = 0.1
    speech_noise: float = 0.1
    identity_noise: float = 0.5


NO_AUGMENTATION = Augmentation(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Continuation:
    """Windows that continue a previous segment: their first latent frames are given, not only the portrait.

    Attributes:
        share: Share of such windows, 0..1.
        longest: Maximum number of given latent frames; the number is drawn uniformly from 1 to this.
        reach: Maximum number of frames between the portrait and the window, in which the face may move away from the portrait's position.
    """

    share: float = 0.0
    longest: int = 4
    reach: int = 150


NO_CONTINUATION = Continuation()


@dataclass(frozen=True)
class DescribedTrack:
    """Motion of a track in the codec's terms.

    Attributes:
        motion: Head pose of every frame (and its expression relative to the template).
        expression: Coefficients [F, K] relative to the person with closed lips, from the whole clip.
        told: Coefficients [F, K] as a single frame tells them: what is known of a portrait.
        cells: Shape with closed lips, as cells [F, part, 2 H W].
    """

    motion: MeshMotion
    expression: Tensor
    told: Tensor
    cells: Tensor

    @classmethod
    def of(cls, points: Tensor, codec: MeshCodec) -> DescribedTrack:
        """Describe meshes [F, 468, 3] in pixels."""
        local = codec.local_shape(points)[0]
        return cls(
            codec.describe(points),
            codec.clip_expression(local),
            codec.expression_of(local),
            codec.shape_cells_of(points),
        )


@dataclass
class PreparedTrack:
    """A track that is smoothed and in sync.

    Attributes:
        name: File name of the clip.
        identity: Name of the person in the clip.
        kind: "real" or "generated".
        points: Smoothed mesh [F, 468, 3] in pixels.
        speech: Speech features [t, d] at 50 Hz.
        embedding: Face embedding [e].
        first: Index of the video frame (at `TRACK_FPS`) that `points` begins with.
    """

    name: str
    identity: str
    kind: str
    points: Tensor
    speech: Tensor
    embedding: Tensor
    first: int = 0
    _described: dict[bool, DescribedTrack] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.points)

    def described(self, codec: MeshCodec, mirror: Tensor | None) -> DescribedTrack:
        """Motion and shape of every frame; computed once and cached.

        Args:
            codec: The fitted codec.
            mirror: Index of each point's mirror image [468]; None describes the track as it is.
        """
        key = mirror is not None
        if key not in self._described:
            points = self.points if mirror is None else self.points[:, mirror] * _FLIP
            self._described[key] = DescribedTrack.of(points, codec)
        return self._described[key]


def prepare(track: FaceTrack, offset: int = 0) -> PreparedTrack:
    """Smooth the mesh and bring speech and face into sync.

    Args:
        track: The cached measurements.
        offset: Frames by which the face lags behind the speech; the speech is delayed by as many.
    """
    # Removes jitter of the mesh network but keeps closures of the lips that last for two frames.
    points = smooth_over_time(torch.from_numpy(track.points), 0.5)
    speech = torch.from_numpy(track.speech.astype(np.float32))
    shift = offset * SPEECH_PER_FRAME
    if shift > 0:
        points = points[offset:]
        speech = speech[: len(speech) - shift]
    elif shift < 0:
        speech = speech[-shift:]
    frames = min(len(points), len(speech) // SPEECH_PER_FRAME)
    return PreparedTrack(
        track.info.file,
        track.info.identity,
        track.info.kind,
        points[:frames].contiguous(),
        speech[: frames * SPEECH_PER_FRAME],
        torch.from_numpy(track.embedding),
        track.first + max(0, offset),
    )


class MotionDataset:
    """Windows of tracks as `Sample`s.

    Args:
        tracks: Prepared tracks of one split.
        codec: The fitted codec.
        num_frames: Frames of a window, 4n+1; shorter tracks are left out.
        intensity: Maps raw window motion [2] to intensities in 0..1.
        augmentation: See `Augmentation`.
        generated_weight: How often an identity of generated footage is drawn, relative to a real one.
        text: Embedding of the empty prompt [l, dt].
        identity: Whether samples have the face embedding; a model without an identity module takes none.
        continuation: Which windows continue a previous segment.
        motion: Whether samples have motion intensities; a model without a motion network takes none.

    Attributes:
        people: The tracks, drawn by identity.
        least: Frames that a track needs.
    """

    def __init__(
        self,
        tracks: Sequence[PreparedTrack],
        codec: MeshCodec,
        num_frames: int,
        intensity: IntensityScale,
        augmentation: Augmentation,
        generated_weight: float,
        text: Tensor,
        identity: bool = True,
        continuation: Continuation = NO_CONTINUATION,
        motion: bool = True,
    ) -> None:
        self.continuation, self.motion = continuation, motion
        self.codec, self.num_frames, self.intensity = codec, num_frames, intensity
        self.augmentation, self.text, self.identity = augmentation, text, identity
        self.least = math.ceil(num_frames * (1 + augmentation.tempo) + 2)
        self.people = IdentitySampler([track for track in tracks if len(track) >= self.least], generated_weight)
        self.mirror = mirror_of(codec)
        self.mask = canvas_lip_mask(codec, codec.strides.latent_frames(num_frames))

    def draw(self, rng: np.random.Generator) -> Sample:
        """Draw one window."""
        track = self.people.draw(rng)
        aug = self.augmentation
        span = self.num_frames * float(np.exp(rng.uniform(-aug.tempo, aug.tempo)))
        start = int(rng.integers(0, max(1, int(len(track.points) - span - 1))))
        if rng.random() >= self.continuation.share:
            return self.window(track, start, span, rng)
        given = int(rng.integers(1, self.continuation.longest + 1))
        portrait = int(rng.integers(max(0, start - self.continuation.reach), start + 1))
        return self.window(track, start, span, rng, given, portrait)

    def window(
        self,
        track: PreparedTrack,
        start: int,
        span: float,
        rng: np.random.Generator | None = None,
        given: int = 1,
        portrait: int | None = None,
    ) -> Sample:
        """Make the sample of one window.

        Args:
            track: A track of this data set.
            start: First frame.
            span: Length in frames, which is stretched to `num_frames`.
            rng: Draws the augmentation; None applies none.
            given: Number of latent frames that the condition shows.
            portrait: Frame whose face is the portrait; None takes the first of the window, from which its head then moves.
        """
        aug = self.augmentation
        frames = round(span)
        mirror = self.mirror if rng is not None and rng.random() < aug.mirror else None
        described = track.described(self.codec, mirror)
        speech = track.speech[SPEECH_PER_FRAME * start : SPEECH_PER_FRAME * (start + frames)]
        embedding = track.embedding
        if rng is not None:
            speech = speech + aug.speech_noise * torch.from_numpy(rng.standard_normal(speech.shape, np.float32))
            noise = torch.from_numpy(rng.standard_normal(len(embedding), np.float32))
            embedding = F.normalize(embedding + aug.identity_noise * len(embedding) ** -0.5 * noise, dim=0)
        still = start if portrait is None else portrait
        pose = described.motion[start : start + frames].pose_relative_to(described.motion[still])
        pose = resample_features(pose, self.num_frames)
        if portrait is None:
            pose = pose - pose[:1]
        expression = resample_features(described.expression[start : start + frames], self.num_frames)
        # Lids stay out of it: blinks are drawn.
        parameters = torch.cat([expression, F.pad(pose, (0, LIDS))], -1)
        latents = self.codec.to_latents(parameters[None])[0]
        shown = latents
        if portrait is None:  # of a photo only what a single frame tells is known
            first = F.pad(described.told[start], (0, POSE_DIMENSIONS + LIDS))
            shown = torch.cat([self.codec.to_latents(first[None, None])[0], latents[:, 1:]], 1)
        return Sample(
            latents=latents,
            condition=self.codec.condition(described.cells[still], shown, given),
            lip_mask=self.mask,
            text=self.text,
            audio=resample_features(speech, self.num_frames * SPEECH_PER_FRAME),
            identity=embedding if self.identity else None,
            motion=self.intensity(window_motion(self.codec, parameters)) if self.motion else None,
            name=f"{track.name}@{start}",
        )


def window_motion(codec: MeshCodec, parameters: Tensor) -> Tensor:
    """Raw motion [2] of a window: variance over time of the mesh without head pose, and of the head pose.

    The first number is the variance of the landmarks after pose is removed, the second that of the six pose numbers, in units of the
    training set's standard deviations (in face crops the head is the visible part of the body). Paper, section 3.3.

    Args:
        codec: The fitted codec.
        parameters: Motion parameters [F, P] of the window.
    """
    k = codec.coefficients
    # Mean variance of the positions of the points, without computing the positions.
    face = (torch.cov(parameters[:, :k].T) * codec.gram).sum()
    body = (parameters[:, k : k + POSE_DIMENSIONS] / codec.pose_std[:POSE_DIMENSIONS]).var(0).mean()
    return torch.stack([face, body])


class IntensityScale:
    """Maps raw motion to 0..1 by the training set's percentiles: 0.5 is the median window.

    Args:
        percentiles: Rising values [n, 2] at evenly spaced ranks 0..1, for face and body.
    """

    def __init__(self, percentiles: Tensor) -> None:
        self.percentiles = percentiles

    def __call__(self, raw: Tensor) -> Tensor:
        """Intensities [2] of raw motion [2]."""
        ranks = np.linspace(0, 1, len(self.percentiles))
        values = [np.interp(float(raw[i]), self.percentiles[:, i].numpy(), ranks) for i in range(2)]
        return torch.tensor(values, dtype=torch.float32)

    @classmethod
    def fit(cls, raw: Tensor) -> IntensityScale:
        """Fit a scale to the raw motion [N, 2] of many training windows, by `RANKS` percentiles."""
        return cls(torch.quantile(raw, torch.linspace(0, 1, RANKS), dim=0))

    @classmethod
    def from_percentiles(cls, w_face: Sequence[float], w_body: Sequence[float]) -> IntensityScale:
        """Make a scale from stored percentiles, as in a prepared set or a model's motion_percentiles.json."""
        return cls(torch.tensor([w_face, w_body]).T.contiguous())

    def as_percentiles(self) -> dict[str, list[float]]:
        """Percentiles in the form in which they are stored: {"w_face", "w_body"}."""
        return {"w_face": self.percentiles[:, 0].tolist(), "w_body": self.percentiles[:, 1].tolist()}


def mirror_of(codec: MeshCodec) -> Tensor:
    """Index of each mesh point's mirror image [468], from the template."""
    mirrored = codec.template * _FLIP
    return torch.cdist(mirrored, codec.template).argmin(1)


def canvas_lip_mask(codec: MeshCodec, latent_frames: int) -> Tensor:
    """Make the lip-tracing mask on the codec's canvas [1, f, h, w], the same for every frame as the canvas moves with the face."""
    height, width = codec.height * codec.strides.height, codec.width * codec.strides.width
    pixels = torch.from_numpy(lip_mask(codec.layout.numpy(), height, width, dilate=0.1)).float()
    frames = (latent_frames - 1) * codec.strides.time + 1
    return lip_mask_to_latents(pixels.expand(1, frames, -1, -1), latent_frames, codec.height, codec.width)[0]
