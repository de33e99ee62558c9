"""The settings of the server as a table for its documentation."""

from __future__ import annotations

from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.system.records import FieldDescription, describe, plain

__all__ = ["server_settings_table"]


def server_settings_table() -> str:
    """The table in `docs/serving.md`: one row per setting."""
    lines = ["| setting | default | accepted | what it is |", "|---|---|---|---|"]
    for known in describe(ServerSettings):
        unit = f" ({known.unit})" if known.unit else ""
        lines.append(f"| `{known.name}` | {_shown(known)} | {_accepted(known)}{unit} | {known.help} |")
    return "\n".join(lines) + "\n"


def _accepted(known: FieldDescription) -> str:
    hint = ServerSettings.model_fields[known.name].annotation
    if hint == tuple[str, ...]:
        return "words"
    if known.name == "tokens":
        return "a table NAME = TOKEN"
    return known.accepted.replace("another value", "a path")


def _shown(known: FieldDescription) -> str:
    if known.default is None:
        return "nothing"
    if isinstance(known.default, tuple | dict):
        return ", ".join(known.default) or "none"
    if isinstance(known.default, bool):
        return str(known.default).lower()
    return plain(known.default) or "empty"
