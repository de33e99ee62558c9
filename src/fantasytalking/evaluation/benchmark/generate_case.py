"""One video of a benchmark: what determines it, whether it exists already, and how it is generated.

Beside each video lies a record with its key, a hash of everything that determines it. A video whose record has another key, or whose
file differs from that of the record, is generated again.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fantasytalking import __version__
from fantasytalking.errors import FantasyTalkingError, SettingsError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Case, MethodSpec, Window
from fantasytalking.evaluation.benchmark.case_inputs import cut_sound, portrait_of
from fantasytalking.evaluation.footage import file_digest
from fantasytalking.pipeline.load_pipeline import load_pipeline
from fantasytalking.pipeline.model_folder import check_folder
from fantasytalking.pipeline.model_names import INDEX, resolve_model, unreachable_model
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import Progress, quiet_frameworks
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.system.digests import json_sha256
from fantasytalking.system.json import read_json_object, write_json
from fantasytalking.system.machine import machine

__all__ = ["Model", "VideoGenerator", "VideoJob", "find_model", "is_made", "plan_job"]

_DECIDING = (".safetensors", ".json", ".model")
"""Files of a model folder on which its videos depend: weights, configs, tokenizers."""


@dataclass(frozen=True)
class Model:
    """A model in a local folder.

    Attributes:
        name: Name in the manifest.
        folder: Its folder.
        digest: SHA-256 over names and contents of weights, configs and tokenizers.
        defaults: Settings in which it differs from the library.
    """

    name: str
    folder: Path
    digest: str
    defaults: Mapping[str, Any]


@dataclass(frozen=True)
class VideoJob:
    """One video to generate.

    Attributes:
        method: The method.
        case: The case.
        driving: Speech that the lips follow.
        sounding: Speech that the file carries, always the case's own.
        model: Folder of the model.
        settings: All settings.
        data: Folder of the footage.
        video: File to write; its record lies beside it.
        decides: Everything that determines the video, as plain values.
    """

    method: MethodSpec
    case: Case
    driving: Window
    sounding: Window
    model: Path
    settings: GenerationSettings
    data: Path
    video: Path
    decides: Mapping[str, Any]

    @property
    def key(self) -> str:
        """SHA-256 of everything that determines the video."""
        return json_sha256(self.decides)

    @property
    def record(self) -> Path:
        """File of the record, beside the video."""
        return self.video.with_suffix(".json")


def find_model(name: str) -> Model:
    """Find a model and hash it; one on the hub is downloaded.

    Args:
        name: `embedded`, a model folder, or `owner/name` on the hub.

    Raises:
        CheckpointError: There is no such model, or its folder is incomplete.
    """
    place = resolve_model(name)
    if isinstance(place, str):
        from huggingface_hub import snapshot_download

        try:
            place = Path(snapshot_download(place))
        except Exception as error:
            raise unreachable_model(name, error) from error
    check_folder(place)
    defaults = json.loads((place / INDEX).read_text(encoding="utf-8")).get("defaults") or {}
    total = hashlib.sha256()
    for path in sorted(path for path in place.rglob("*") if path.suffix in _DECIDING and path.is_file()):
        total.update(f"{path.relative_to(place).as_posix()}={file_digest(path)}\n".encode())
    return Model(name, place, total.hexdigest(), defaults)


def plan_job(method: MethodSpec, case: Case, donor: Case | None, model: Model, data: Path, output: Path) -> VideoJob:
    """Resolve everything that one video needs.

    Args:
        method: The method.
        case: The case.
        donor: Case whose speech drives the lips, for a method of other speech; None takes the case's own.
        model: Model of the method.
        data: Folder of the footage.
        output: Folder of the run.

    Raises:
        SettingsError: The settings of case and method contradict each other.
    """
    given = {**case.settings, "prompt": case.prompt, **method.settings}
    try:
        settings = GenerationSettings.create(model.defaults, given)
    except SettingsError as error:
        raise SettingsError(f"{method.name}, {case.name}: {error}") from error
    sounding = case.speech
    # a donor is never shorter; the beginning of its speech is used
    driving = sounding if donor is None else dataclasses.replace(donor.speech, seconds=sounding.seconds)
    shown = asdict(case.portrait) if case.portrait is not None else {**asdict(case.reference), "seconds": 0}
    decides = {
        "portrait": _by_content(shown),
        "driving": _by_content(asdict(driving)),
        "sounding": _by_content(asdict(sounding)),
        "settings": settings.to_dict(),
        "weights": model.digest,
        "fantasytalking": __version__,
    }
    video = output / "generated" / method.name / f"{case.name}.mp4"
    return VideoJob(method, case, driving, sounding, model.folder, settings, data, video, decides)


def is_made(job: VideoJob) -> bool:
    """Whether the job's video exists, complete, and was generated as the job says."""
    record = read_json_object(job.record)
    if record.get("key") != job.key or not job.video.is_file():
        return False
    return bool(record.get("sha256") == file_digest(job.video))


