"""Generates videos for `generation.py`: a process with a checkout's own package, so that two versions can be measured side by side.

It reads one JSON object a line from stdin and answers each with one line on stdout. It imports nothing of the other scripts, and of the
package only what its versions since 0.2 have in common: an older checkout must be able to run it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FPS = 25.0
SOUND_RATE = 48000


def main() -> int:
    """Answer requests until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not mix with the answers
    model, threads = sys.argv[1], int(sys.argv[2])
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from fantasytalking.errors import FantasyTalkingError
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.system.processes import set_threads

    set_threads(threads)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    pipeline = FantasyTalkingPipeline.from_pretrained(model)
    meshes: list[NDArray[np.float32]] = []
    watch_meshes(pipeline, meshes)
    for line in sys.stdin:
        meshes.clear()
        try:
            answer = generate(pipeline, json.loads(line), meshes)
        except FantasyTalkingError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


def watch_meshes(pipeline: Any, meshes: list[NDArray[np.float32]]) -> None:
    """Keep the mesh of the portrait and those of all frames of each rendering, where the autoencoder works with meshes."""
    from fantasytalking.autoencoder import mesh_autoencoder

    autoencoder = pipeline.vae
    if not isinstance(autoencoder, mesh_autoencoder.MeshAutoencoder):
        return
    # Rendering is a method in older versions and a function of the module in newer ones.
    holder: Any = autoencoder if hasattr(autoencoder, "render") else mesh_autoencoder
    render = holder.render

    def watched(image: Any, mesh: Any, moved: Any, *args: Any, **kwargs: Any) -> Any:
        meshes.extend((np.asarray(mesh, np.float32), np.asarray(moved, np.float32)))
        return render(image, mesh, moved, *args, **kwargs)

    # Not `setattr`: a module of torch takes attributes for parameters.
    object.__setattr__(holder, "render", watched)


def unsound_share(size: tuple[int, int], mesh: NDArray[np.float32], moved: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of face pixels whose map is folded over or stretched more than fourfold, for each frame.

    It is the package's own figure where the package has it. For older versions it is the same figure of their backward maps.
    """
    try:
        from fantasytalking.autoencoder.soundness import unsound_share as own
    except ImportError:
        return np.array([_unsound_map(size, mesh, points) for points in moved], np.float32)
    share: NDArray[np.float32] = own(size, mesh, moved)
    return share


def _unsound_map(size: tuple[int, int], mesh: NDArray[np.float32], points: NDArray[np.float32]) -> float:
    import cv2

    from fantasytalking.autoencoder.warp import PortraitWarper
    from fantasytalking.perception.mesh_points import NUM_SKIN_TRIANGLES, TRIANGLES

    skin = np.zeros(size, np.float32)
    for corners in mesh[TRIANGLES[:NUM_SKIN_TRIANGLES], :2]:
        cv2.fillConvexPoly(skin, np.round(corners).astype(np.int32), 1.0)
    warper: Any = PortraitWarper(np.zeros((*size, 3), np.uint8), mesh)
    map_ = warper.backward_map(points)
    dy, dx = (np.gradient(map_, axis=axis) for axis in (0, 1))
    area = dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]
    whole = np.hypot(dx[..., 0] + dy[..., 1], dx[..., 1] - dy[..., 0]) / 2
    apart = np.hypot(dx[..., 0] - dy[..., 1], dx[..., 1] + dy[..., 0]) / 2
    shown = cv2.remap(skin, map_.astype(np.float32), None, cv2.INTER_LINEAR) > 0.5
    bad = (area <= 0) | (np.abs(whole - apart) < 0.25)
    return float((bad & shown).sum() / max(1, int(shown.sum())))


def generate(pipeline: Any, request: dict[str, Any], meshes: list[NDArray[np.float32]]) -> dict[str, Any]:
    """Generate the pieces of one video; each piece is a file of frames, without those that it shares with the piece before it."""
    from fantasytalking.media.audio import Audio, load_audio
    from fantasytalking.pipeline.continued_video import CONTINUED_FRAMES
    from fantasytalking.pipeline.progress import Progress

    class Quiet(Progress):
        def show_note(self, text: str) -> None:
            """Show nothing, as notes are in the answer."""

    picture, out = np.load(request["picture"]), Path(request["out"])
    sound = load_audio(
        request["speech"], SOUND_RATE, min_seconds=0.0, start=request["start"], seconds=request["seconds"]
    ).samples
    limit = min(pipeline.rules.max_frames, request.get("piece_frames") or 10**9)
    total = round(len(sound) / SOUND_RATE * FPS)
    files: list[str] = []
    notes: list[str] = []
    made, last = 0, None
    started = time.monotonic()
    while made < total:
        overlap = CONTINUED_FRAMES if made else 0
        if made and total - made < 2:  # a rest that is too short to be a video
            break
        first = made - overlap
        # A multiple of 4 plus 1: what is longer than the limit is cut off.
        part = sound[round(first / FPS * SOUND_RATE) : round((first + limit) / FPS * SOUND_RATE)]
        video = pipeline(
            picture,
            Audio(part, SOUND_RATE),
            progress=Quiet(),
            fps=FPS,
            **request["settings"],
            **({"previous": last} if made else {}),
        )
        notes += [note for note in video.notes if note not in notes]
        frames = video.frames[overlap:]
        if not len(frames):
            break
        files.append(str(out / f"piece_{len(files)}.npy"))
        np.save(files[-1], frames)
        made, last = made + len(frames), video.frames[-CONTINUED_FRAMES:]
    unsound = None
    if len(meshes) == 2:
        np.savez(out / "meshes.npz", portrait=meshes[0], moved=meshes[1])
        if request.get("unsound"):
            height, width = video.frames.shape[1:3]
            unsound = unsound_share((height, width), *meshes).tolist()
    return {
        "unsound": unsound,
        "files": files,
        "notes": notes,
        "seconds": time.monotonic() - started,
        "meshes": str(out / "meshes.npz") if len(meshes) == 2 else None,
        "settings": video.settings.to_dict(),
    }


if __name__ == "__main__":
    sys.exit(main())
