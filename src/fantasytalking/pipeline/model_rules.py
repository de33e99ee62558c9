"""The rules of a model about its inputs and videos, as its folder states them."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Literal

from fantasytalking.errors import SettingsError
from fantasytalking.geometry import NATIVE_FPS, Strides
from fantasytalking.system.records import field, record

__all__ = ["ModelRules", "with_rules"]


@record
class ModelRules:
    """What a model demands of its inputs and says of its videos: entries of its `model_index.json`.

    Raises:
        SettingsError: A bad value, or no longest side although the size of the video follows from it.
    """

    native_fps: Annotated[float, field("Frame rate of the training videos.", minimum=1, unit="frames per second")] = (
        NATIVE_FPS
    )
    max_frames: Annotated[
        int, field("Longest clip that is sampled at once; a multiple of 4 plus 1.", minimum=1, unit="frames")
    ] = 81
    long_video: Annotated[
        Literal["continue", "windows"],
        field("How videos longer than that are made; continue: the model is trained to go on from given frames."),
    ] = "windows"
    longest_side: Annotated[
        int | None,
        field(
            "Longest side of the video, or with own_size the largest that is not scaled down; nothing means no limit.",
            minimum=1,
            unit="pixels",
        ),
    ] = 512
    own_size: Annotated[
        bool,
        field("Whether videos have the size of the portrait; else they are rounded up to whole tokens, as released."),
    ] = False
    needs_face: Annotated[bool, field("Whether a portrait without a detectable face is an error.")] = False
    speech_level: Annotated[
        float | None,
        field("Loudness that speech is brought to before the speech encoder; nothing leaves it as it is.", unit="dBFS"),
    ] = None
    mag_ratios: Annotated[
        list[float] | None,
        field(
            "Ratios for the cache magcache, a step each, from `acceleration.caches.measure_ratios`; nothing: not measured."
        ),
    ] = None

    def __post_init__(self) -> None:
        Strides().latent_frames(self.max_frames)
        if self.longest_side is None and not self.own_size:
            raise SettingsError("longest_side may be nothing only where own_size is true; give a number of pixels.")


def with_rules(signature: inspect.Signature) -> inspect.Signature:
    """A signature whose last parameter, `**rules`, is replaced by the fields of `ModelRules` as keywords."""
    *own, _ = signature.parameters.values()
    rules = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in dataclasses.fields(ModelRules)
    ]
    return signature.replace(parameters=[*own, *rules])
