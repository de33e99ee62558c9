"""The process that decodes one uploaded file: limits first, then the decoders of the library, then one JSON object.

It reads its task from standard input and knows nothing else: no token, no database, no other job.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fantasytalking.errors import ImageError, InputError, OutOfMemory, VideoError

if TYPE_CHECKING:
    from fantasytalking.media.video import VideoInfo

__all__ = ["SLOW", "main"]

_FILE_BYTES = 2**33
_OPEN_FILES = 128
_FIRST_FRAMES = 25
_HEAD_ROOM_SECONDS = 15

SLOW = 3
"""Exit status of a process that took too long."""


def main() -> None:
    """Answer one task: facts, `{"error": sentence}` or `{"fault": "memory" | "crash"}`; ends with `SLOW` when its time is over."""
    task = json.loads(sys.stdin.buffer.read())
    # decoders of C write where they like; the answer alone goes to standard output
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _limit(task)
    try:
        answer = _look(Path(task["path"]), task)
    except InputError as error:
        answer = {"error": str(error).replace(f"'{task['path']}'", "that was sent")}
    except (MemoryError, OutOfMemory):
        answer = {"fault": "memory"}
    except Exception:
        # decoders raise whatever they like about files that were made to confuse them
        answer = {"fault": "crash"}
    answers.write(json.dumps(answer))
    answers.flush()
    # threads of decoders that hang must not keep the process
    os._exit(0)


def _limit(task: dict[str, Any]) -> None:
    """Bound time and memory of this process."""
    seconds = float(task["cpu_seconds"])
    threading.Thread(target=_end_after, args=(seconds,), daemon=True).start()
    # Windows has no such limits: there the clock above and that of the parent remain.
    if sys.platform != "win32":
        import resource

        for name, value in (
            ("RLIMIT_AS", int(task["memory"])),
            ("RLIMIT_CPU", int(seconds) + _HEAD_ROOM_SECONDS),
            ("RLIMIT_FSIZE", _FILE_BYTES),
            ("RLIMIT_NOFILE", _OPEN_FILES),
            ("RLIMIT_CORE", 0),
        ):
            kind = getattr(resource, name, None)
            if kind is None:
                continue
            hard = resource.getrlimit(kind)[1]
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            try:
                resource.setrlimit(kind, (most, most))
            except (ValueError, OSError):
                # macOS refuses some of them
                continue
        os.nice(5)


def _end_after(seconds: float) -> None:
    threading.Event().wait(seconds)
    os._exit(SLOW)


def _look(path: Path, task: dict[str, Any]) -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        look = {"image": _image, "audio": _audio, "video": _video, "marks": _marks}[task["look"]]
        facts = look(path, task)
    notes = [str(one.message).replace(f"'{path}'", "that was sent") for one in told if one.category is UserWarning]
    return {**facts, "notes": notes}


def _image(path: Path, task: dict[str, Any]) -> dict[str, Any]:
    from PIL import Image

    from fantasytalking.media.image import load_image

    # Pillow refuses what has more than twice this number
    Image.MAX_IMAGE_PIXELS = task["pixels"] // 2
    pixels = load_image(path)
    clean = path.with_name(path.name + ".clean")
    try:
        Image.fromarray(pixels).save(clean, format="PNG", compress_level=1)
        os.replace(clean, path)
    except OSError as error:
        clean.unlink(missing_ok=True)
        raise ImageError(f"The image could not be stored ({error.strerror}); try again later.") from error
    return {"width": pixels.shape[1], "height": pixels.shape[0]}


def _audio(path: Path, task: dict[str, Any]) -> dict[str, Any]:
    _restrict(task)
    from fantasytalking.media.audio import load_audio

    sound = load_audio(path, max_seconds=task["seconds"])
    return {"seconds": sound.seconds, "has_audio": True}


def _video(path: Path, task: dict[str, Any]) -> dict[str, Any]:
    from fantasytalking.media.video import iterate_frames

    info = _probed(path, task)
    for _ in iterate_frames(path, max_frames=_FIRST_FRAMES):
        pass
    return {
        "width": info.width,
        "height": info.height,
        "frames": info.frames,
        "fps": float(info.fps),
        "seconds": info.seconds,
        "has_audio": info.has_audio,
    }


def _marks(path: Path, task: dict[str, Any]) -> dict[str, Any]:
    _probed(path, task)
    from fantasytalking.verification import look_for_marks

    return look_for_marks(path, None, task["own"]).summary()


def _probed(path: Path, task: dict[str, Any]) -> VideoInfo:
    """Length and size of a video, which are within the limits."""
    _restrict(task)
    from fantasytalking.media.video import probe_video

    info = probe_video(path)
    if info.seconds > task["seconds"]:
        raise VideoError(
            f"The video that was sent lasts {info.seconds:.1f} s and at most {task['seconds']:g} s are accepted; give a shorter one."
        )
    if info.width * info.height > task["pixels"]:
        raise VideoError(
            f"The video that was sent is {info.width} x {info.height} px and frames of at most {task['pixels']:,} pixels are accepted; "
            "give a smaller one."
        )
    return info


def _restrict(task: dict[str, Any]) -> None:
    from fantasytalking.media.container import restrict_media
    from fantasytalking.serving.uploads.file_kinds import MEDIA_FORMATS

    restrict_media(MEDIA_FORMATS, task["pixels"])


if __name__ == "__main__":
    main()