def _by_content(window: dict[str, Any]) -> dict[str, Any]:
    """Drop the file's name, which determines nothing."""
    return {key: value for key, value in window.items() if key != "file"}


class _Quiet(Progress):
    """Progress without output: notes go into the record, bars would disturb the one line of the run."""

    def show_note(self, text: str) -> None:
        """Not shown."""


class VideoGenerator:
    """Generates videos on one device; a model stays loaded until a job needs another one.

    Args:
        device: `auto`, `cpu`, `cuda:0` and the like.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._folder: Path | None = None
        self._pipeline: FantasyTalkingPipeline | None = None
        self._failures: dict[Path, FantasyTalkingError] = {}

    def generate(self, job: VideoJob) -> str | None:
        """Write the job's video and its record.

        Returns:
            None, or a sentence that says why there is no video.
        """
        try:
            # A stale video must not be scored, whatever happens next; the record goes first, as it vouches for the video.
            job.record.unlink(missing_ok=True)
            job.video.unlink(missing_ok=True)
            job.video.parent.mkdir(parents=True, exist_ok=True)
            self._generate(job, self._load(job.model))
        except FantasyTalkingError as error:
            return str(error)
        except Exception as error:  # one bad case must not end hours of work; it is reported
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return None

    def _generate(self, job: VideoJob, pipeline: FantasyTalkingPipeline) -> None:
        begin = time.perf_counter()
        portrait, speech = portrait_of(job.case, job.data), cut_sound(job.driving, job.data)
        video = pipeline(portrait, speech, job.settings, progress=_Quiet())
        if job.driving != job.sounding:
            video = dataclasses.replace(video, audio=cut_sound(job.sounding, job.data))
        video.save(job.video, overwrite=True)
        record = {
            "key": job.key,
            "sha256": file_digest(job.video),
            "method": job.method.name,
            "case": job.case.name,
            "model": job.method.model,
            "driving": asdict(job.driving),
            "decides": job.decides,
            "notes": list(video.notes),
            "frames": len(video.frames),
            "fps": video.fps,
            "seconds": {"all": round(time.perf_counter() - begin, 2), **_rounded(video.seconds)},
            "machine": _machine(pipeline),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(job.record, record, indent=1, ascii_only=False)

    def _load(self, folder: Path) -> FantasyTalkingPipeline:
        if folder in self._failures:
            raise self._failures[folder]
        if self._pipeline is None or folder != self._folder:
            # the old model must be freed before the new one is loaded: both may not fit
            self._pipeline = None
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            try:
                self._pipeline = _silently(folder, self.device)
            except FantasyTalkingError as error:
                self._failures[folder] = error
                raise
            self._folder = folder
        return self._pipeline


def _silently(folder: Path, device: str) -> FantasyTalkingPipeline:
    quiet_frameworks()
    return load_pipeline(str(folder), device)


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}


def _machine(pipeline: FantasyTalkingPipeline) -> dict[str, Any]:
    device = pipeline._execution_device
    used = {
        "device": str(device),
        "dtype": str(pipeline.transformer.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    name = {"accelerator": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {**machine(), **name, **used}
