#!/usr/bin/env python3
"""Looks up whether every dependency has a wheel for Windows, macOS and Linux, and says which is missing where.

    python scripts/check_wheels.py                         the core and all extras, all systems, Python 3.11 to 3.13
    python scripts/check_wheels.py --system windows --python 3.12 --extra train

Nothing is installed, and of a wheel only its description is read: pip looks up one level of requirements after the other for another system
(`--dry-run --no-deps`), and this script decides by the markers of that system what the next level is, as pip itself asks the markers of the
system that it runs on. Versions are those of constraints.txt. Ends with 1 if a wheel is missing that is not in KNOWN below.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
_GLIBC = range(5, 36)
"""Minor versions of glibc 2 whose wheels run on a system of today (Ubuntu 22.04 has 35)."""


def _linux(machine: str) -> tuple[str, ...]:
    versions = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC]
    return (*versions, *(f"{old}_{machine}" for old in ("manylinux1", "manylinux2010", "manylinux2014", "linux")))


@dataclass(frozen=True)
class System:
    """A system that wheels are looked up for: the tags of its wheels, and what its markers say."""

    tags: tuple[str, ...]
    markers: Mapping[str, str]


SYSTEMS = {
    "windows": System(
        ("win_amd64",),
        {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64", "os_name": "nt"},
    ),
    "macos-arm64": System(
        ("macosx_15_0_arm64",),
        {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"},
    ),
    "linux-x86_64": System(
        _linux("x86_64"),
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"},
    ),
    "linux-aarch64": System(
        _linux("aarch64"),
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64", "os_name": "posix"},
    ),
}

KNOWN: dict[tuple[str, str], str] = {}
"""(system, package) -> what a user does without it; these do not fail the check."""


@dataclass
class Found:
    """What a look-up found: package -> file of its wheel, or None; and package -> what asked for it."""

    wheels: dict[str, str | None] = field(default_factory=dict)
    asked_by: dict[str, set[str]] = field(default_factory=dict)


def groups() -> dict[str, list[Requirement]]:
    """The requirements of the core and of each extra; an extra that names another holds that one's, too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def listed(texts: Iterable[str]) -> list[Requirement]:
        found = []
        for one in map(Requirement, texts):
            inner = [text for extra in one.extras for text in extras[extra]] if one.name == project["name"] else None
            found += [one] if inner is None else listed(inner)
        return found

    return {"core": listed(project["dependencies"]), **{name: listed(texts) for name, texts in extras.items()}}


