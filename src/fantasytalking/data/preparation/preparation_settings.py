"""Every knob of the data preparation, once: what becomes a clip, and how a run is executed. The command line is made from both."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fantasytalking.errors import SettingsError
from fantasytalking.geometry import Strides
from fantasytalking.system.records import field, record

__all__ = ["LEAST_FRAME_RATE", "LONGEST_FREEZE", "IdentityFrom", "PreparationSettings", "RunSettings"]

LONGEST_FREEZE = 0.5
"""Seconds for which the picture may stand still."""
LEAST_FRAME_RATE = 12.0
"""New pictures a second below which the offset between lips and sound is no longer measured right: of 30 real clips whose frames were
held to fewer a second, all kept it within a frame of 1/25 s at 12.5, 29 at 10, 10 at 8 and 6 at 5."""

IdentityFrom = Literal["stem", "folder"]


_ADDRESS = re.compile(r"auto|(ray://)?([^\s/:\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


@record
class PreparationSettings:
    """Settings of what becomes a clip. A clip is kept if it is within every limit; its measures are stored with it either way.

    Raises:
        SettingsError: A value is not accepted.
    """

    model: Annotated[
        str,
        field(
            "Model whose frame rate, speech encoder and video autoencoder the set is made for: embedded, a folder, or owner/name "
            "on the hub."
        ),
    ] = "embedded"

    min_seconds: Annotated[float, field("Shortest clip.", minimum=0.5, maximum=600, unit="seconds")] = 2.0
    max_seconds: Annotated[
        float,
        field("Longest clip; longer scenes are cut into even pieces.", minimum=0.5, maximum=600, unit="seconds"),
    ] = 20.0
    scene_threshold: Annotated[
        float,
        field(
            "Change between frames that counts as a cut (content value of PySceneDetect); lower finds more cuts.",
            minimum=1,
            maximum=255,
        ),
    ] = 27.0

    max_frozen: Annotated[
        float,
        field(
            "Longest time for which the picture may stand still; a longer stretch is cut out.",
            minimum=0.1,
            maximum=600,
            unit="seconds",
        ),
    ] = LONGEST_FREEZE
    min_frame_rate: Annotated[
        float,
        field(
            "Minimum number of pictures a second that differ from the one before; with fewer, sync cannot be measured.",
            minimum=0,
            maximum=100,
            unit="frames/s",
        ),
    ] = LEAST_FRAME_RATE

    min_confidence: Annotated[
        float,
        field(
            "Minimum mean confidence of the face detector over the sampled frames (paper: 0.9).", minimum=0, maximum=1
        ),
    ] = 0.9
    min_face: Annotated[
        int,
        field(
            "Minimum width of the detected face's box, from cheek to cheek, in the source (median over the clip).",
            minimum=16,
            maximum=4096,
            unit="pixels",
        ),
    ] = 64
    max_second_face: Annotated[
        float,
        field("A second face is tolerated up to this share of the width of the first.", minimum=0, maximum=10),
    ] = 0.35
    max_second_face_share: Annotated[
        float,
        field("Maximum share of sampled frames in which a larger second face may appear.", minimum=0, maximum=1),
    ] = 0.15
    face_every: Annotated[
        float, field("Interval at which frames are searched for faces.", minimum=0.04, maximum=60, unit="seconds")
    ] = 0.4
    min_tracked: Annotated[
        float,
        field("Minimum share of frames in which the face mesh is found (score of at least 0.5).", minimum=0, maximum=1),
    ] = 0.95
    max_jump: Annotated[
        float,
        field(
            "Maximum move of the face's centre from one frame to the next.",
            minimum=0.01,
            maximum=100,
            unit="face widths",
        ),
    ] = 0.35
    max_resize: Annotated[
        float,
        field(
            "Maximum change of the face's width from one frame to the next, as a share of it.",
            minimum=0.01,
            maximum=100,
        ),
    ] = 0.35
    max_drift: Annotated[
        float,
        field(
            "Maximum distance of the face's centre from its median position.",
            minimum=0.01,
            maximum=100,
            unit="face widths",
        ),
    ] = 1.5

    crop_factor: Annotated[
        float,
        field(
            "Side of the crop over the longer side of the face; includes head and shoulders.", minimum=1.2, maximum=10
        ),
    ] = 2.2
    max_side: Annotated[
        int | None,
        field(
            "Maximum side of the crop; larger crops are downscaled. Nothing uses the model's own, 448 for the embedded model.",
            minimum=64,
            maximum=4096,
            unit="pixels",
        ),
    ] = None
    quality: Annotated[
        int, field("Quality of the stored video (H.264 CRF); 0 is lossless, lower is better.", minimum=0, maximum=51)
    ] = 18

    min_speech: Annotated[
        float, field("Minimum share of the clip in which Silero VAD hears speech.", minimum=0, maximum=1)
    ] = 0.3
    sync: Annotated[
        Literal["correct", "drop", "off"],
        field(
            "Lip sync: correct shifts the sound by the measured offset, drop leaves such clips out, off skips the check."
        ),
    ] = "correct"
    sync_confidence: Annotated[
        float,
        field(
            "Minimum confidence of the sync network (median minus smallest distance) for a clip of 3 s; shorter clips need more, "
            "because their curves are noisier. Below it no offset is trusted.",
            minimum=0,
            maximum=1,
        ),
    ] = 0.3
    sync_tolerance: Annotated[
        int,
        field("Offset that still counts as in sync under --sync drop.", minimum=0, maximum=15, unit="frames of 1/25 s"),
    ] = 1

    body: Annotated[
        Literal["bundled", "dwpose"],
        field("Network that finds the joints of the body: the bundled one, or DWPose from the package rtmlib."),
    ] = "bundled"
    body_every: Annotated[
        float, field("Interval at which frames are searched for joints.", minimum=0.04, maximum=60, unit="seconds")
    ] = 0.2
    captions: Annotated[
        Literal["none", "sidecar"],
        field("Captions: none, or sidecar for the text file beside the video (video.txt beside video.mp4)."),
    ] = "none"

    latents: Annotated[
        Literal["auto", "off"],
        field("Precompute video latents: auto does where the model's autoencoder is fixed (Wan), off never does."),
    ] = "auto"
    window_frames: Annotated[
        int, field("Length of a window of latents, a multiple of 4 plus 1.", minimum=1, maximum=10_001, unit="frames")
    ] = 81
    windows: Annotated[
        int, field("Maximum number of windows per clip, spread evenly over it.", minimum=1, maximum=1000)
    ] = 2
    device: Annotated[str, field("Device of the model's encoders: auto, cpu, cuda, cuda:1, mps.")] = "auto"
    seed: Annotated[int, field("Seed of the choice of people for validation; without val_share nothing is drawn.")] = 0

    def __post_init__(self) -> None:
        if self.max_seconds < self.min_seconds:
            raise SettingsError(
                f"max_seconds must be at least min_seconds ({self.min_seconds:g}), but {self.max_seconds:g} was given."
            )
        Strides().latent_frames(self.window_frames)  # a multiple of 4 plus 1, or it says so
        if not self.model:
            raise SettingsError("model is empty; give embedded, a model folder, or owner/name on the hub.")

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, as they are stored in the manifest."""
        return asdict(self)


