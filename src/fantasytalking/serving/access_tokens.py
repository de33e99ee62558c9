"""Access tokens by name of the client, as they are written in settings and files."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from fantasytalking.errors import SettingsError
from fantasytalking.system.files import existing_file

__all__ = ["check_token", "read_token_file", "tokens_in"]

_SHORTEST_TOKEN = 16


def read_token_file(path: Path) -> dict[str, SecretStr]:
    """Read a file with a line NAME=TOKEN for each client; empty lines and those that begin with # are left out.

    Raises:
        SettingsError: The file is missing, is no text, or holds no token, a weak one, or two of one client.
    """
    file = existing_file(path, "token", SettingsError)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise SettingsError(f"The token file '{file}' is no text; write a line NAME=TOKEN for each client.") from None
    tokens = tokens_in([line for line in lines if line and not line.startswith("#")], str(file))
    if not tokens:
        raise SettingsError(f"{file} holds no token; write a line NAME=TOKEN for each client.")
    return tokens


def tokens_in(lines: list[str], where: str) -> dict[str, SecretStr]:
    """The tokens of some lines NAME=TOKEN.

    Args:
        lines: The lines.
        where: Where they stand, for messages.

    Raises:
        SettingsError: A line is no such line, names a client again, or its token is weak.
    """
    tokens: dict[str, SecretStr] = {}
    for number, line in enumerate(lines, start=1):
        name, equals, token = (part.strip() for part in line.partition("="))
        # the line itself is not shown: it may be a token without a name
        if not equals or not name or not token:
            raise SettingsError(f"Entry {number} of {where} must be NAME=TOKEN, with the name of a client.")
        if name in tokens:
            raise SettingsError(f"{where} names the client {name!r} twice; give each client one token.")
        check_token(name, token)
        tokens[name] = SecretStr(token)
    return tokens


def check_token(name: str, token: str) -> None:
    """Check one token.

    Raises:
        SettingsError: The name or the token is not accepted.
    """
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or len(name) > 64 or not name.isascii():
        raise SettingsError(f"The name of a client has letters, digits, '-', '_' and '.', but {name!r} was given.")
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(
            f"The token of {name!r} must have at least {_SHORTEST_TOKEN} printable characters; make one with "
            "python -c 'import secrets; print(secrets.token_urlsafe())'."
        )