def pins() -> dict[str, str]:
    """Package -> pinned version, of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def applies(requirement: Requirement, environment: Mapping[str, str], extras: Iterable[str]) -> bool:
    """Whether a requirement holds in an environment."""
    return requirement.marker is None or any(
        requirement.marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
    )


def look_up(system: System, python: str, wanted: Sequence[Requirement], pip: Sequence[str]) -> Found:
    """Look up the wheels of some requirements and of all that they require.

    Args:
        system: The system.
        python: Version of Python, such as 3.12.
        wanted: The requirements.
        pip: Words that call pip.
    """
    environment = {
        **system.markers,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    pinned, found = pins(), Found()
    level = [(one, "this package") for one in wanted if applies(one, environment, ())]
    seen: set[str] = set()
    while level:
        asked: dict[str, Requirement] = {}
        for one, by in level:
            name = canonicalize_name(one.name)
            found.asked_by.setdefault(name, set()).add(by)
            if name not in found.wheels:
                asked.setdefault(name, one)
        specifiers = {
            name: f"{name}=={pinned[name]}" if name in pinned else f"{name}{one.specifier}"
            for name, one in asked.items()
        }
        described = describe(specifiers, system, python, pip)
        level_extras: dict[str, set[str]] = {}
        for one, _ in level:
            level_extras.setdefault(canonicalize_name(one.name), set()).update(one.extras)
        level = []
        for name in asked:
            found.wheels[name] = described[name][0] if name in described else None
            for text in described[name][1] if name in described and name not in seen else ():
                inner = Requirement(text)
                if applies(inner, environment, level_extras[name]):
                    level.append((inner, name))
            seen.add(name)
        level = [(one, by) for one, by in level if canonicalize_name(one.name) not in found.wheels]
    return found


def describe(
    wanted: Mapping[str, str], system: System, python: str, pip: Sequence[str]
) -> dict[str, tuple[str, list[str]]]:
    """Ask pip for wheels: package -> file and requirements; a package without a wheel is left out.

    Args:
        wanted: Package -> requirement.
        system: The system.
        python: Version of Python.
        pip: Words that call pip.
    """
    rest = dict(wanted)
    while rest:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            words = [*pip, "install", "--dry-run", "--no-deps", "--ignore-installed", "--only-binary=:all:", "--quiet"]
            words += ["--implementation", "cp", "--python-version", python, "--target", folder, "--report", str(report)]
            words += [word for tag in system.tags for word in ("--platform", tag)]
            done = subprocess.run([*words, *rest.values()], capture_output=True, text=True)
            if done.returncode == 0:
                entries = json.loads(report.read_text(encoding="utf-8"))["install"]
                return {
                    canonicalize_name(entry["metadata"]["name"]): (
                        entry["download_info"]["url"].rpartition("/")[2],
                        entry["metadata"].get("requires_dist", []),
                    )
                    for entry in entries
                }
        lacking = re.search(r"No matching distribution found for ([A-Za-z0-9._-]+)", done.stderr)
        name = canonicalize_name(lacking[1]) if lacking else ""
        if name not in rest:
            raise SystemExit(f"pip could not look up {', '.join(rest)}:\n{done.stderr.strip()}")
        del rest[name]
    return {}


def main(words: Sequence[str]) -> int:
    """Look up what the words ask for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--system", choices=SYSTEMS, action="append", help="a system; default: all")
    parser.add_argument("--python", choices=PYTHONS, action="append", help="a version of Python; default: all")
    parser.add_argument("--extra", action="append", help="core, or the name of an extra; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    pip = [sys.executable, "-m", "pip"]
    version = subprocess.run([*pip, "--version"], capture_output=True, text=True).stdout.split()
    if not version or tuple(map(int, version[1].split(".")[:2])) < (23, 3):
        print(
            "pip 23.3 or later is needed, as earlier ones download the wheels: python -m pip install -U pip",
            file=sys.stderr,
        )
        return 2
    lists = {name: wanted for name, wanted in groups().items() if not options.extra or name in options.extra}
    result: dict[str, dict[str, dict[str, list[str]]]] = {}
    bad = 0
    for system in options.system or SYSTEMS:
        for python in options.python or PYTHONS:
            everything = [one for wanted in lists.values() for one in wanted]
            found = look_up(SYSTEMS[system], python, everything, pip)
            result.setdefault(system, {})[python] = lacks = missing(found, lists)
            for name in lacks:
                known = KNOWN.get((system, name))
                bad += known is None
                who = ", ".join(sorted(found.asked_by[name]))
                text = (
                    f"{system}, Python {python}: no wheel of {name} (asked for by {who}; in {', '.join(lacks[name])})"
                )
                print(text + (f": {known}" if known else ""), file=sys.stderr)
            print(
                f"{system}, Python {python}: {len(found.wheels)} packages, {len(lacks)} without a wheel",
                file=sys.stderr,
            )
    if options.json:
        print(json.dumps(result))
    return 1 if bad else 0


def missing(found: Found, lists: Mapping[str, Sequence[Requirement]]) -> dict[str, list[str]]:
    """Packages without a wheel -> the groups that lead to them."""

    def leads(name: str) -> set[str]:
        reached, waiting = {name}, [name]
        while waiting:
            for by in found.asked_by.get(waiting.pop(), ()):
                if by not in reached:
                    reached.add(by)
                    waiting.append(by)
        return reached

    lacks: dict[str, list[str]] = {}
    for name in sorted(name for name, wheel in found.wheels.items() if wheel is None):
        reached = leads(name)
        lacks[name] = [
            group for group, wanted in lists.items() if any(canonicalize_name(one.name) in reached for one in wanted)
        ]
    return lacks


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
