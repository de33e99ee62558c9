"""Training data of the mouth painter: pairs of frames of one clip, one moved to the other's mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from fantasytalking.system.files import atomic_path

__all__ = ["Frames", "MouthPairs", "clip_pairs", "collect_pairs", "frames_in"]


@dataclass(frozen=True)
class MouthPairs:
    """Cached pairs, uint8: crops [N, 128, 128, 3], masks [N, 3, 128, 128], portrait's inner mouth [N, 128, 128]."""

    warped: NDArray[np.uint8]
    portrait: NDArray[np.uint8]
    target: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    inner: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.warped)

    def save(self, path: Path) -> None:
        """Write an uncompressed npz; the file gets its name only when all is on disk."""
        with atomic_path(path, overwrite=True) as temporary, temporary.open("wb") as file:
            np.savez(
                file, warped=self.warped, portrait=self.portrait, target=self.target, masks=self.masks, inner=self.inner
            )

    @classmethod
    def load(cls, path: Path) -> MouthPairs:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return cls(*(stored[k] for k in ("warped", "portrait", "target", "masks", "inner")))


Row = tuple[NDArray[np.uint8], ...]


Frames = Callable[[PreparedTrack, int], NDArray[np.uint8]]
"""Track and largest number of frames -> the first frames of its video at `TRACK_FPS`, [F, H, W, 3] RGB."""


def frames_in(folder: Path) -> Frames:
    """Frames of videos that lie in a folder under the tracks' names."""
    return lambda track, count: read_frames(folder / track.name, fps=TRACK_FPS, max_frames=count)[0]


def clip_pairs(
    read: Frames, track: PreparedTrack, codec: MeshCodec, count: int, rng: np.random.Generator
) -> Iterator[Row]:
    """Pairs from one clip; half of the targets are among the frames with the most open mouth, where there is most to paint.

    The target's mesh goes through the codec first, so that the painter meets at training what it meets in use.
    """
    frames = read(track, min(400, track.first + len(track.points)))[track.first :]
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
    """The same number of pairs from every identity, from at most 12 of its clips.

    Args:
        read: the tracks' videos.
        tracks: of the training split.
        codec: fitted.
        per_identity: pairs.
        seed: of what is drawn.

    Raises:
        InputError: there is no track.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, list[PreparedTrack]] = {}
    for track in tracks:
        groups.setdefault(track.identity, []).append(track)
    rows: list[Row] = []
    for group in groups.values():
        chosen = [group[i] for i in rng.permutation(len(group))[:12]]
        for track in chosen:
            rows.extend(clip_pairs(read, track, codec, max(4, per_identity // len(chosen)), rng))
    if not rows:
        raise InputError("There is no face track to take mouths from; prepare videos with a face first.")
    return MouthPairs(*(np.stack(column) for column in zip(*rows, strict=True)))
