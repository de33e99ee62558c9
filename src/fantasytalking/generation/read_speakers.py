"""Portraits and speeches of several people in one picture, read before the model is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fantasytalking.pipeline.inputs import AudioSource, ImageSource

__all__ = ["read_speakers"]


def read_speakers(
    image: str | os.PathLike[str],
    audio: Mapping[int, str | os.PathLike[str]],
    model: str,
    settings: Mapping[str, Any],
) -> tuple[dict[int, ImageSource], dict[int, AudioSource]]:
    """Read the picture once for each face that speaks, and the speeches.

    Args:
        image: The picture.
        audio: File of the speech by number of the face.
        model: Name of the model.
        settings: Settings of the call by name, without `face`.

    Raises:
        InputError: The picture, a face, a speech or a setting cannot be used.
        CheckpointError: There is no such model.
    """
    # Imported here, so that --help does not wait for the readers.
    from fantasytalking.pipeline.early_inputs import read_inputs

    read = {face: read_inputs(image, one, model, {**settings, "face": face}) for face, one in audio.items()}
    return {face: portrait for face, (portrait, _) in read.items()}, {
        face: speech for face, (_, speech) in read.items()
    }
