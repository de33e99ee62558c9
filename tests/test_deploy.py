"""What `deploy/` says agrees with the package, the command line and the server."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from fantasytalking.serving.server_settings import PREFIX, ServerSettings, read_server_settings
from tests.serving.hand_service import HandService
from tests.serving.live_server import running

ROOT = Path(__file__).resolve().parent.parent
CONTAINER = re.sub(r"(?m)^#.*\n", "", (ROOT / "deploy" / "Containerfile").read_text()).replace("\\\n", " ")
UNIT = (ROOT / "deploy" / "fantasytalking.service").read_text()
TOKEN = "a-token-of-the-tests"


def instructions(name: str) -> list[str]:
    """The arguments of all instructions of that name in the Containerfile."""
    return re.findall(rf"(?m)^{name} +(.+)$", CONTAINER)


def variables(words: str) -> dict[str, str]:
    """NAME=VALUE words as a table."""
    return dict(word.split("=", 1) for word in shlex.split(words))


def copied() -> list[str]:
    """What the Containerfile takes from the folder."""
    return [name for line in instructions("COPY") if not line.startswith("--from") for name in line.split()[:-1]]


def settings_of(monkeypatch: pytest.MonkeyPatch, tokens: Path, given: Mapping[str, str]) -> ServerSettings:
    """The settings of a server with those variables."""
    tokens.write_text(f"studio={TOKEN}\n")
    for name, value in given.items():
        monkeypatch.setenv(name, str(tokens) if name == f"{PREFIX}TOKEN_FILE" else value)
    return read_server_settings()


def test_the_builder_gets_what_the_package_is_made_of_and_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*", "everything is kept out, but for what is named"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = [project["project"]["readme"], *project["project"]["license-files"], *packages]
    for name in ("pyproject.toml", "constraints.txt", *needed):
        assert (ROOT / name).exists() and Path(name).parts[0] in copied()


def test_the_container_is_a_server_with_tokens_and_a_place_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = variables(instructions("ENV")[0])
    own = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    settings = settings_of(monkeypatch, tmp_path / "tokens", own)
    assert not settings.loopback_only and settings.tokens
    volume = instructions("VOLUME")[0]
    assert settings.data.is_relative_to(volume) and given["HF_HOME"].startswith(f"{volume}/")
    assert str(settings.port) == instructions("EXPOSE")[0]


def test_the_health_check_of_the_container_answers_as_the_server_does(tmp_path: Path) -> None:
    service = HandService(tmp_path, host="0.0.0.0", tokens={"studio": TOKEN})
    command = json.loads(re.findall(r"HEALTHCHECK.* CMD (\[.+\])", CONTAINER)[0])
    with running(service.app, service.settings) as port:
        asked = [sys.executable, *(word.replace(":8000", f":{port}") for word in command[1:])]
        answers = []
        for alive in (1, 0):
            service.hand.alive = alive
            answers.append(subprocess.run(asked, capture_output=True, timeout=30).returncode)
    service.store.close()
    assert answers == [0, 1]


def test_the_documented_container_gets_what_its_file_expects() -> None:
    page = (ROOT / "docs" / "serving.md").read_text()
    block = page[page.index("container_gets_what_its_file_expects") :].split("```bash\n")[1].split("```")[0]
    build, secret, run = (shlex.split(line) for line in block.strip().splitlines())
    # podman's own format has no health check
    assert build[build.index("--format") + 1] == "docker" and (ROOT / build[build.index("-f") + 1]).is_file()
    given = variables(instructions("ENV")[0])
    assert f"/run/secrets/{secret[3]}" == given[f"{PREFIX}TOKEN_FILE"] and run[run.index("--secret") + 1] == secret[3]
    assert run[run.index("-p") + 1].endswith(f":{instructions('EXPOSE')[0]}")
    assert run[run.index("-v") + 1].endswith(f":{instructions('VOLUME')[0]}")
    assert int(run[run.index("--stop-timeout") + 1]) > ServerSettings().stop_seconds + 10
    assert run[-1] == build[build.index("-t") + 1]


def test_the_unit_hands_over_files_that_root_alone_can_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = [line.split("=", 1) for line in UNIT.splitlines() if "=" in line and not line.startswith("#")]
    handed = [value.split(":") for key, value in keys if key == "LoadCredential"]
    given = variables(next(value for key, value in keys if key == "Environment"))
    command = shlex.split(next(value for key, value in keys if key == "ExecStart"))
    assert command[command.index("--config") + 1] in [f"%d/{name}" for name, _ in handed]
    assert given[f"{PREFIX}TOKEN_FILE"] in [f"%d/{name}" for name, _ in handed]
    own = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    monkeypatch.setenv(f"{PREFIX}CONFIG", str(ROOT / "deploy" / "serve.toml"))
    settings = settings_of(monkeypatch, tmp_path / "tokens", own)
    values = dict(keys)
    assert (
        settings.tokens and str(settings.data) == f"/var/lib/{values['StateDirectory']}" == values["WorkingDirectory"]
    )
    assert float(values["TimeoutStopSec"]) > settings.stop_seconds + 10
    # a mistake in the settings ends with 2, and would end every further start
    assert values["RestartPreventExitStatus"] == "2"


def test_what_a_server_keeps_in_the_clone_is_not_committed() -> None:
    assert f"/{ServerSettings().data}/" in (ROOT / ".gitignore").read_text().splitlines()
