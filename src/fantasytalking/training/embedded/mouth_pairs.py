"""Training data of the mouth painter: pairs of frames of one clip, one warped to the other's mesh."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.autoencoder.painter import crop_transform, draw_masks, take_crop
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.data.face_tracks import TRACK_FPS
from fantasytalking.data.motion_dataset import PreparedTrack
from fantasytalking.errors import InputError
from fantasytalking.media.video import read_frames
from fantasytalking.perception.landmarks import mouth_opening
from fantasytalking.pipeline.progress import stage
from fantasytalking.system.files import atomic_path

__all__ = ["Frames", "MouthPairs", "clip_pairs", "collect_pairs", "frames_in"]


@dataclass(frozen=True)
class MouthPairs:
    """Cached pairs, all uint8.

    Attributes:
        warped: Crops of the reference frames warped to the target meshes [N, 128, 128, 3].
        portrait: Crops of the reference frames [N, 128, 128, 3].
        target: Crops of the target frames [N, 128, 128, 3].
        masks: Masks of the target meshes [N, 3, 128, 128].
        inner: Inner mouths of the reference frames [N, 128, 128].
    """

    warped: NDArray[np.uint8]
    portrait: NDArray[np.uint8]
    target: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    inner: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.warped)

    def save(self, path: Path) -> None:
        """Write an uncompressed npz file, which appears complete or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        with atomic_path(path, overwrite=True) as temporary, temporary.open("wb") as file:
            np.savez(
                file, warped=self.warped, portrait=self.portrait, target=self.target, masks=self.masks, inner=self.inner
            )

    @classmethod
    def load(cls, path: Path) -> MouthPairs:
        """Read pairs that `save` wrote; the format has checksums, so damage is noticed.

        Raises:
            InputError: The file cannot be read or is damaged.
        """
        try:
            with np.load(path) as stored:
                pairs = cls(*(stored[part.name] for part in fields(cls)))
            if len({len(getattr(pairs, part.name)) for part in fields(cls)}) != 1:
                raise ValueError("its arrays are of different lengths")
        # A truncated or damaged archive is any of these, depending on the place.
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            NotImplementedError,
            BadZipFile,
            zlib.error,
        ) as error:
            raise InputError(
                f"The pairs {path} cannot be used ({error}); delete the file, and they are collected again."
            ) from error
        return pairs


Row = tuple[NDArray[np.uint8], ...]


Frames = Callable[[PreparedTrack, int], NDArray[np.uint8]]
"""Type of a reader: track and maximum number of frames -> first frames of its video at `TRACK_FPS`, [F, H, W, 3] RGB."""


def frames_in(folder: Path) -> Frames:
    """Make a reader of videos that are stored in a folder under the tracks' names."""
    return lambda track, count: read_frames(folder / track.name, fps=TRACK_FPS, max_frames=count)[0]


def clip_pairs(
    read: Frames, track: PreparedTrack, codec: MeshCodec, count: int, rng: np.random.Generator
) -> Iterator[Row]:
    """Make pairs from one clip; half of the targets are among the frames with the widest mouth, where there is most to paint.

    The target's mesh passes through the codec first, so that the painter sees the same kind of mesh in training as in use.
    """
    # a track may begin late in its video
    last = min(max(400, track.first + 100), track.first + len(track.points))
    frames = read(track, last)[track.first :]
    points = track.points[: len(frames)]
    opening = mouth_opening(points.numpy())
    wide = np.argsort(opening)[-max(1, len(frames) // 4) :]
    references = rng.integers(0, len(frames), max(1, count // 4))
    for reference in references:
        mesh = points[reference]
        warper = PortraitWarper(frames[reference], mesh.numpy())
        own = crop_transform(mesh.numpy())
        portrait, inner = take_crop(frames[reference], own), draw_masks(mesh.numpy(), own)[0]
        for i in range(4):
            target = int(rng.choice(wide) if i % 2 else rng.integers(len(frames)))
            moved = codec.points_of(codec.parameters_of(points[target : target + 1], mesh), mesh)[0].numpy()
            transform = crop_transform(moved)
            warped = take_crop(warper(moved), transform)
            yield warped, portrait, take_crop(frames[target], transform), draw_masks(moved, transform), inner


def collect_pairs(
    read: Frames, tracks: Sequence[PreparedTrack], codec: MeshCodec, per_identity: int, seed: int = 0
) -> MouthPairs:
    """Make the same number of pairs for every identity, from at most 12 of its clips.

    Args:
        read: Reader of the tracks' videos.
        tracks: Tracks of the training split.
        codec: The fitted codec.
        per_identity: Number of pairs for each identity.
        seed: Seed of the choice of clips and frames.

    Raises:
        InputError: There is no track.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, list[PreparedTrack]] = {}
    for track in tracks:
        groups.setdefault(track.identity, []).append(track)
    rows: list[Row] = []
    with stage("mouth pairs", sum(min(12, len(group)) for group in groups.values())) as advance:
        for group in groups.values():
            chosen = [group[i] for i in rng.permutation(len(group))[:12]]
            for track in chosen:
                rows.extend(clip_pairs(read, track, codec, max(4, per_identity // len(chosen)), rng))
                advance()
    if not rows:
        raise InputError("There is no face track to take mouths from; prepare videos with a face first.")
    return MouthPairs(*(np.stack(column) for column in zip(*rows, strict=True)))
