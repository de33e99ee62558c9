"""Training data of the mouth painter: pairs of frames of one clip, one warped to the other's mesh."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.mouth_crops import (
    CROP,
    SMALLEST,
    Windows,
    crop_transform,
    draw_lips,
    lips_in_crop,
    take_crop,
)
from fantasytalking.autoencoder.warp import PortraitWarper
from fantasytalking.data.face_tracks import TRACK_FPS
from fantasytalking.data.motion_dataset import PreparedTrack
from fantasytalking.errors import InputError
from fantasytalking.media.video import read_frames
from fantasytalking.perception.landmarks import mouth_opening
from fantasytalking.pipeline.progress import stage
from fantasytalking.system.files import atomic_path

__all__ = ["Frames", "MouthPair", "MouthPairs", "clip_pairs", "collect_pairs", "frames_in"]


Pixels = NDArray[np.uint8]


class MouthPair(NamedTuple):
    """One pair, S being the side of the crops.

    Attributes:
        warped: Crop of the reference frame warped to the target mesh [S, S, 3].
        portrait: Crop of the reference frame [S, S, 3].
        target: Crop of the target frame [S, S, 3].
        lips: Outlines of the target's lips, inner and outer [2, 20, 2].
        own_lips: The same of the reference frame, in its crop.
        scale: Scale of the crops.
    """

    warped: Pixels
    portrait: Pixels
    target: Pixels
    lips: NDArray[np.float32]
    own_lips: NDArray[np.float32]
    scale: float


@dataclass(frozen=True)
class MouthPairs:
    """Cached pairs: crops as JPEG files in one array of bytes, mouths as outlines; 6,500 pairs take about 300 MB.

    Attributes:
        images: All JPEG files one after another, [bytes] uint8.
        ends: Where each file ends, [files].
        warped: Number of the file with the reference frame warped to the target mesh [N].
        portrait: Number of the file with the reference frame [N].
        target: Number of the file with the target frame [N].
        lips: Outlines of the target's lips, inner and outer, in crop pixels [N, 2, 20, 2].
        own_lips: The same of the reference frame, in its crop.
        scales: Scale of the crops of each pair [N].
        side: Side of the crops in pixels, [] int.
    """

    images: NDArray[np.uint8]
    ends: NDArray[np.int64]
    warped: NDArray[np.int64]
    portrait: NDArray[np.int64]
    target: NDArray[np.int64]
    lips: NDArray[np.float32]
    own_lips: NDArray[np.float32]
    scales: NDArray[np.float32]
    side: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.warped)

    @classmethod
    def of(cls, rows: Sequence[MouthPair]) -> MouthPairs:
        """Pack pairs; a portrait that several pairs in a row share is stored once."""
        files: list[NDArray[np.uint8]] = []
        numbers: list[tuple[int, int, int]] = []
        last: Pixels | None = None
        for row in rows:
            if row.portrait is not last:
                last, own = row.portrait, len(files)
                files.append(_encoded(last))
            numbers.append((len(files), own, len(files) + 1))
            files += [_encoded(row.warped), _encoded(row.target)]
        warped, portrait, target = np.array(numbers, np.int64).T
        ends = np.cumsum([len(file) for file in files])
        lips, own_lips = (np.stack([getattr(row, name) for row in rows]) for name in ("lips", "own_lips"))
        scales, side = np.array([row.scale for row in rows], np.float32), np.array(rows[0].warped.shape[0])
        return cls(np.concatenate(files), ends, warped, portrait, target, lips, own_lips, scales, side)

    def crops(self, name: str, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Crops [n, side, side, 3] of the pairs `index`; `name` is warped, portrait or target."""
        numbers = getattr(self, name)[index]
        begins = np.concatenate([[0], self.ends])
        return np.stack([_decoded(self.images[begins[n] : self.ends[n]]) for n in numbers])

    def masks(self, index: NDArray[np.int64], windows: Windows) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Masks of the target meshes [n, 3, h, w] and inner mouths of the reference frames [n, h, w] in windows of the crops."""
        size, scaled = (windows.width, windows.height), int(self.side) * self.scales[index]
        lips, own = (
            (part[index] - windows.corners[:, None, None]).astype(np.float32) for part in (self.lips, self.own_lips)
        )
        drawn, inner = (
            np.stack([draw_lips(outline, size, float(each)) for outline, each in zip(part, scaled, strict=True)])
            for part in (lips, own)
        )
        return drawn, inner[:, 0]

    def save(self, path: Path) -> None:
        """Write an uncompressed npz file, which appears complete or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        with atomic_path(path, overwrite=True) as temporary, temporary.open("wb") as file:
            np.savez(file, **{part.name: getattr(self, part.name) for part in fields(self)})

    @classmethod
    def load(cls, path: Path) -> MouthPairs:
        """Read pairs that `save` wrote; the format has checksums, so damage is noticed.

        Raises:
            InputError: The file cannot be read or is damaged.
        """
        try:
            with np.load(path) as stored:
                pairs = cls(*(stored[part.name] for part in fields(cls)))
            if (
                len(
                    {
                        len(getattr(pairs, part.name))
                        for part in fields(cls)
                        if part.name not in ("images", "ends", "side")
                    }
                )
                != 1
            ):
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


