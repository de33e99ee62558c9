"""What a video is marked with: decided by whoever generates, carried out by whoever writes the file."""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["COMPOSITE", "GENERATED", "MADE_BY_MODELS", "LabelTimes", "Marks"]

_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = f"{_VOCABULARY}trainedAlgorithmicMedia"
"""IPTC's digital source type of a video that a model made."""
COMPOSITE = f"{_VOCABULARY}compositeWithTrainedAlgorithmicMedia"
"""IPTC's digital source type of footage of which a model made a part."""
MADE_BY_MODELS = (COMPOSITE, GENERATED)
"""Both: that a model had a part in it."""

LabelTimes = Literal["off", "repeated", "always"]


@dataclass(frozen=True)
class Marks:
    """What a video is marked with, and what is said of it.

    Attributes:
        manifest: Whether the file carries a signed manifest.
        watermark: Whether its frames carry the invisible watermark.
        label: When its frames show the visible label.
        label_text: Text of the label.
        identifier: Of the generation, 32 bits: what the watermark holds, and the manifest names.
        model: Name of the model.
        settings_digest: SHA-256 of the settings, 64 hexadecimal digits, or nothing.
        sources: Footage that was changed; none: the whole video was generated.
        first_frame: Number of the first frame, for a part of a video: the label comes by the video's time.
    """

    manifest: bool = True
    watermark: bool = True
    label: LabelTimes = "off"
    label_text: str = "AI"
    identifier: int = field(default_factory=lambda: secrets.randbits(32))
    model: str = ""
    settings_digest: str = ""
    sources: tuple[Path, ...] = ()
    first_frame: int = 0

    @property
    def hex_identifier(self) -> str:
        """The identifier as eight hexadecimal digits."""
        return f"{self.identifier:08x}"

    @property
    def source_type(self) -> str:
        """IPTC's digital source type, an address."""
        return COMPOSITE if self.sources else GENERATED

    def of_part(self, first_frame: int) -> Marks:
        """The marks of a part of the video that begins with a frame: in its frames, but not of its file."""
        return dataclasses.replace(self, manifest=False, first_frame=first_frame)
