"""Every knob of the data preparation, once; the command line is made from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from fantasytalking.errors import SettingsError
from fantasytalking.geometry import Strides

__all__ = ["PreparationSettings"]


@dataclass(frozen=True)
class PreparationSettings:
    """How videos become clips. A clip is kept when every limit holds; what was measured is stored with it either way."""

    model: str = "embedded"
    """Model whose frame rate, speech encoder and video autoencoder the set is made for: embedded, a folder, or owner/name on the hub."""

    min_seconds: float = 2.0
    """Shortest clip in seconds."""
    max_seconds: float = 20.0
    """Longest clip in seconds; longer scenes are cut into even pieces."""
    scene_threshold: float = 27.0
    """Change of picture that counts as a cut (PySceneDetect's content value, 0 to 255); lower finds more cuts."""

    min_confidence: float = 0.9
    """Least mean confidence of the face detector over the sampled frames, 0 to 1 (paper: 0.9)."""
    min_face: int = 64
    """Least width in pixels of the detected face's box, from cheek to cheek, in the source (median over the clip)."""
    max_second_face: float = 0.35
    """A second face up to this share of the width of the first is tolerated."""
    max_second_face_share: float = 0.15
    """Largest share of sampled frames in which a second, larger face may be seen."""
    face_every: float = 0.4
    """Seconds between the frames that faces are searched in."""
    min_tracked: float = 0.95
    """Least share of frames in which the face mesh is found (score of at least 0.5)."""
    max_jump: float = 0.35
    """Largest move of the face's centre from one frame to the next, in widths of the face."""
    max_resize: float = 0.35
    """Largest change of the face's width from one frame to the next, as a share of it."""
    max_drift: float = 1.5
    """Largest distance of the face's centre from its place in the middle of its path, in widths of the face."""

    crop_factor: float = 2.2
    """Side of the crop over the longer side of the face, so that head and shoulders stay."""
    max_side: int | None = None
    """Largest side of the crop in pixels; larger crops are shrunk. Nothing means the model's own, 448 for the embedded one."""
    quality: int = 18
    """Quality of the stored video (H.264 CRF), 0 (lossless) to 51."""

    min_speech: float = 0.3
    """Least share of the clip in which Silero VAD hears speech."""
    sync: Literal["correct", "drop", "off"] = "correct"
    """Lips and speech: correct shifts the sound by the offset found, drop leaves such clips out, off does not look."""
    sync_confidence: float = 0.3
    """Least confidence of the sync network (median minus least distance) for a clip of 3 s to be kept; a shorter one needs more, because
    its curve is noisier. Below it no offset is believed."""
    sync_tolerance: int = 1
    """Offset in frames of 1/25 s that still counts as in sync under --sync drop."""

    body: Literal["bundled", "dwpose"] = "bundled"
    """Network for the body's joints: the bundled one, or DWPose by the package rtmlib."""
    body_every: float = 0.2
    """Seconds between the frames that the body's joints are searched in."""
    captions: Literal["none", "sidecar"] = "none"
    """Captions: none, or sidecar for the text file beside the video (video.txt beside video.mp4)."""

    latents: Literal["auto", "off"] = "auto"
    """Precompute the video autoencoder's latents: auto does where the model has a fixed one (Wan), off never."""
    window_frames: int = 81
    """Frames of a window of latents, a multiple of 4 plus 1."""
    windows: int = 2
    """Most windows of latents a clip, spread evenly over it."""
    device: str = "auto"
    """Where the model's encoders compute: auto, cpu, cuda, cuda:1, mps."""
    seed: int = 0
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            SettingsError: a value outside its range.
        """
        _within(self, "min_seconds", 0.5, 600)
        _within(self, "max_seconds", self.min_seconds, 600)
        _within(self, "scene_threshold", 1, 255)
        for name in ("min_confidence", "min_tracked", "min_speech", "max_second_face_share", "sync_confidence"):
            _within(self, name, 0, 1)
        _within(self, "min_face", 16, 4096)
        _within(self, "max_second_face", 0, 10)
        for name in ("face_every", "body_every"):
            _within(self, name, 0.04, 60)
        for name in ("max_jump", "max_resize", "max_drift"):
            _within(self, name, 0.01, 100)
        _within(self, "crop_factor", 1.2, 10)
        if self.max_side is not None:
            _within(self, "max_side", 64, 4096)
        _within(self, "quality", 0, 51)
        _within(self, "sync_tolerance", 0, 15)
        _within(self, "windows", 1, 1000)
        for name in ("min_face", "quality", "sync_tolerance", "windows", "window_frames", "seed"):
            if not isinstance(getattr(self, name), int):
                raise SettingsError(f"{name} is a whole number, but {getattr(self, name)!r} was given.")
        _within(self, "window_frames", 1, 10_001)
        Strides().latent_frames(self.window_frames)  # a multiple of 4 plus 1, or it says so
        choices = {
            "sync": ("correct", "drop", "off"),
            "body": ("bundled", "dwpose"),
            "captions": ("none", "sidecar"),
            "latents": ("auto", "off"),
        }
        for name, accepted in choices.items():
            if getattr(self, name) not in accepted:
                raise SettingsError(f"{name} is one of {', '.join(accepted)}, but {getattr(self, name)!r} was given.")
        if not self.model:
            raise SettingsError("model is empty; give embedded, a model folder, or owner/name on the hub.")

    def as_dict(self) -> dict[str, Any]:
        """All fields, for the manifest."""
        return asdict(self)


def _within(settings: PreparationSettings, name: str, low: float, high: float) -> None:
    value = getattr(settings, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SettingsError(f"{name} is a number from {low:g} to {high:g}, but {value!r} was given.")