@record
class RunSettings:
    """Settings of how a preparation is executed: names, splits, shards and workers.

    Raises:
        SettingsError: A value is not accepted, or two exclude each other.
    """

    identity: Annotated[
        IdentityFrom,
        field(
            "Name of the person in a video without a catalogue row: its file's name without ending, or its folder's."
        ),
    ] = "stem"
    val_share: Annotated[
        float,
        field(
            "Share of the people without a catalogue row whose clips are kept for validation.", minimum=0, maximum=0.9
        ),
    ] = 0.0
    clips_per_shard: Annotated[int, field("Candidates per shard.", minimum=1)] = 64
    workers: Annotated[
        int | None,
        field("Worker processes; nothing means one per CPU core, 0 works in this process without Ray.", minimum=0),
    ] = None
    address: Annotated[
        str | None,
        field("Ray cluster to work on: auto, HOST:PORT or ray://HOST:PORT; nothing means this machine alone."),
    ] = None
    gpus_per_worker: Annotated[float, field("Share of a GPU that each worker takes, such as 1 or 0.25.", minimum=0)] = (
        0.0
    )
    overwrite: Annotated[bool, field("Delete a set that was made from other videos or with other settings.")] = False

    def __post_init__(self) -> None:
        if self.address is not None and not _ADDRESS.fullmatch(self.address):
            raise SettingsError(
                f"address must be auto, HOST:PORT or ray://HOST:PORT, but {self.address!r} was given; leave it out for this machine alone."
            )
        if self.workers == 0 and self.address is not None:
            raise SettingsError("workers 0 works in this process and has no use for an address; leave one of them out.")
