"""Settings of the server: every limit and choice, from a TOML file, the environment and the command line.

The command line comes before the environment (`FANTASYTALKING_SERVE_PORT=8080`), the environment before the file. The table in
`docs/serving.md` (`server_settings_table.py`) and the options of `fantasytalking serve` are made from the fields.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import pydantic
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from fantasytalking.errors import SettingsError
from fantasytalking.serving.access_tokens import check_token, read_token_file, tokens_in
from fantasytalking.system.files import existing_file
from fantasytalking.system.records import FieldDescription, describe, field, nearest_name, read_record

__all__ = [
    "CONFIG_VARIABLE",
    "PREFIX",
    "ServerSettings",
    "is_loopback",
    "read_server_settings",
]

PREFIX = "FANTASYTALKING_SERVE_"
CONFIG_VARIABLE = PREFIX + "CONFIG"

_MIB = 1024 * 1024
Words: TypeAlias = Annotated[tuple[str, ...], NoDecode]


class ServerSettings(BaseSettings):
    """Settings of a server, checked when they are read; made by `read_server_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False, env_ignore_empty=True
    )

    host: Annotated[str, field("Address to listen on; any but a loopback address needs tokens.")] = "127.0.0.1"
    port: Annotated[int, field("Port to listen on; 0 takes a free one.", minimum=0, maximum=65535)] = 8000
    root_path: Annotated[str, field("Path below which a proxy offers the server, such as /talk.")] = ""
    token_file: Annotated[
        Path | None, field("File of access tokens: a line NAME=TOKEN for each client; nothing: no tokens.")
    ] = None
    tokens: Annotated[
        dict[str, pydantic.SecretStr], NoDecode, field("Access tokens by name of the client, beside those of the file.")
    ] = {}
    hosts: Annotated[
        Words, field("Names under which the server may be called, beside its address and localhost; * for any.")
    ] = ()
    origins: Annotated[
        Words, field("Pages of other origins that may send requests, such as https://studio.example.")
    ] = ()
    trusted_proxies: Annotated[
        Words, field("Addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.")
    ] = ()
    page: Annotated[bool, field("Whether the page is offered beside the API.")] = True

    data: Annotated[Path, field("Folder of jobs and videos; nothing is written elsewhere.")] = Path(
        "fantasytalking-data"
    )
    database: Annotated[str, field("URL of the database for SQLAlchemy; empty: SQLite in the data folder.")] = ""
    model: Annotated[
        str, field("Model of requests that name none: embedded, a folder, or a repository of the hub.")
    ] = "embedded"
    models: Annotated[Words, field("Models that requests may name beside it.")] = ()
    engine: Annotated[
        Literal["processes", "ray"], field("What runs the workers: processes of this machine, or Ray Serve.")
    ] = "processes"
    ray_address: Annotated[str, field("With ray: address of the cluster; empty: one that is started here.")] = ""
    devices: Annotated[Words, field("Devices, one worker each, such as cuda:0, cuda:1; auto: the best one.")] = (
        "auto",
    )
    workers: Annotated[int, field("Worker processes a device.", minimum=1, maximum=64)] = 1
    threads: Annotated[
        int | None, field("CPU threads of a worker; nothing: as many as are of use.", minimum=1, maximum=1024)
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], field("Type of the weights, as for generate.")
    ] = "auto"
    memory: Annotated[
        Literal["auto", "high", "balanced", "low", "minimal"], field("Memory plan of the workers, as for generate.")
    ] = "auto"
    quantize: Annotated[Literal["none", "fp8"], field("Storage of large layers, as for generate.")] = "none"

    image_bytes: Annotated[int, field("Largest portrait.", minimum=1024, maximum=2**31, unit="bytes")] = 160 * _MIB
    audio_bytes: Annotated[int, field("Largest sound file.", minimum=1024, maximum=2**34, unit="bytes")] = 128 * _MIB
    video_bytes: Annotated[int, field("Largest footage.", minimum=1024, maximum=2**36, unit="bytes")] = 512 * _MIB
    image_pixels: Annotated[
        int, field("Most pixels of a portrait.", minimum=4096, maximum=178_000_000, unit="pixels")
    ] = 50_000_000
    video_pixels: Annotated[
        int, field("Most pixels of a frame of footage.", minimum=4096, maximum=178_000_000, unit="pixels")
    ] = 8_847_360
    speech_seconds: Annotated[float, field("Longest speech.", minimum=0.2, maximum=86400, unit="seconds")] = 600.0
    footage_seconds: Annotated[float, field("Longest footage.", minimum=0.2, maximum=86400, unit="seconds")] = 600.0
    prompt_characters: Annotated[int, field("Longest prompt.", minimum=0, maximum=100_000, unit="characters")] = 4000
    speakers: Annotated[int, field("Most speakers of a video.", minimum=1, maximum=64)] = 8
    check_seconds: Annotated[
        float,
        field(
            "Longest time that decoding one uploaded file may take before it is refused.",
            minimum=1,
            maximum=3600,
            unit="seconds",
        ),
    ] = 60.0
    check_memory: Annotated[
        int,
        field("Most memory that decoding one uploaded file may take.", minimum=512 * _MIB, maximum=2**40, unit="bytes"),
    ] = 3072 * _MIB
    checks_at_once: Annotated[
        int, field("Requests whose files are decoded at the same time.", minimum=1, maximum=256)
    ] = 2
    url_hosts: Annotated[
        Words, field("Hosts from which portraits and sound may be fetched by https URL; empty: no URL is fetched.")
    ] = ()

    realtime_sessions: Annotated[
        int,
        field(
            "Live sessions at the same time, each in a process with a model of its own; 0: none.",
            minimum=0,
            maximum=256,
        ),
    ] = 1
    realtime_seconds: Annotated[float, field("Longest live session.", minimum=1, maximum=86400, unit="seconds")] = (
        1800.0
    )
    realtime_keep_seconds: Annotated[
        float,
        field(
            "How long the process of a live session is kept for the next one.", minimum=0, maximum=86400, unit="seconds"
        ),
    ] = 300.0

    queued_jobs: Annotated[int, field("Most jobs that wait or run.", minimum=1, maximum=1_000_000)] = 200
    queued_jobs_per_client: Annotated[int, field("Most of them of one client.", minimum=1, maximum=1_000_000)] = 20
    requests_per_minute: Annotated[
        int, field("Most requests of one client in a minute, files of the page apart.", minimum=1, maximum=1_000_000)
    ] = 600
    uploads_per_minute: Annotated[
        int, field("Most of them that send files or texts to speak, or check a video.", minimum=1, maximum=1_000_000)
    ] = 60
    connections: Annotated[int, field("Most connections at the same time.", minimum=8, maximum=100_000)] = 512
    header_bytes: Annotated[
        int, field("Largest request line and headers together.", minimum=4096, maximum=2**20, unit="bytes")
    ] = 32768
    idle_seconds: Annotated[
        float, field("Longest silence of a client that is sending.", minimum=1, maximum=3600, unit="seconds")
    ] = 30.0
    body_seconds: Annotated[
        float, field("Longest time that a client may take to send a request.", minimum=1, maximum=86400, unit="seconds")
    ] = 600.0
    try_seconds: Annotated[
        float, field("Longest time that one try of a job may take.", minimum=1, maximum=2_592_000, unit="seconds")
    ] = 14400.0
    tries: Annotated[int, field("Most tries of a job whose worker died.", minimum=1, maximum=20)] = 3
    retention_hours: Annotated[
        float, field("How long a job that ended is kept with its files.", minimum=0.01, maximum=876_000, unit="hours")
    ] = 168.0
    disk_free_bytes: Annotated[
        int, field("Room on the disk below which no job is accepted.", minimum=0, maximum=2**50, unit="bytes")
    ] = 1024 * _MIB
    stop_seconds: Annotated[
        float,
        field(
            "On a stop, how long running jobs may go on before they are handed back.",
            minimum=0,
            maximum=86400,
            unit="seconds",
        ),
    ] = 20.0

    log_format: Annotated[Literal["text", "json"], field("Form of the log.")] = "text"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], field("Least weight of what is logged.")] = (
        "info"
    )

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _plain_kinds(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        hint = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and hint is not bool:
            raise ValueError(f"must not be {str(value).lower()}; give {_known(str(info.field_name)).accepted}.")
        if hint == tuple[str, ...] and isinstance(value, str):
            return tuple(filter(None, (word.strip() for word in value.split(","))))
        if info.field_name == "tokens" and isinstance(value, str):
            return tokens_in(value.split(","), "tokens")
        return value

    @pydantic.field_validator("tokens")
    @classmethod
    def _strong_tokens(cls, value: dict[str, pydantic.SecretStr]) -> dict[str, pydantic.SecretStr]:
        for name, token in value.items():
            check_token(name, token.get_secret_value())
        return value

    @pydantic.model_validator(mode="after")
    def _whole(self) -> ServerSettings:
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ValueError(f"root_path must begin with / and not end with it, but {self.root_path!r} was given.")
        if not self.devices:
            raise ValueError("devices must name one at least, such as auto, but none was given.")
        for origin in self.origins:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest or "*" in rest:
                raise ValueError(f"origins must be like https://studio.example, but {origin!r} was given.")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError(
                    f"trusted_proxies must be IP addresses or networks, but {proxy!r} was given."
                ) from None
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values come from `read_server_settings` alone, which knows where each was given; no hidden `.env` file is read."""
        return (init_settings,)

    @property
    def database_url(self) -> str:
        """URL of the database, that of SQLite in the data folder where none is given."""
        return self.database or f"sqlite:///{(self.data / 'jobs.sqlite').absolute().as_posix()}"

    @property
    def accepted_models(self) -> tuple[str, ...]:
        """Models that a request may name, the default first."""
        return tuple(dict.fromkeys((self.model, *self.models)))

    @property
    def loopback_only(self) -> bool:
        """Whether the server listens where this machine alone can call it."""
        return is_loopback(self.host)

    def replace(self, **changes: Any) -> ServerSettings:
        """A copy with some settings changed.

        Raises:
            SettingsError: An unknown name or a bad value.
        """
        values = {**self.model_dump(), **changes}
        tokens = {name: _plain_token(token) for name, token in values["tokens"].items()}
        return read_record(ServerSettings, {**values, "tokens": tokens})


def is_loopback(host: str) -> bool:
    """Whether a host, without a port, is this machine under an address that others cannot call."""
    name = host.strip("[]").lower().rstrip(".")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def read_server_settings(config: Path | None = None, given: Mapping[str, Any] | None = None) -> ServerSettings:
    """The settings of a server, from all places where they can be given.

    Args:
        config: TOML file; None: that of `FANTASYTALKING_SERVE_CONFIG`, if any.
        given: Settings of the command line, by name; they come first.

    Raises:
        SettingsError: An unknown name or a bad value, with the file or the variable where it stands; the file is missing or no TOML.
    """
    chosen = os.environ.get(CONFIG_VARIABLE)
    file = config if config is not None else Path(chosen) if chosen else None
    values: dict[str, Any] = {}
    # each place by itself first, so that an error names the one where the value stands
    if file is not None:
        values.update(_toml(file))
        read_record(ServerSettings, values, str(file))
    _refuse_unknown_variables()
    for name, text in EnvSettingsSource(ServerSettings)().items():
        read_record(ServerSettings, {name: text}, PREFIX + name.upper())
        values[name] = text
    return _with_token_file(read_record(ServerSettings, {**values, **(given or {})}))


def _plain_token(token: Any) -> str:
    return token.get_secret_value() if isinstance(token, pydantic.SecretStr) else str(token)


def _toml(file: Path) -> dict[str, Any]:
    existing_file(file, "settings", SettingsError)
    try:
        return dict(TomlConfigSettingsSource(ServerSettings, file)())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is no TOML file ({error}); correct that line.") from None


def _refuse_unknown_variables() -> None:
    # pydantic-settings looks up the variables of its fields alone, so a misspelt one would be a setting that has no effect
    known = [PREFIX + name.upper() for name in ServerSettings.model_fields] + [CONFIG_VARIABLE]
    for variable in os.environ:
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            raise SettingsError(f"There is no setting {variable}; {nearest_name(variable, known, 'settings')}")


def _with_token_file(settings: ServerSettings) -> ServerSettings:
    if settings.token_file is None:
        return settings
    tokens = read_token_file(settings.token_file)
    doubled = tokens.keys() & settings.tokens.keys()
    if doubled:
        raise SettingsError(f"The client {min(doubled)!r} has a token in the file and in tokens; remove one of them.")
    whole: ServerSettings = settings.model_copy(update={"tokens": {**settings.tokens, **tokens}, "token_file": None})
    return whole


def _known(name: str) -> FieldDescription:
    return next(one for one in describe(ServerSettings) if one.name == name)
