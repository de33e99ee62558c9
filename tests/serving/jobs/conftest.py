"""Databases of both kinds: a file of SQLite, and a throwaway cluster of PostgreSQL where its programs are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a cluster that is ours alone; it has no port, so that sessions side by side do not meet."""
    found = shutil.which("initdb")
    programs = Path(found).parent if found else next(iter(_PROGRAMS), None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    # The path of a socket must be short, and PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, "postgres")

    def call(program: str, *words: str) -> None:
        command = [str(programs / program), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **user)

    data = str(folder / "data")
    call("initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync")
    call(
        "pg_ctl",
        "-D",
        data,
        "-w",
        "-o",
        f"-k {folder} -c listen_addresses='' -c fsync=off",
        "-l",
        f"{folder}/log",
        "start",
    )
    yield f"postgresql://tester@/postgres?host={folder}"
    call("pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    url = request.getfixturevalue("postgresql")
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    name = f"test_{tmp_path.name.replace('-', '_').lower()}_{os.getpid()}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name[-60:]}"')
    engine.dispose()
    return str(url).replace("/postgres?", f"/{name[-60:]}?")
