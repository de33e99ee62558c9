"""What the video of a generation is marked with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fantasytalking.media.spooled_sound import pieces_of
from fantasytalking.pipeline.inputs import Portrait, Speech
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.provenance.marks import Marks
from fantasytalking.provenance.signing_identity import check_signing_identity
from fantasytalking.system.digests import json_sha256

__all__ = ["check_signing", "marks_of"]


def check_signing(settings: GenerationSettings) -> None:
    """Check, before any long work, that a manifest can be signed; the user's key is made here if there is none.

    Raises:
        SettingsError: The signing certificate cannot be used.
        OutputError: The key cannot be stored.
    """
    if settings.manifest == "on":
        check_signing_identity()


def marks_of(
    pipeline: Any,
    settings: GenerationSettings,
    inputs: Iterable[tuple[Portrait, Speech]],
    sources: Iterable[Path] = (),
) -> Marks:
    """The marks of a generation.

    Its identifier is drawn from settings, model, portrait and speech: whoever makes the same video again, or goes on with an interrupted
    run, gets the same one, and nobody can tell from it what it was made of.

    Args:
        pipeline: The pipeline.
        settings: Its settings.
        inputs: Portrait and speech of each person who speaks.
        sources: Footage that is changed.
    """
    model, plain = _model_name(pipeline.name_or_path), settings.to_dict()
    digest = hashlib.sha256(json.dumps([model, plain], sort_keys=True).encode())
    for portrait, speech in inputs:
        digest.update(np.ascontiguousarray(portrait.pixels).tobytes())
        for piece in pieces_of(speech.samples):
            digest.update(np.ascontiguousarray(piece).tobytes())
    return Marks(
        manifest=settings.manifest == "on",
        watermark=settings.watermark == "on",
        label=settings.label,
        label_text=settings.label_text,
        identifier=int.from_bytes(digest.digest()[:4], "big"),
        model=model,
        settings_digest=json_sha256(plain),
        sources=tuple(sources),
    )


def _model_name(name: str | os.PathLike[str] | None) -> str:
    """A model's name without the folders above it, which are nobody's business."""
    text = os.fspath(name or "")
    return Path(text).name if Path(text).is_dir() else text
