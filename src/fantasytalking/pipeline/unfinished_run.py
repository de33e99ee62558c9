"""What an interrupted long run leaves beside its output, and how it goes on from there.

`NAME.unfinished/` holds a silent part of the video for each finished segment and the state after the last one, or the latents of a video
whose windows are denoised together, and `progress.json`, which is written last and so vouches for the others. The folder is deleted when
the video is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from fantasytalking.errors import OutputError
from fantasytalking.media.spooled_sound import pieces_of
from fantasytalking.pipeline.call_arguments import Case
from fantasytalking.pipeline.inputs import Portrait, Speech
from fantasytalking.system.files import atomic_path, full_disk_error
from fantasytalking.system.json import read_json_object, write_json
from fantasytalking.system.machine import library_versions

__all__ = ["Part", "UnfinishedRun", "made_with", "run_digest"]

_FORMAT = 2


@dataclass(frozen=True)
class Part:
    """A finished segment.

    Attributes:
        path: Its file.
        frames: Number of its frames.
    """

    path: Path
    frames: int


def run_digest(
    pipeline: Any, case: Case, portrait: Portrait, speech: Speech, previous: NDArray[np.uint8] | None
) -> str:
    """Digest of everything that a run's frames depend on: settings, inputs, model and versions."""
    digest = made_with(pipeline, case, portrait, [speech.fps, speech.num_frames, speech.video_frames])
    if previous is not None:
        digest.update(np.ascontiguousarray(previous).tobytes())
    for piece in pieces_of(speech.samples):
        digest.update(np.ascontiguousarray(piece).tobytes())
    return digest.hexdigest()


def made_with(pipeline: Any, case: Case, portrait: Portrait, rest: list[Any]) -> hashlib._Hash:
    """A digest that goes on: of settings, portrait, model, versions, and the rest given."""
    config = {name: str(value) for name, value in sorted(dict(pipeline.config).items())}
    weights = hashlib.sha256()
    if pipeline.transformer is not None:
        for name, parameter in pipeline.transformer.named_parameters():
            # A few values of each: a model that was trained on, or merged with LoRA, differs in all.
            few = parameter.detach().flatten()[:8].float().cpu().numpy()
            weights.update(name.encode() + few.tobytes())
    plain = {
        "format": _FORMAT,
        "settings": case.settings.to_dict(),
        "model": [pipeline.name_or_path, config, weights.hexdigest()],
        "speech encoder": str(getattr(getattr(pipeline.audio_encoder, "config", None), "name_or_path", "")),
        "versions": [
            av.library_versions,
            library_versions(("torch", "diffusers", "transformers", "av", "opencv-python-headless")),
        ],
        "rest": rest,
    }
    digest = hashlib.sha256(repr(plain).encode())
    if case.generator is not None:
        digest.update(case.generator.get_state().numpy().tobytes())
    for tensor in (case.text.prompt, case.text.negative):
        if tensor is not None:
            digest.update(tensor.detach().float().cpu().numpy().tobytes())
    digest.update(np.ascontiguousarray(portrait.pixels).tobytes())
    return digest


class UnfinishedRun:
    """The folder of one run.

    Args:
        target: The video that is to be written.
        digest: Of the run. What is left of a run of another digest is deleted when this one begins.

    Attributes:
        target: The video.
        folder: Where all this is kept.
        parts: Finished segments, in order.
        steps: Finished steps of a video that is denoised as a whole.
        is_complete: Whether the last of them is the video's last.
    """

    def __init__(self, target: Path, digest: str) -> None:
        self.target, self.folder = target, target.with_name(f"{target.name}.unfinished")
        self._digest = digest
        self.parts: list[Part] = []
        self.steps = 0
        self.is_complete = False
        self.is_other = False
        self._state: Path | None = None
        found = read_json_object(self._record)
        if found.get("digest") != digest:
            self.is_other = bool(found)
            return
        parts = [Part(self.folder / str(one["file"]), int(one["frames"])) for one in found.get("segments", [])]
        state = self.folder / str(found.get("state"))
        if state.is_file() and all(part.path.is_file() for part in parts):
            self.parts, self._state, self.is_complete = parts, state, bool(found.get("complete"))
            self.steps = int(found.get("steps", 0))

    @property
    def _record(self) -> Path:
        return self.folder / "progress.json"

    @property
    def frames(self) -> int:
        """Number of frames that are finished."""
        return sum(part.frames for part in self.parts)

    @property
    def has_begun(self) -> bool:
        """Whether there is something to go on from."""
        return self._state is not None

    def load_state(self) -> dict[str, Tensor]:
        """The state after the last finished segment, or `latents` after the last kept step."""
        assert self._state is not None
        return load_file(self._state)

    def begin(self) -> None:
        """Make the folder; without anything finished it is emptied first.

        Raises:
            OutputError: It cannot be made.
        """
        with full_disk_error(self.folder):
            if not self.has_begun:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(exist_ok=True)

    def next_path(self) -> Path:
        """File of the next segment; its name is one that no finished segment has."""
        return self.folder / f"segment-{len(self.parts):04d}.mp4"

    def finished(self, part: Part, state: dict[str, Tensor], seed: int, is_last: bool) -> None:
        """Record a finished segment.

        Args:
            part: Its file, complete.
            state: What the next segments depend on.
            seed: Seed of the run, for people who look.
            is_last: Whether the video ends with it.

        Raises:
            OutputError: The disk is full.
        """
        path = self._stored(f"state-{len(self.parts):04d}.safetensors", state)
        self.parts.append(part)
        self.is_complete = is_last
        self._vouch_for(path, seed)

    def sampled(self, latents: Tensor, steps: int, seed: int) -> None:
        """Record the latents [1, C, f, h, w] after a number of steps, of a video that is denoised as a whole.

        Raises:
            OutputError: The disk is full.
        """
        path = self._stored(f"latents-{steps:04d}.safetensors", {"latents": latents.detach().cpu()})
        self.steps = steps
        self._vouch_for(path, seed)

    def _stored(self, name: str, state: dict[str, Tensor]) -> Path:
        path = self.folder / name
        with atomic_path(path, overwrite=True) as temporary, full_disk_error(path, Exception):
            save_file({name: value.contiguous() for name, value in state.items()}, temporary)
        return path

    def _vouch_for(self, state: Path, seed: int) -> None:
        """Write the record, from which a run goes on; the state before this one goes."""
        before = self._state
        record = {
            "digest": self._digest,
            "seed": seed,
            "segment": len(self.parts),
            "steps": self.steps,
            "state": state.name,
            "complete": self.is_complete,
            "segments": [{"file": one.path.name, "frames": one.frames} for one in self.parts],
        }
        with full_disk_error(self._record):
            write_json(self._record, record, indent=1)
        self._state = state
        if before is not None and before != state:
            with contextlib.suppress(OSError):
                before.unlink()

    def close(self, is_done: bool) -> None:
        """Delete the folder of a run that is done, or that has not finished anything."""
        if is_done or not self.has_begun:
            shutil.rmtree(self.folder, ignore_errors=True)

    def refuse_leftovers(self) -> None:
        """Check that what stands in the way of the folder is no file of somebody else.

        Raises:
            OutputError: There is a file of that name.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(
                f"'{self.folder}', where what is finished of a long video is kept, is a file; rename it or choose another output."
            )
