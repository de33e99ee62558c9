"""The models that a server offers, under names that tell nothing of its folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fantasytalking.errors import SettingsError
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.system.records import nearest_name

if TYPE_CHECKING:
    from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["default_settings", "model_named", "offered_models"]


def offered_models(settings: ServerSettings) -> dict[str, str]:
    """Name in the API -> name as the library knows it, the default first; a folder is called by its last name.

    Raises:
        SettingsError: Two folders have the same last name.
    """
    found: dict[str, str] = {}
    for name in settings.accepted_models:
        path = Path(name).expanduser()
        shown = path.resolve().name if path.is_dir() else name
        if shown in found:
            raise SettingsError(f"Two models are called {shown!r}; rename the folder of one of them.")
        found[shown] = str(path.resolve()) if path.is_dir() else name
    return found


def model_named(settings: ServerSettings, name: str | None) -> tuple[str, str]:
    """A model that a request names, as `offered_models` has it; None means the default.

    Raises:
        SettingsError: The server does not offer it.
    """
    offered = offered_models(settings)
    shown = next(iter(offered)) if name is None else name
    if shown not in offered:
        raise SettingsError(f"There is no model {shown!r} here; {nearest_name(shown, offered, 'models')}")
    return shown, offered[shown]


def default_settings(settings: ServerSettings, model: str | None = None) -> GenerationSettings:
    """Settings of a model where nothing is given; the library's where the model is not on this machine yet.

    Args:
        settings: Of the server.
        model: Name of the model in the API; None takes the default.
    """
    from fantasytalking.pipeline.early_inputs import read_demands
    from fantasytalking.pipeline.model_names import resolve_model
    from fantasytalking.pipeline.settings import GenerationSettings

    found = resolve_model(model_named(settings, model)[1])
    demands = read_demands(found, {}) if isinstance(found, Path) else None
    return GenerationSettings() if demands is None else demands.settings
