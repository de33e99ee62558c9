"""Training samples of the embedded model, cut from cached face tracks.

The order is a pure function of seed and step; every window moves speech and face together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fantasytalking.autoencoder.mesh_codec import MeshCodec, MeshMotion, smooth_over_time
from fantasytalking.conditioning.audio_windows import resample_features
from fantasytalking.data.face_tracks import TRACK_FPS, FaceTrack
from fantasytalking.data.lip_mask import lip_mask_to_latents
from fantasytalking.data.samples import Sample
from fantasytalking.geometry import AUDIO_TOKEN_RATE
from fantasytalking.perception.landmarks import lip_mask

SPEECH_PER_FRAME = int(AUDIO_TOKEN_RATE / TRACK_FPS)
_FLIP = torch.tensor([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Augmentation:
    """Variety for few identities. Zero everywhere gives the plain windows (validation).

    Attributes:
        mirror: probability of a left-right mirror.
        tempo: largest relative change of speed; speech and face are stretched together.
        speech_noise: standard deviation of noise on speech features (their own is about 0.8).
        identity_noise: standard deviation of noise on the unit-norm face embedding, in units of its own component size.
    """

    mirror: float = 0.5
    tempo: float = 0.1
    speech_noise: float = 0.1
    identity_noise: float = 0.5


NO_AUGMENTATION = Augmentation(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Continuation:
    """Windows that go on where a previous segment ended: their first latent frames are given, not only the portrait.

    Attributes:
        share: of the windows, 0..1.
        longest: most latent frames that are given; from 1 on, evenly.
        reach: how many frames before the window the portrait may lie; the face is then not where the portrait has it.
    """

    share: float = 0.0
    longest: int = 4
    reach: int = 150


NO_CONTINUATION = Continuation()


@dataclass
class PreparedTrack:
    """A track in the codec's terms.

    Attributes:
        points: smoothed mesh [F, 468, 3] in pixels.
        speech: features [t, d] at 50 Hz.
        embedding: [e].
        first: number of the video frame (at `TRACK_FPS`) that `points` begins with.
    """

    name: str
    identity: str
    kind: str
    points: Tensor
    speech: Tensor
    embedding: Tensor
    first: int = 0
    _described: dict[bool, tuple[MeshMotion, Tensor]] = field(default_factory=dict, repr=False)

    def described(self, codec: MeshCodec, mirror: Tensor | None) -> tuple[MeshMotion, Tensor]:
        """Expression and pose of every frame and its shape as cells, plain or mirrored; computed once."""
        key = mirror is not None
        if key not in self._described:
            points = self.points if mirror is None else self.points[:, mirror] * _FLIP
            self._described[key] = codec.describe(points), codec.shape_cells_of(points)
        return self._described[key]


def prepare(track: FaceTrack, offset: int = 0) -> PreparedTrack:
    """Smooth the mesh and put speech and face in step.

    Args:
        track: the cached measurements.
        offset: frames by which the face lags behind the speech; the speech is delayed by as much.
    """
    # takes out the jitter of the mesh network, keeps syllables
    points = smooth_over_time(torch.from_numpy(track.points), 0.7)
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
        max(0, offset),
    )


class MotionDataset:
    """Windows of tracks as `Sample`s.

    Args:
        tracks: prepared tracks of one split.
        codec: fitted codec.
        num_frames: 4n+1 frames to a window; tracks shorter than that are left out.
        intensity: maps raw window motion [2] to intensities in 0..1.
        augmentation: see `Augmentation`.
        generated_weight: how often an identity of kind "generated" is drawn against a real one.
        text: embedding of the empty prompt [l, dt].
        identity: whether samples carry the face embedding; without it for models without an identity module.
        continuation: how many windows are continuations.
        motion: whether samples carry motion intensities; without them for models without a motion network.
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
        self.groups: dict[str, list[PreparedTrack]] = {}
        for track in tracks:
            if len(track.points) >= num_frames * (1 + augmentation.tempo) + 2:
                self.groups.setdefault(track.identity, []).append(track)
        self.names = sorted(self.groups)
        # the square root lets identities with more footage count more, but not in proportion
        weights = [
            (generated_weight if self.groups[n][0].kind == "generated" else 1.0)
            * sum(len(t.points) for t in self.groups[n]) ** 0.5
            for n in self.names
        ]
        self.weights = np.array(weights) / np.sum(weights)
        self.mirror = _mirror(codec)
        self.mask = canvas_lip_mask(codec, codec.strides.latent_frames(num_frames))

    def draw(self, rng: np.random.Generator) -> Sample:
        """One random window."""
        group = self.groups[self.names[rng.choice(len(self.names), p=self.weights)]]
        lengths = np.array([len(t.points) for t in group], float)
        track = group[rng.choice(len(group), p=lengths / lengths.sum())]
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
        """One window.

        Args:
            track: of this data set.
            start: first frame.
            span: frames that it lasts; they are stretched to `num_frames`.
            rng: draws the augmentation; None: none.
            given: latent frames that the condition shows.
            portrait: frame whose face is the portrait; None: the window's first, and the window begins with zero motion.
        """
        aug = self.augmentation
        frames = round(span)
        mirror = self.mirror if rng is not None and rng.random() < aug.mirror else None
        described, shapes = track.described(self.codec, mirror)
        motion = described[start : start + frames]
        speech = track.speech[SPEECH_PER_FRAME * start : SPEECH_PER_FRAME * (start + frames)]
        embedding = track.embedding
        if rng is not None:
            speech = speech + aug.speech_noise * torch.from_numpy(rng.standard_normal(speech.shape, np.float32))
            noise = torch.from_numpy(rng.standard_normal(len(embedding), np.float32))
            embedding = F.normalize(embedding + aug.identity_noise * len(embedding) ** -0.5 * noise, dim=0)
        still = start if portrait is None else portrait
        parameters = resample_features(motion.relative_to(described[still]), self.num_frames)
        if portrait is None:
            parameters = parameters - parameters[:1]
        latents = self.codec.to_latents(parameters[None])[0]
        return Sample(
            latents=latents,
            condition=self.codec.condition(shapes[still], latents, given),
            lip_mask=self.mask,
            text=self.text,
            audio=resample_features(speech, self.num_frames * SPEECH_PER_FRAME),
            identity=embedding if self.identity else None,
            motion=self.intensity(window_motion(self.codec, parameters)) if self.motion else None,
            name=f"{track.name}@{start}",
        )


