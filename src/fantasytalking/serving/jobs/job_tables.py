"""The tables of the job database, and connections to it: SQLite, or PostgreSQL by URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
    insert,
    select,
)
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from fantasytalking.errors import MissingDependencyError, SettingsError

__all__ = ["CLIENTS", "JOBS", "lock_queue", "open_database", "reading"]

_VERSION = 1
"""Of the tables; another one is refused."""
_WAIT = 30.0
"""Seconds that a process waits for others to finish with an SQLite file."""
_QUEUE_LOCK = 0x66740001
"""Key of PostgreSQL's advisory lock on the number of queued jobs."""
_MADE = MetaData()

JOBS = Table(
    "jobs",
    _MADE,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("client", String(200), nullable=False),
    Column("status", String(16), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("model", Text, nullable=False),
    Column("profile", String(32), nullable=False),
    Column("given", JSON, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("notes", JSON, nullable=False),
    Column("request_id", String(200), nullable=False),
    Column("idempotency_key", String(255)),
    Column("fingerprint", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("completed_at", Double),
    Column("expires_at", Double),
    Column("progress", Double, nullable=False, default=0.0),
    Column("stage", String(64)),
    Column("seconds_left", Double),
    Column("preview", Integer, nullable=False, default=0),
    Column("tries", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),
    Column("worker", String(400)),
    Column("lease_until", Double),
    Column("error", JSON),
    Column("video", JSON),
    Column("video_file", String(64)),
    Index("jobs_by_status", "status", "client"),
    Index("jobs_by_client", "client", "number"),
    Index("jobs_by_idempotency_key", "client", "idempotency_key", unique=True),
    sqlite_autoincrement=True,
)
"""A row a job; its columns are the fields of `Job`."""

CLIENTS = Table(
    "clients",
    _MADE,
    Column("name", String(200), primary_key=True),
    Column("last_started", Double, nullable=False),
)
"""When a job of each client began last, which outlives the jobs."""

_FACTS = Table("facts", _MADE, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False))


def open_database(url: str) -> Engine:
    """Connect to the database, and make its tables where there are none.

    Args:
        url: As SQLAlchemy takes it, such as `sqlite:////srv/jobs.sqlite` or `postgresql://user:password@host/name`.

    Raises:
        SettingsError: The URL names no database of these kinds, it cannot be reached, or it has tables of another version.
        MissingDependencyError: The driver of PostgreSQL is not installed.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError:
        raise SettingsError(
            "The URL of the database is none; give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME."
        ) from None
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise SettingsError(f"The database is SQLite or PostgreSQL, but a URL of {kind!r} was given.")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        engine = _sqlite(parsed) if kind == "sqlite" else sqlalchemy.create_engine(parsed, pool_pre_ping=True)
        try:
            with engine.begin() as connection:
                lock_queue(connection)
                _MADE.create_all(connection)
                _check_version(connection)
        except BaseException:
            engine.dispose()
            raise
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise MissingDependencyError(
            "PostgreSQL needs the package psycopg; install it with pip install 'fantasytalking[postgres]'."
        ) from error
    except (SQLAlchemyError, OSError) as error:
        # The reason of the driver names host and user, never the password.
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise SettingsError(
            f"The database {parsed.render_as_string(hide_password=True)} cannot be used ({reason}); check the address and the rights."
        ) from error
    return engine


def reading(engine: Engine) -> Engine:
    """The same engine for transactions that only read, which SQLite lets run beside the one that writes."""
    return engine.execution_options(only_reads=True)


def lock_queue(connection: Connection) -> None:
    """Let no other transaction change the number of queued jobs until this one ends; SQLite's have one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_QUEUE_LOCK})")


def _sqlite(url: sqlalchemy.URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise SettingsError("The jobs of a service are kept in a file; give sqlite:///FILE.")
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(url, connect_args={"timeout": _WAIT})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Python would begin transactions by itself, and only at the first change.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            # What was accepted is on the disk, even after the power fails.
            "synchronous=FULL",
            # What a client deletes is overwritten, not only unlinked.
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        only_reads = connection.get_execution_options().get("only_reads")
        # A transaction that reads first and writes then would fail if another wrote in between.
        connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")

    return engine


def _check_version(connection: Connection) -> None:
    found = connection.scalar(select(_FACTS.c.value).where(_FACTS.c.name == "version"))
    if found is None:
        try:
            connection.execute(insert(_FACTS).values(name="version", value=str(_VERSION)))
        except IntegrityError:
            return
    elif found != str(_VERSION):
        raise SettingsError(
            f"The database has tables of version {found}, and this library uses version {_VERSION}; give another --database, or use the "
            "library's version that made it."
        )
