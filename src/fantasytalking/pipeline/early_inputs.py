"""Portrait and speech of a command, read before its model is loaded, so that a mistake in them is told at once.

Needs no framework: what the model demands is read from the JSON files of its folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.media.audio import load_audio
from fantasytalking.media.image import load_image
from fantasytalking.pipeline.face_in_footage import open_footage
from fantasytalking.pipeline.footage_inputs import FootageSource, SpeechSource, by_face, load_speakers
from fantasytalking.pipeline.inputs import AudioSource, ImageSource, Portrait, load_portrait, load_speech
from fantasytalking.pipeline.model_names import INDEX, resolve_model
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["Demands", "read_demands", "read_footage_inputs", "read_inputs", "read_portrait"]


@dataclass(frozen=True)
class Demands:
    """What a model folder demands of a call.

    Attributes:
        rules: Its rules.
        settings: Settings of the call: its defaults, replaced by what is given.
        uses_identity: Whether it has an identity module.
    """

    rules: ModelRules
    settings: GenerationSettings
    uses_identity: bool


def read_inputs(
    image: str | os.PathLike[str], audio: str | os.PathLike[str], model: str, given: Mapping[str, Any]
) -> tuple[ImageSource, AudioSource]:
    """Read portrait and speech as the pipeline of a model will.

    Args:
        image: File of the portrait.
        audio: File of the speech.
        model: Name of the model.
        given: Settings of the call by name.

    Returns:
        What the pipeline takes: both as read; or, if the model is not on this machine or its folder is damaged, the files, of which only
        that they can be read is known then.

    Raises:
        InputError: Image, speech or a setting cannot be used.
        CheckpointError: There is no such model.
    """
    demands = _demands_of(model, given)
    if demands is None:
        load_image(image)
        load_audio(audio, from_picture=False)
        return image, audio
    return _portrait_for(image, demands), load_speech(audio, demands.settings, demands.rules)


def read_portrait(image: str | os.PathLike[str], model: str, given: Mapping[str, Any]) -> ImageSource:
    """Read a portrait as the pipeline of a model will, for speech that comes later; see `read_inputs`.

    Raises:
        InputError: Image or a setting cannot be used.
        CheckpointError: There is no such model.
    """
    demands = _demands_of(model, given)
    if demands is None:
        load_image(image)
        return image
    return _portrait_for(image, demands)


def _portrait_for(image: str | os.PathLike[str], demands: Demands) -> Portrait:
    settings, rules = demands.settings, demands.rules
    find_face = rules.needs_face or (demands.uses_identity and settings.identity_scale > 0)
    return load_portrait(image, settings, rules, find_face)


def read_footage_inputs(
    video: str | os.PathLike[str],
    audio: SpeechSource,
    model: str,
    given: Mapping[str, Any],
    progress: Progress,
) -> tuple[FootageSource, SpeechSource]:
    """Read footage and speech as `FantasyTalkingPipeline.dub` of a model will.

    Args:
        video: File of the footage.
        audio: File of the speech, or files by number of the face.
        model: Name of the model.
        given: Settings of the call by name.
        progress: Shows the stage in which the face is followed.

    Returns:
        As for `read_inputs`; footage and speech by number of the face where the speech is.

    Raises:
        InputError: Footage, speech or a setting cannot be used.
        CheckpointError: There is no such model.
    """
    demands = _demands_of(model, given)
    if demands is None:
        open_footage(video)
        for one in audio.values() if by_face(audio) else (audio,):
            load_audio(one, from_picture=False)  # type: ignore[arg-type]
        return video, audio
    speakers = load_speakers(video, audio, demands.settings, demands.rules, progress)
    if not by_face(audio):
        return speakers[0].footage, speakers[0].speech
    by_number = dict(zip(audio, speakers, strict=True))
    return (
        {face: one.footage for face, one in by_number.items()},
        {face: one.speech for face, one in by_number.items()},
    )


def _demands_of(model: str, given: Mapping[str, Any]) -> Demands | None:
    """What a model demands; None where it is not on this machine, or its files do not say."""
    folder = resolve_model(model)
    return read_demands(folder, given) if isinstance(folder, Path) else None


def read_demands(folder: Path, given: Mapping[str, Any]) -> Demands | None:
    """What a model folder demands; None if its files do not say, which the loader tells.

    Args:
        folder: The model folder.
        given: Settings of the call by name.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        config = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
        names = {field.name for field in dataclasses.fields(ModelRules)}
        rules = ModelRules(**{name: value for name, value in index.items() if name in names})
        defaults = GenerationSettings.create(index.get("defaults") or {})
        uses_identity = config.get("identity_dim") is not None
    except (OSError, ValueError, AttributeError, TypeError, FantasyTalkingError):
        return None
    return Demands(rules, defaults.replace(**given), uses_identity)