def window_motion(codec: MeshCodec, parameters: Tensor) -> Tensor:
    """Raw motion [2] of a window's motion numbers [F, P]: variance over time of the pose-free mesh and of the head's pose.

    The face part is the variance of the landmarks after pose is taken out, the body part that of the head's six pose numbers in
    units of the training set's deviations (in face crops the head is the body's visible part). Paper, section 3.3.
    """
    k = codec.coefficients
    # mean over points of the variance of their positions, without making the positions
    face = (torch.cov(parameters[:, :k].T) * codec.gram).sum()
    body = (parameters[:, k:] / codec.pose_std).var(0).mean()
    return torch.stack([face, body])


class IntensityScale:
    """Raw motion -> 0..1 by the training set's percentiles: 0.5 is the median window.

    Args:
        percentiles: [n, 2] rising values at evenly spaced ranks 0..1, for face and body.
    """

    def __init__(self, percentiles: Tensor) -> None:
        self.percentiles = percentiles

    def __call__(self, raw: Tensor) -> Tensor:
        """Intensities [2] of raw motion [2]."""
        ranks = np.linspace(0, 1, len(self.percentiles))
        values = [np.interp(float(raw[i]), self.percentiles[:, i].numpy(), ranks) for i in range(2)]
        return torch.tensor(values, dtype=torch.float32)

    @classmethod
    def fit(cls, raw: Tensor, count: int = 21) -> IntensityScale:
        """From the raw motion [N, 2] of many training windows."""
        return cls(torch.quantile(raw, torch.linspace(0, 1, count), dim=0))


def _mirror(codec: MeshCodec) -> Tensor:
    """Index of each mesh point's mirror image [468], from the template."""
    mirrored = codec.template * _FLIP
    return torch.cdist(mirrored, codec.template).argmin(1)


def canvas_lip_mask(codec: MeshCodec, latent_frames: int) -> Tensor:
    """The lip-tracing mask on the codec's canvas [1, f, h, w]; the canvas moves with the face, so the mask stays put."""
    height, width = codec.height * codec.strides.height, codec.width * codec.strides.width
    pixels = torch.from_numpy(lip_mask(codec.layout.numpy(), height, width, dilate=0.1)).float()
    frames = (latent_frames - 1) * codec.strides.time + 1
    return lip_mask_to_latents(pixels.expand(1, frames, -1, -1), latent_frames, codec.height, codec.width)[0]
