"""What a manifest says, taken out of c2pa's reading of it.

A signature that holds says who wrote a manifest, and anybody can write one: every value may be of any type, of any length, and hold
escape sequences of a terminal. What is not of the form that it should have counts as not said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from fantasytalking.provenance.marks import MADE_BY_MODELS
from fantasytalking.provenance.signed_manifest import GENERATION
from fantasytalking.system.printable_text import printable

__all__ = ["Claims", "text_of"]

_LONGEST = 200
"""Characters of a text that are shown."""
_MOST_SOURCES = 100
# Boxes that may be left out of the signature without leaving out pictures or where they lie (C2PA 2.4, A.5.2).
_HARMLESS = {"/uuid", "/ftyp", "/mfra", "/free", "/skip", "/emsg", "/moov/pssh", "/moof/pssh"}


def text_of(value: object) -> str:
    """A text of a manifest on one line, shortened; nothing where it is none."""
    if not isinstance(value, str):
        return ""
    return printable(value[:_LONGEST]) + ("…" if len(value) > _LONGEST else "")


class Claims:
    """What a manifest says.

    Args:
        manifest: It, as c2pa's reader gives it in JSON.
    """

    def __init__(self, manifest: object) -> None:
        self._manifest = _table(manifest)
        self._assertions = [_table(one) for one in _list(self._manifest.get("assertions"))]
        self._generation = next((_table(data) for data in self._data(GENERATION)), {})

    @property
    def organisation(self) -> str:
        """The signer's organisation, as the certificate names it."""
        return text_of(self._signature.get("issuer"))

    @property
    def signer(self) -> str:
        """Organisation and name of the signer."""
        return ", ".join(filter(None, (self.organisation, text_of(self._signature.get("common_name")))))

    @property
    def generator(self) -> str:
        """Name and version of the program."""
        tool = next(map(_table, _list(self._manifest.get("claim_generator_info"))), {})
        return " ".join(filter(None, (text_of(tool.get("name")), text_of(tool.get("version")))))

    @property
    def identifier(self) -> str | None:
        """Of the generation, eight hexadecimal digits."""
        return _hexadecimal(self._generation.get("identifier"), 8) or None

    @property
    def model(self) -> str:
        """Name of the model."""
        return text_of(self._generation.get("model"))

    @property
    def settings_sha256(self) -> str:
        """Digest of the settings."""
        return _hexadecimal(self._generation.get("settings_sha256"), 64)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the footage that was changed."""
        found = _list(self._manifest.get("ingredients"))[:_MOST_SOURCES]
        return tuple(text_of(_table(one).get("title")) for one in found)

    @property
    def source_type(self) -> str:
        """IPTC's digital source type: that of a model, if any action names one, else the first."""
        actions = [_table(one) for data in self._data("c2pa.actions") for one in _list(_table(data).get("actions"))]
        types = [kind for kind in (text_of(one.get("digitalSourceType")) for one in actions) if kind]
        return next((kind for kind in types if kind in MADE_BY_MODELS), types[0] if types else "")

    @property
    def covers(self) -> Literal["all", "header"]:
        """What is signed: all, or not the pictures."""
        excluded = [
            _table(one).get("xpath")
            for data in self._data("c2pa.hash.bmff")
            for one in _list(_table(data).get("exclusions"))
        ]
        return "all" if all(path in _HARMLESS for path in excluded if isinstance(path, str)) else "header"

    @property
    def _signature(self) -> dict[str, Any]:
        return _table(self._manifest.get("signature_info"))

    def _data(self, label: str) -> Iterator[object]:
        """Data of the assertions whose label is this or begins so, as versions and numbers are appended to it."""
        for one in self._assertions:
            if re.fullmatch(rf"{re.escape(label)}(\.v\d+)?(__\d+)?", text_of(one.get("label"))):
                yield one.get("data")


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _hexadecimal(value: object, digits: int) -> str:
    return value if isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{digits}}}", value) else ""