def _encoded(crop: Pixels) -> NDArray[np.uint8]:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, file = cv2.imencode(".jpg", crop[..., ::-1], quality)
    assert done
    return np.asarray(file, np.uint8).ravel()


def _decoded(file: NDArray[np.uint8]) -> Pixels:
    image = cv2.imdecode(file, cv2.IMREAD_COLOR)
    assert image is not None  # the archive's checksums have been compared
    return np.ascontiguousarray(image[..., ::-1], np.uint8)


Frames = Callable[[PreparedTrack, int], NDArray[np.uint8]]
"""Type of a reader: track and maximum number of frames -> first frames of its video at `TRACK_FPS`, [F, H, W, 3] RGB."""


def frames_in(folder: Path) -> Frames:
    """Make a reader of videos that are stored in a folder under the tracks' names."""
    return lambda track, count: read_frames(folder / track.name, fps=TRACK_FPS, max_frames=count)[0]


def clip_pairs(
    read: Frames, track: PreparedTrack, count: int, rng: np.random.Generator, side: int = CROP
) -> Iterator[MouthPair]:
    """Make pairs from one clip.

    Reference frames are taken in turn from the quarter with the most closed and the quarter with the most open mouths. Of each reference's
    four targets one has a wide open mouth, one a closed one, where there is most to paint, and two are any frames.

    The warp is to the target's own mesh, so that the outlines that the painter is given lie where the target's lips are.
    """
    # a track may begin late in its video
    last = min(max(400, track.first + 100), track.first + len(track.points))
    frames = read(track, last)[track.first :]
    points = track.points[: len(frames)]
    order = np.argsort(mouth_opening(points.numpy()))
    quarter = max(1, len(frames) // 4)
    closed, wide = order[:quarter], order[-quarter:]
    begin = int(rng.integers(2))
    for number in range(begin, begin + max(1, count // 4)):
        reference = int(rng.choice((closed, wide)[number % 2]))
        targets = [int(rng.choice(wide)), int(rng.choice(closed)), *rng.integers(0, len(frames), 2).tolist()]
        mesh = points[reference]
        moved = points[targets].numpy().astype(np.float32)
        own = mesh.numpy().astype(np.float32)
        scale = _scale(own, side, rng)
        at = crop_transform(own, side, scale)
        portrait = take_crop(frames[reference], at, (side, side))
        warped = PortraitWarper(frames[reference], own).frames(moved)
        for target, picture, meshed in zip(targets, warped, moved, strict=True):
            transform = crop_transform(meshed, side, scale)
            yield MouthPair(
                take_crop(picture, transform, (side, side)),
                portrait,
                take_crop(frames[target], transform, (side, side)),
                lips_in_crop(meshed, transform),
                lips_in_crop(own, at),
                scale,
            )


def _scale(mesh: NDArray[np.float32], side: int, rng: np.random.Generator) -> float:
    """Draw the scale at which the mouths of one reference are shown: from where a crop is as fine as its footage up to 1.

    Coarse footage stays sharp that way, and most pairs are about as fine as in use.
    """
    least = float(np.clip(1 / np.hypot(*crop_transform(mesh, side)[0, :2]), SMALLEST, 1))
    return float(least ** rng.uniform(0, 1))


def collect_pairs(read: Frames, tracks: Sequence[PreparedTrack], per_identity: int, seed: int = 0) -> MouthPairs:
    """Make the same number of pairs for every identity, from at most 12 of its clips.

    Args:
        read: Reader of the tracks' videos.
        tracks: Tracks of the training split.
        per_identity: Number of pairs for each identity.
        seed: Seed of the choice of clips and frames.

    Raises:
        InputError: There is no track.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, list[PreparedTrack]] = {}
    for track in tracks:
        groups.setdefault(track.identity, []).append(track)
    rows: list[MouthPair] = []
    with stage("mouth pairs", sum(min(12, len(group)) for group in groups.values())) as advance:
        for group in groups.values():
            chosen = [group[i] for i in rng.permutation(len(group))[:12]]
            for track in chosen:
                rows.extend(clip_pairs(read, track, max(4, per_identity // len(chosen)), rng))
                advance()
    if not rows:
        raise InputError("There is no face track to take mouths from; prepare videos with a face first.")
    return MouthPairs.of(rows)
