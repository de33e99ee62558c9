"""`fantasytalking serve`: the service, REST and page, with its workers."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.errors import MissingDependencyError, SettingsError
from fantasytalking.system.files import check_name
from fantasytalking.system.records import describe

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking serve --help`."""
    with _packages_named():
        from fantasytalking.serving.server_settings import ServerSettings, read_server_settings
    fields: list[Any] = [
        (
            "config",
            Annotated[Path | None, tyro.conf.arg(help="TOML file of settings.")],
            dataclasses.field(default=None),
        )
    ]
    for one in describe(ServerSettings):
        # A secret on a command line is seen by every process of the machine.
        if one.name == "tokens":
            continue
        unit = f" ({one.unit})" if one.unit else ""
        shown = ", ".join(one.default) if isinstance(one.default, tuple) else one.default
        default = "" if shown in (None, "") else f" (default: {shown})"
        argument = tyro.conf.arg(
            help=f"{one.help}{unit}{default}", metavar="|".join(one.choices) or "VALUE", help_behavior_hint=""
        )
        fields.append((one.name, Annotated[str | None, argument], dataclasses.field(default=None)))
    options: Any = parse(dataclasses.make_dataclass("Serve", fields, frozen=True), "serve", arguments)
    given = {name: value for name, value in vars(options).items() if value is not None}
    for name in ("config", "data", "token_file"):
        if name in given:
            check_name(Path(given[name]), SettingsError)
    settings = read_server_settings(given.pop("config", None), given)
    # After the options, so that a mistake does not wait for it.
    with _packages_named():
        from fantasytalking.serving.run_server import run_server
    return run_server(settings, sys.stderr)


@contextlib.contextmanager
def _packages_named() -> Iterator[None]:
    """Imports of the service, whose packages may be missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fantasytalking"):
            raise
        raise MissingDependencyError(
            f"'fantasytalking serve' needs the package {error.name}; install it with pip install 'fantasytalking[serve]'."
        ) from error
