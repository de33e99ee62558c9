"""Installs packages with uv from where pip would take them: pip's configuration files and variables, none of which uv reads.

    python scripts/uv_install.py OPTIONS AND PACKAGES OF `uv pip install`

Needs uv in the environment of this Python, into which it installs. Ends with another status than 0, and installs nothing, where pip has a
setting that changes what is installed and that is not handed on here.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable

ORDER = ("global", "install", ":env:")
"""Sections of pip's settings; a later one is in force instead of an earlier one."""

HARMLESS = {
    *("break-system-packages", "cache-dir", "default-timeout", "disable-pip-version-check", "log", "no-cache-dir"),
    *("no-color", "no-input", "no-warn-script-location", "progress-bar", "quiet", "require-virtualenv", "retries"),
    *("root-user-action", "timeout", "verbose"),
}
"""Settings that change nothing about what is installed."""


def settings(lines: Iterable[str]) -> dict[str, str]:
    """What is in force, by the names of pip's options, from the lines of `pip config list`."""
    found = {}
    for line in lines:
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in ORDER:
            found[ORDER.index(section), name.replace("_", "-")] = str(ast.literal_eval(value))
    return {name: value for (_, name), value in sorted(found.items())}


def for_uv(found: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Options of `uv pip install` and environment variables that say what settings of pip do.

    Raises:
        ValueError: A setting has no counterpart here.
    """
    # every index is asked for each package, as pip does
    options, variables = ["--index-strategy", "unsafe-best-match"], {}
    for name, value in found.items():
        if name in ("index-url", "extra-index-url", "find-links", "constraint"):
            options += [word for one in value.split() for word in (f"--{name}", one)]
        elif name == "cert":
            variables["SSL_CERT_FILE"] = value
        elif name not in HARMLESS:
            raise ValueError(f"pip's setting {name} cannot be handed on to uv")
    return options, variables


def main(words: list[str]) -> int:
    """Install."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    options, variables = for_uv(settings(listed.stdout.splitlines()))
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, *options, *words]
    return subprocess.run(command, env=os.environ | variables).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, SyntaxError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
