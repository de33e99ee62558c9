"""Does the face keep its identity and sharpness? Compares frames with the portrait, with and without the identity module.

The portraits are first frames of unseen validation clips, each with another clip's speech. Faces are detected in every
frame separately, so that a face that falls apart counts as lost. Sharpness is the variance of the Laplacian over the
face's box, divided by that of the portrait: 1 is as sharp as the photo.

    python benchmarks/identity.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmark_run import Record, generation_settings, load_model, make_video, mean_and_error, option_parser, say, table
from clips import SAME_FACE, SpeakingPortrait, choose_portraits
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.metrics.picture_statistics import laplacian_variance
from fantasytalking.perception.face_embedding import embed_face
from fantasytalking.perception.faces import Face, detect_faces
from fantasytalking.perception.landmarks import FACE_OVAL, face_mesh

WANTED = 0.98
"""Required share of frames in which a face is found and matches the portrait's."""
_OVERHANG = 0.02


@dataclass(frozen=True)
class FaceCheck:
    """The face in one frame, compared with the portrait.

    Attributes:
        cosine: Cosine of its embedding with the portrait's; None where no face is found.
        sharpness: Laplacian variance of the face divided by the portrait's; None where no face is found.
        whole: Whether the frame cuts off no more of the face's outline than the portrait does.
    """

    cosine: float | None
    sharpness: float | None
    whole: bool

    @property
    def good(self) -> bool:
        """Whether a face is found whose cosine is above `SAME_FACE`."""
        return self.cosine is not None and self.cosine > SAME_FACE


def overhang(image: NDArray[np.uint8], face: Face) -> float:
    """Distance by which the outline of a face reaches beyond the image, as a share of the face's size; 0 if it does not."""
    height, width = image.shape[:2]
    outline = face_mesh(image, face).points[list(FACE_OVAL), :2]
    beyond = np.maximum(-outline, outline - (width, height))
    return max(0.0, float(beyond.max())) / face.size


def resized(picture: NDArray[np.uint8], like: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize a portrait [H, W, 3] to the size of a frame, as the pipeline does."""
    size = (like.shape[1], like.shape[0])
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def check_frames(frames: Iterable[NDArray[np.uint8]], portrait: NDArray[np.uint8]) -> list[FaceCheck]:
    """Detect the face in each frame [H, W, 3] and compare it with the portrait's.

    Args:
        frames: Frames of the video.
        portrait: The portrait, of the same size as the frames.

    Raises:
        FaceError: The portrait shows no face.
    """
    reference = embed_face(portrait)
    own = detect_faces(portrait)[0]
    sharp, outside = laplacian_variance(portrait, own.box), overhang(portrait, own)
    checks = []
    for frame in frames:
        faces = detect_faces(frame)
        if not faces:
            checks.append(FaceCheck(None, None, False))
            continue
        face = faces[0]
        cosine = float(embed_face(frame, face) @ reference)
        whole = overhang(frame, face) <= outside + _OVERHANG
        checks.append(FaceCheck(cosine, laplacian_variance(frame, face.box) / max(sharp, 1e-9), whole))
    return checks


def summary(checks: Sequence[FaceCheck]) -> dict[str, Any]:
    """Figures of one video: means, extremes and shares of its frames."""
    cosines = [check.cosine for check in checks if check.cosine is not None]
    return {
        "frames": len(checks),
        "cosine": float(np.mean(cosines)) if cosines else 0.0,
        "lowest_cosine": min(cosines, default=0.0),
        "found": float(np.mean([check.cosine is not None for check in checks])),
        "good": float(np.mean([check.good for check in checks])),
        "whole": float(np.mean([check.whole for check in checks])),
        "sharpness": float(np.median([check.sharpness for check in checks if check.sharpness is not None] or [0.0])),
    }


def overall(videos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of all videos: means over videos with their standard errors, and shares of all frames."""
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


def measure(
    options: argparse.Namespace, portraits: Sequence[SpeakingPortrait], record: Record
) -> dict[str, dict[str, Any]]:
    """Generate with the model's own identity scale and with 0; returns figures of each video by scale and portrait."""
    pipeline = load_model(options)
    usual = pipeline.settings().identity_scale
    record.results["generation"] = generation_settings(pipeline, **record.settings)
    found: dict[str, dict[str, Any]] = {f"identity scale {usual:g}": {}, "identity scale 0": {}}
    for portrait in portraits:
        for (name, videos), scale in zip(found.items(), (usual, 0.0), strict=True):
            try:
                settings = {**record.settings, "identity_scale": scale}
                frames = make_video(pipeline, portrait.picture, portrait.speech, **settings).frames
                videos[portrait.window.name] = summary(check_frames(frames, resized(portrait.picture, frames[0])))
            except FantasyTalkingError as error:
                record.leave_out(f"{portrait.window.name} ({name})", error)
                continue
            figures = ", ".join(f"{k} {v:.3f}" for k, v in videos[portrait.window.name].items())
            say(f"{portrait.window.name:<12} {name}: {figures}")
    return found


def main() -> int:
    """Measure and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--portraits", type=int, default=12, help="number of unseen portraits")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each generation")
    parser.add_argument("--longest-side", type=int, help="size of the rendered frames; smaller is faster")
    options = parser.parse_args()
    settings = {"seed": options.seed} | ({"longest_side": options.longest_side} if options.longest_side else {})
    record = Record("identity", options, settings)
    portraits = choose_portraits(
        options.data, min(options.portraits, options.limit or options.portraits), options.seconds
    )
    found = {name: videos for name, videos in measure(options, portraits, record).items() if videos}
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
        f"\n{len(portraits)} unseen portraits, {options.seconds:g} s each; good: found and cosine above {SAME_FACE:g}\n"
    )
    rows = [(name, total["videos"], *(total[column] for column in columns)) for name, total in totals.items()]
    print(table(("", "videos", *(column.replace("_", " ") for column in columns)), rows) + "\n")
    record.results |= {"overall": totals, "per_portrait": found, "wanted_share_good": WANTED}
    record.results["speech_of"] = {portrait.window.name: portrait.speaker.name for portrait in portraits}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
