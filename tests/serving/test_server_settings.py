"""Settings of the server: from a file, the environment and the command line, checked, with one sentence for each fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from fantasytalking.errors import SettingsError
from fantasytalking.serving.server_settings import (
    PREFIX,
    ServerSettings,
    is_loopback,
    read_server_settings,
)
from fantasytalking.serving.server_settings_table import server_settings_table

DOCS = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "serve.toml"
TOKEN = "anna-has-a-long-token"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [one for one in os.environ if one.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def write(folder: Path, text: str, name: str = "serve.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_command_line_comes_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, 'port = 1\nworkers = 2\nspeech_seconds = 3\nhosts = ["a.example"]\n')
    monkeypatch.setenv(PREFIX + "PORT", "4")
    monkeypatch.setenv(PREFIX + "WORKERS", "5")
    monkeypatch.setenv(PREFIX + "DEVICES", "cuda:0, cuda:1")
    read = read_server_settings(file, {"port": "6"})
    assert (read.port, read.workers, read.speech_seconds, read.hosts) == (6, 5, 3.0, ("a.example",))
    assert read.devices == ("cuda:0", "cuda:1")
    monkeypatch.setenv(PREFIX + "CONFIG", str(file))
    assert read_server_settings().speech_seconds == 3.0
    assert read_server_settings(None, {"port": 7}).replace(port=8).port == 8


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", r"serve\.toml: There is no setting 'prot'; did you mean 'port'\?"),
        (
            "port = 70000",
            r"serve\.toml: port must be a whole number from 0 to 65535, but 70000 was given; leave it out for 8000\.",
        ),
        ("port = true", r"port must not be true; give a whole number from 0 to 65535\."),
        ("speech_seconds = inf", "speech_seconds must be a number from 0.2 to 86400"),
        ('engine = "rey"', "engine must be processes or ray, but 'rey' was given; did you mean 'ray'"),
        ("port 1", "is no TOML file"),
        ('origins = ["https://a.example/x"]', "origins must be like https://studio.example"),
        ('origins = ["*"]', "origins must be like https://studio.example"),
        ('trusted_proxies = ["proxy"]', "trusted_proxies must be IP addresses or networks"),
        ('root_path = "talk/"', "root_path must begin with / and not end with it"),
        ('[tokens]\nanna = "short"', "The token of 'anna' must have at least 16"),
        (f'[tokens]\n"an na" = "{TOKEN}"', "The name of a client has letters"),
    ],
)
def test_a_fault_in_the_file_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_server_settings(write(tmp_path, text))


def test_a_fault_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "PROT", "1")
    with pytest.raises(SettingsError, match=f"There is no setting {PREFIX}PROT; did you mean '{PREFIX}PORT'"):
        read_server_settings()
    monkeypatch.delenv(PREFIX + "PROT")
    monkeypatch.setenv(PREFIX + "PORT", "x")
    with pytest.raises(SettingsError, match=f"{PREFIX}PORT: port must be a whole number"):
        read_server_settings()


def test_tokens_come_from_a_file_and_are_never_shown(tmp_path: Path) -> None:
    file = write(tmp_path, f"# clients\nanna={TOKEN}\n\nben = {TOKEN}-2\n", "tokens")
    read = read_server_settings(None, {"token_file": str(file)})
    assert {name: token.get_secret_value() for name, token in read.tokens.items()} == {
        "anna": TOKEN,
        "ben": f"{TOKEN}-2",
    }
    assert TOKEN not in repr(read) and TOKEN not in str(read)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("# nothing\n", "holds no token"),
        (f"{TOKEN}\n", "Entry 1 of .* must be NAME=TOKEN"),
        (f"anna={TOKEN}\nanna={TOKEN}2\n", "names the client 'anna' twice"),
        ("anna=short\n", "must have at least 16"),
    ],
)
def test_a_bad_token_file_is_told_without_its_tokens(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as told:
        read_server_settings(None, {"token_file": write(tmp_path, text, "tokens")})
    assert TOKEN not in str(told.value)


def test_loopback_is_what_others_cannot_call() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "[::1]", "localhost", "LOCALHOST.", "127.1.2.3")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "", "127.0.0.1.example")))


def test_the_table_of_the_docs_is_that_of_the_fields() -> None:
    assert server_settings_table() in DOCS.read_text(), "paste server_settings_table() into docs/serving.md"


def test_the_example_file_is_read() -> None:
    read = read_server_settings(EXAMPLE, {"token_file": None})
    assert read.log_format == "json" and read.data == Path("/var/lib/fantasytalking")
    assert all(name in ServerSettings.model_fields for name in read.model_fields_set)
