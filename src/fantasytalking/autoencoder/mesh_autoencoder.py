"""The embedded model's reference-guided autoencoder: a face-mesh motion codec, a warp of the portrait, a mouth painter.

It implements the same interface as Wan's VAE, so that transformer and pipeline need not know which of the two they work with. Encoding
keeps motion only (nothing of the source face's appearance), so that one person's motion fits another; decoding moves the photo's own
pixels, so the result has the photo's size and sharpness.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.hooks import apply_group_offloading
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder.dubbed_clip import DubbedMotion
from fantasytalking.autoencoder.interface import Beginning, Reference, from_uint8, to_uint8
from fantasytalking.autoencoder.lids import draw_blinks
from fantasytalking.autoencoder.mesh_codec import LIDS, MeshCodec, smooth_over_time
from fantasytalking.autoencoder.mesh_segments import CONTEXT, FADE_FRAMES, SOON, TRAVEL, MeshSegmentDecoder, ShownMotion
from fantasytalking.autoencoder.opening_readings import drawn_openings
from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.autoencoder.render import Renderer, render, warper_of
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.geometry import Strides
from fantasytalking.perception.landmarks import face_mesh, track_mesh
from fantasytalking.perception.mouth_view import eye_distance
from fantasytalking.system.prefetching import in_background

LID_NOISE = 0.04  # of a closure: lids that are closed or open to within this are so


class _Prepared(NamedTuple):
    """What decoding needs of a portrait, however it moves.

    Attributes:
        warper: Moves its pixels; for one video, as each frame's map is found from that of the frame before.
        openings: How wide its mouth must be drawn, see `drawn_openings`.
    """

    warper: PortraitWarper
    openings: tuple[Tensor, Tensor]


class MeshAutoencoder(ModelMixin, ConfigMixin):
    """Autoencoder between videos and the motion latents of `MeshCodec`, guided by the portrait.

    Args:
        coefficients: Number of expression coefficients kept (PCA).
        latent_height: Rows of cells of the face canvas.
        latent_width: Columns of cells of the face canvas.
        stride: Canvas pixels per cell; the lip mask is drawn on the canvas at this ratio.
        painter_widths: Channels of the mouth painter's levels.
        painter_crop: Side of the mouth painter's crop in pixels; models without it in their config have 128.
        fps: Frame rate at which blinks are drawn.
        max_turn: Largest head rotation away from the portrait in radians; a flat photo cannot be turned credibly beyond it.
        max_deviations: Limit of the expression coefficients, in standard deviations of the training set.
        expression_smoothing: Standard deviation of the Gaussian over time that smooths expression on decoding, in frames.
        pose_smoothing: The same for head pose. A head has mass; what shakes faster is noise that the sampler left.
        face_gains: How much wider than usual the mouth opens at intensities `w_face` that are evenly spaced from 0 to 1; none: always
            as wide as usual. The transformer follows the intensities only in part, see `training.embedded.intensity_gains`.
        body_gains: The same for the motion of the head and `w_body`.
    """

    config_name = "config.json"
    _keep_in_fp32_modules: ClassVar[list[str]] = ["codec"]  # and on the CPU, see `MeshCodec`
    moves_as_a_whole: ClassVar[bool] = True
    """Whether offload by layers must leave it alone: accelerate would put the codec's buffers on the device one by one."""

    @register_to_config
    def __init__(
        self,
        coefficients: int = 24,
        latent_height: int = 6,
        latent_width: int = 4,
        stride: int = 16,
        painter_widths: tuple[int, ...] = (32, 48, 64, 96),
        painter_crop: int = 128,
        fps: float = 25.0,
        max_turn: float = 0.3,
        max_deviations: float = 4.0,
        expression_smoothing: float = 0.4,
        pose_smoothing: float = 2.0,
        face_gains: tuple[float, ...] = (),
        body_gains: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.codec = MeshCodec(coefficients, latent_height, latent_width, stride)
        self.painter = MouthPainter(tuple(painter_widths), painter_crop)
        self._known: tuple[weakref.ref[Reference] | None, list[tuple[NDArray[np.uint8], NDArray[np.float32]]]] = (
            None,
            [],
        )
        self._prepared: tuple[weakref.ref[Reference], Future[_Prepared]] | None = None

    def enable_group_offload(self, onload_device: torch.device, **choices: Any) -> None:
        """Offload the painter by groups, as diffusers does; the codec stays on the CPU, with its values.

        Args:
            onload_device: Where the painter computes.
            choices: Of `diffusers.hooks.apply_group_offloading`.
        """
        apply_group_offloading(self.painter, onload_device, **choices)

    @property
    def strides(self) -> Strides:
        """Strides of the latents: 4 in time; the canvas does not depend on the portrait's size."""
        return self.codec.strides

    @property
    def latent_channels(self) -> int:
        """Number of latent channels, 16: four displacement fields for each of a group's four frames."""
        return self.codec.channels

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C, f, h, w) of the latents; h and w are those of the canvas, whatever the portrait's size."""
        return self.latent_channels, self.strides.latent_frames(num_frames), self.codec.height, self.codec.width

    def _portraits(self, reference: Reference) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Portraits and their meshes, found once for all that is done with a reference."""
        known, found = self._known
        if known is None or known() is not reference:
            images = to_uint8(reference.images)
            faces = reference.faces or (None,) * len(images)
            found = [(image, face_mesh(image, face).points) for image, face in zip(images, faces, strict=True)]
            self._known = weakref.ref(reference), found
        return found

    def prepare(self, reference: Reference) -> None:
        """Begin what decoding a video of the first portrait needs, in a thread, while speech is encoded and latents are sampled.

        Raises:
            FaceError: There is no face in a portrait.
        """
        image, mesh = self._portraits(reference)[0]
        # what is not used goes with its portrait: the enlarged photo takes up to 64 MB
        self._prepared = weakref.ref(reference, self._forget), in_background(lambda: self._prepare(image, mesh))

    def _forget(self, _: object) -> None:
        self._prepared = None

    @torch.no_grad()
    def _prepare(self, image: NDArray[np.uint8], mesh: NDArray[np.float32]) -> _Prepared:
        return _Prepared(warper_of(image, mesh), drawn_openings(image, mesh, self.codec, self.painter))

    def _take_prepared(self, reference: Reference) -> _Prepared:
        """What decoding needs of a portrait, as it was prepared, or made here."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared[0]() is reference:
            return prepared[1].result()
        return self._prepare(*self._portraits(reference)[0])

    @torch.no_grad()
    def encode(self, video: Tensor, reference: Reference) -> Tensor:
        """Encode videos: [B, 3, F, H, W] in [-1, 1] -> [B, 16, f, h, w]; the face is tracked through each clip.

        Raises:
            FaceError: There is no face in a portrait or in a clip.
        """
        latents = []
        for i, (clip, (_, mesh)) in enumerate(zip(video, self._portraits(reference), strict=True)):
            points, _ = track_mesh(to_uint8(clip.movedim(0, 1)))
            parameters = self.codec.parameters_of(torch.from_numpy(points), torch.from_numpy(mesh))
            latents.append(self.codec.to_latents(self.codec.unshown(parameters, self._gains(reference, i))[None]))
        return torch.cat(latents).to(video.device)

    @property
    def audio_channels(self) -> Tensor:
        """Channels that speech guides, [16]: those of expression, not those of head pose (see `MeshCodec.audio_channels`)."""
        return self.codec.audio_channels

    @torch.no_grad()
    def condition(self, reference: Reference, num_frames: int, beginning: Beginning | None = None) -> Tensor:
        """Make the image latents: mask of the given frames, the portrait's shape in every frame, and its expression in the first.

        With a `beginning` the first k latent frames are given, and their motion is added to the shape there.

        Returns:
            [B, 20, f, h, w].
        """
        latents = torch.zeros(len(reference.images), *self.latent_shape(num_frames, *reference.images.shape[-2:]))
        meshes = [torch.from_numpy(mesh) for _, mesh in self._portraits(reference)]
        given = 1
        if beginning is None:
            gains = (self._gains(reference, i) for i in range(len(meshes)))
            still = [self.codec.unshown(self.codec.still(m), g) for m, g in zip(meshes, gains, strict=True)]
            latents[:, :, :1] = self.codec.to_latents(torch.stack(still)[:, None])
        else:
            given = beginning.latents.shape[2]
            latents[:, :, :given] = beginning.latents.cpu()
        shapes = [self.codec.shape_cells_of(mesh) for mesh in meshes]
        rows = [self.codec.condition(shape, own, given) for shape, own in zip(shapes, latents, strict=True)]
        return torch.stack(rows).to(reference.images.device)

    def enliven(self, latents: Tensor, seed: int, w_face: float, given: int, first: int = 0) -> Tensor:
        """Draw blinks, at a person's rate, in place of what the transformer made of the lids; see `autoencoder.lids`."""
        frames = self.strides.num_frames(latents.shape[2])
        blinks = torch.from_numpy(draw_blinks(frames, self.config.fps, seed, w_face, first))
        closure = blinks[:, None].expand(-1, 2)
        rows = torch.stack([self.codec.with_lids(row.float().cpu(), closure) for row in latents]).to(latents)
        return torch.cat([latents[:, :, :given], rows[:, :, given:]], 2)

    def decode(self, latents: Tensor, reference: Reference) -> Tensor:
        """Decode latents: [B, 16, f, h, w] -> [B, 3, F, H, W] in [-1, 1] at the portrait's own size."""
        faces, told = reference.faces, reference.intensities
        clips = []
        for i, sample in enumerate(latents):
            one = Reference(reference.images[i : i + 1], None if faces is None else faces[i : i + 1])
            one = one if told is None else replace(one, intensities=told[i : i + 1])
            clips.append(from_uint8(np.stack(list(self.decode_frames(sample[None], one)))).movedim(0, 1))
        return torch.stack(clips)

    @torch.no_grad()
    def decode_frames(
        self,
        latents: Tensor,
        reference: Reference,
        continued: bool = False,
        aside: bool = True,
        count: int | None = None,
    ) -> Iterator[NDArray[np.uint8]]:
        """Decode one sample and give its frames as they are made; the first is the portrait, unless the video is `continued`.

        Yields:
            uint8 [H, W, 3].

        Raises:
            FaceError: There is no face in the portrait.
        """
        ((image, mesh),) = self._portraits(reference)
        parameters = self.codec.shown(self.codec.from_latents(latents.float().cpu())[0], self._gains(reference))
        parameters = self.limited(ShownMotion(continued).next(parameters, 0))
        if not continued:
            # The video begins with the portrait: what the sampler left on the given frame fades out.
            left = parameters[:1] - self.codec.still(torch.from_numpy(mesh))
            left[:, -LIDS:] = 0.0
            parameters = parameters - torch.exp(-torch.arange(len(parameters)) / FADE_FRAMES)[:, None] * left
        prepared = self._take_prepared(reference)
        parameters = self.codec.with_openings(parameters, *prepared.openings)
        moved = self.codec.points_of(parameters, torch.from_numpy(mesh)).numpy()
        yield from render(image, mesh, moved, self.painter, aside, prepared.warper, count)

    def segment_decoder(
        self, reference: Reference, overlap: int, continued: bool, aside: bool, soon: bool = False
    ) -> MeshSegmentDecoder:
        """A decoder of one long video; see `autoencoder.segment_decoder`.

        Raises:
            FaceError: There is no face in the portrait.
        """
        ((image, mesh),) = self._portraits(reference)
        prepared = self._take_prepared(reference)
        renderer = Renderer(image, mesh, self.painter, TRAVEL * eye_distance(mesh), prepared.warper)
        return MeshSegmentDecoder(
            self.codec,
            renderer,
            prepared.openings,
            self.limited,
            mesh,
            overlap,
            continued,
            aside,
            SOON if soon else CONTEXT,
            self._gains(reference),
        )

    def motion_decoder(self, reference: Reference, overlap: int) -> DubbedMotion:
        """A decoder that keeps the motion of a long video's segments, for dubbing; see `autoencoder.dub_interface`."""
        return DubbedMotion(self.codec, self.painter, self.limited, overlap, self._gains(reference))

    def _gains(self, reference: Reference, number: int = 0) -> tuple[float, float]:
        """Gains of openings and head motion, see `MeshCodec.shown`, for one of a reference's videos."""
        if reference.intensities is None:
            return 1.0, 1.0
        curves = zip(reference.intensities[number], (self.config.face_gains, self.config.body_gains), strict=True)
        face, body = (
            round(float(np.interp(value, np.linspace(0, 1, len(gains)), gains)), 6) if gains else 1.0
            for value, gains in curves
        )
        return face, body

    def limited(self, parameters: Tensor) -> Tensor:
        """Limit motion to what the training set and a single photo allow, and smooth out jitter."""
        k = self.config.coefficients
        bound = self.config.max_deviations * self.codec.coefficient_std
        expression = torch.maximum(torch.minimum(parameters[:, :k], bound), -bound)
        limit = self.config.max_turn
        turn = limit * torch.tanh(parameters[:, k : k + 3] / limit)
        zoom_and_shift = 0.5 * torch.tanh(parameters[:, k + 3 : -LIDS] / 0.5)
        pose = smooth_over_time(torch.cat([turn, zoom_and_shift], -1), self.config.pose_smoothing)
        lids = ((parameters[:, -LIDS:] - LID_NOISE) / (1 - 2 * LID_NOISE)).clamp(0, 1)
        return torch.cat([smooth_over_time(expression, self.config.expression_smoothing), pose, lids], -1)
