"""Does the face stay who it is, and sharp? Embedding cosine between portrait and frames, with and without the module.

First frames of unseen validation clips are the portraits, each speaking another clip's words. In every frame the face
is searched anew, so that a face that falls apart counts as lost. Sharpness is the variance of the Laplacian over the
face's box, relative to the portrait's own: 1 is as sharp as the photo.

    python benchmarks/identity.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from clips import SAME_FACE, Sitter, choose_sitters
from common import Record, generation_settings, load_model, make_video, mean_and_error, option_parser, say, table
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.metrics.picture_statistics import laplacian_variance
from fantasytalking.perception.face_embedding import embed_face
from fantasytalking.perception.faces import Face, detect_faces
from fantasytalking.perception.landmarks import FACE_OVAL, face_mesh

WANTED = 0.98
"""Share of frames in which the face is to be found and to be the portrait's."""
_OVERHANG = 0.02


@dataclass(frozen=True)
class Look:
    """What one frame shows.

    Attributes:
        cosine: of the face's embedding with the portrait's; None where no face is found.
        sharpness: Laplacian variance of the face relative to the portrait's; None where no face is found.
        whole: whether no part of the face's outline leaves the picture that did not in the portrait.
    """

    cosine: float | None
    sharpness: float | None
    whole: bool

    @property
    def good(self) -> bool:
        """Found, and above `SAME_FACE`."""
        return self.cosine is not None and self.cosine > SAME_FACE


def overhang(image: NDArray[np.uint8], face: Face) -> float:
    """How far the outline of a face reaches beyond the image, in parts of the face's size; 0 when it is whole."""
    height, width = image.shape[:2]
    outline = face_mesh(image, face).points[list(FACE_OVAL), :2]
    beyond = np.maximum(-outline, outline - (width, height))
    return max(0.0, float(beyond.max())) / face.size


def resized(picture: NDArray[np.uint8], like: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A portrait [H, W, 3] at the size of a frame, shrunk the way the pipeline shrinks it."""
    size = (like.shape[1], like.shape[0])
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def look_at(frames: Iterable[NDArray[np.uint8]], portrait: NDArray[np.uint8]) -> list[Look]:
    """Search the face of each frame [H, W, 3] and hold it against the portrait's, which has the frames' size.

    Raises:
        FaceError: the portrait shows no face.
    """
    reference = embed_face(portrait)
    own = detect_faces(portrait)[0]
    sharp, outside = laplacian_variance(portrait, own.box), overhang(portrait, own)
    looks = []
    for frame in frames:
        faces = detect_faces(frame)
        if not faces:
            looks.append(Look(None, None, False))
            continue
        face = faces[0]
        cosine = float(embed_face(frame, face) @ reference)
        whole = overhang(frame, face) <= outside + _OVERHANG
        looks.append(Look(cosine, laplacian_variance(frame, face.box) / max(sharp, 1e-9), whole))
    return looks


def summary(looks: Sequence[Look]) -> dict[str, Any]:
    """Figures of one video."""
    cosines = [look.cosine for look in looks if look.cosine is not None]
    return {
        "frames": len(looks),
        "cosine": float(np.mean(cosines)) if cosines else 0.0,
        "lowest_cosine": min(cosines, default=0.0),
        "found": float(np.mean([look.cosine is not None for look in looks])),
        "good": float(np.mean([look.good for look in looks])),
        "whole": float(np.mean([look.whole for look in looks])),
        "sharpness": float(np.median([look.sharpness for look in looks if look.sharpness is not None] or [0.0])),
    }


def overall(videos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over videos with their standard errors, and shares over all frames."""
    frames = np.array([video["frames"] for video in videos])
    shares = {k: float(np.average([v[k] for v in videos], weights=frames)) for k in ("found", "good", "whole")}
    cosine, error = mean_and_error([video["cosine"] for video in videos])
    sharpness, sharpness_error = mean_and_error([video["sharpness"] for video in videos])
    return {
        "videos": len(videos),
        "frames": int(frames.sum()),
        "cosine": cosine,
        "cosine_standard_error": error,
        "lowest_cosine": min(video["lowest_cosine"] for video in videos),
        **{f"share_{name}": share for name, share in shares.items()},
        "sharpness": sharpness,
        "sharpness_standard_error": sharpness_error,
    }


def measure(options: argparse.Namespace, sitters: Sequence[Sitter], record: Record) -> dict[str, dict[str, Any]]:
    """With the model's own identity scale, and with 0: portrait -> figures of its video."""
    pipeline = load_model(options)
    usual = pipeline.settings().identity_scale
    record.results["generation"] = generation_settings(pipeline, **record.settings)
    found: dict[str, dict[str, Any]] = {f"identity scale {usual:g}": {}, "identity scale 0": {}}
    for sitter in sitters:
        for (name, videos), scale in zip(found.items(), (usual, 0.0), strict=True):
            try:
                settings = {**record.settings, "identity_scale": scale}
                frames = make_video(pipeline, sitter.picture, sitter.speech, **settings).frames
                videos[sitter.window.name] = summary(look_at(frames, resized(sitter.picture, frames[0])))
            except FantasyTalkingError as error:
                record.leave_out(f"{sitter.window.name} ({name})", error)
                continue
            figures = ", ".join(f"{k} {v:.3f}" for k, v in videos[sitter.window.name].items())
            say(f"{sitter.window.name:<12} {name}: {figures}")
    return found


def main() -> int:
    """Measure and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--portraits", type=int, default=12, help="number of unseen portraits")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each generation")
    parser.add_argument("--longest-side", type=int, help="render smaller, to be quick")
    options = parser.parse_args()
    settings = {"seed": options.seed} | ({"longest_side": options.longest_side} if options.longest_side else {})
    record = Record("identity", options, settings)
    sitters = choose_sitters(options.data, min(options.portraits, options.limit or options.portraits), options.seconds)
    found = {name: videos for name, videos in measure(options, sitters, record).items() if videos}
    totals = {name: overall(list(videos.values())) for name, videos in found.items()}
    columns = (
        "cosine",
        "cosine_standard_error",
        "lowest_cosine",
        "share_found",
        "share_good",
        "share_whole",
        "sharpness",
    )
    print(
        f"\n{len(sitters)} unseen portraits, {options.seconds:g} s each; good: found and cosine above {SAME_FACE:g}\n"
    )
    rows = [(name, total["videos"], *(total[column] for column in columns)) for name, total in totals.items()]
    print(table(("", "videos", *(column.replace("_", " ") for column in columns)), rows) + "\n")
    record.results |= {"overall": totals, "per_portrait": found, "wanted_share_good": WANTED}
    record.results["speech_of"] = {sitter.window.name: sitter.speaker.name for sitter in sitters}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
