"""SQLite: how a file is opened, its locks, and lists as JSON."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.expression import FromClause

from tracker.clock import SystemClock
from tracker.errors import UsageError
from tracker.store.additions import Row, build_addition
from tracker.store.columns import ColumnValues, as_list, column_type
from tracker.store.database_clock import SQLITE_TRANSACTION_START
from tracker.store.sqlite_vacuum import measure_pages, release_free_pages, rewrite_file
from tracker.text import join_with_or

BUSY_TIMEOUT_SECONDS = 60
"""Seconds that a writer waits for the lock. Others hold it for about 0.1 s, a backup for longer."""

BUSY_RETRY_SECONDS = 0.01
"""Seconds between two tries of a statement for which SQLite doesn't wait."""

MIN_SQLITE_VERSION = (3, 35)
"""The first version with RETURNING."""

CONNECTION_PRAGMAS = (
    "synchronous = FULL",  # a commit is on the disk, as with PostgreSQL's defaults
    "foreign_keys = ON",
    "cache_size = -32000",
)

ANALYTICS_CACHE_KIB = 8_000
"""Size of a connection's cache, and of its sorts in memory, in queries on whole tables. They read
each page once, so four times as much saves no time."""

DURABILITY_PRAGMAS = ("journal_mode", "synchronous")

TRANSACTION_START = "transaction_start"
"""Key of a connection's info: when its transaction began, as an instant."""

URI_OPTIONS = ("cache", "immutable", "mode", "nolock", "psow", "vfs")
"""Options of a SQLite URI, which a URL with uri=true may have."""

SYNCHRONOUS_LEVELS = ("off", "normal", "full", "extra")
"""Meanings of the values 0 to 3 of the pragma `synchronous`."""


class SqliteBackend:
    """The statements of `Database` that differ on SQLite."""

    def begin_read(self, connection: Connection) -> Connection:
        """Return the connection: each transaction sees one snapshot."""
        return connection

    def begin_analytics(self, connection: Connection) -> None:
        """Limit the memory of the connection, which keeps its pages until it is closed."""
        connection.exec_driver_sql(f"PRAGMA cache_size = -{ANALYTICS_CACHE_KIB}")

    def lock_table(self, connection: Connection, table: Table) -> None:
        """Do nothing: the transaction is the only writer."""

    def lock_migrations(self, connection: Connection) -> None:
        """Do nothing: the transaction is the only writer."""

    def analyze(self, engine: Engine, tables: Sequence[Table]) -> None:
        """Do nothing: the migration sets the planner's statistics."""

    def read_durability_settings(self, connection: Connection) -> dict[str, str]:
        """Return the pragmas, and the version of the library."""
        settings = {
            name: str(connection.scalar(sa.text(f"PRAGMA {name}"))) for name in DURABILITY_PRAGMAS
        }
        settings["synchronous"] = SYNCHRONOUS_LEVELS[int(settings["synchronous"])]
        return {**settings, "sqlite_version": sqlite3.sqlite_version}

    def release_space(self, engine: Engine) -> Iterator[int]:
        """Cut free pages off the file, in steps; see `tracker.store.sqlite_vacuum`."""
        return release_free_pages(engine)

    def rewrite(self, engine: Engine) -> None:
        """Rewrite the whole file; see `tracker.store.sqlite_vacuum`."""
        rewrite_file(engine)

    def measure_tables(self, connection: Connection) -> dict[str, int]:
        """Return the bytes of the pages of each table and its indexes."""
        return measure_pages(connection)

    def read_session_process_id(self, connection: Connection) -> int | None:  # noqa: ARG002
        """Return None: SQLite has no server process."""
        return None

    def table_from_columns(self, columns: Mapping[str, ColumnValues]) -> FromClause:
        """Return the columns as `json_each(…)`."""
        if len(columns) == 1:
            [(name, values)] = columns.items()
            rows = _json_rows(as_list(values))
            return sa.select(rows.c.value.label(name)).subquery("listed")
        rows = _json_rows(list(zip(*map(as_list, columns.values()), strict=True)))
        fields = (
            sa.func.json_extract(rows.c.value, f"$[{place}]", type_=column_type(values)).label(name)
            for place, (name, values) in enumerate(columns.items())
        )
        return sa.select(*fields).subquery("listed")

    def in_list(
        self, column: sa.ColumnElement[int], numbers: Sequence[int]
    ) -> sa.ColumnElement[bool]:
        """Return `column IN (SELECT …)`."""
        return column.in_(sa.select(_json_rows(list(numbers)).c.value))

    def add_to_rows(
        self, connection: Connection, table: Table, rows: Sequence[Row], columns: tuple[str, ...]
    ) -> None:
        """Execute the statement once for each row."""
        names = tuple(rows[0])
        values = f"VALUES ({', '.join('?' * len(names))})"
        statement = build_addition(table, names, columns, values)
        connection.exec_driver_sql(statement, [tuple(row.values()) for row in rows])

    def insert(self, table: Table) -> sqlite.Insert:
        """Return SQLite's INSERT."""
        return sqlite.insert(table)


def _json_rows(values: Sequence[object]) -> sa.TableValuedAlias:
    return sa.func.json_each(json.dumps(values)).table_valued("value")


def create_sqlite_engine(url: sa.URL, must_exist: bool) -> Engine:
    """Return an engine for a SQLite file; see `tracker.store.database.connect`."""
    if sqlite3.sqlite_version_info < MIN_SQLITE_VERSION:
        raise UsageError(
            f"Python's SQLite is {sqlite3.sqlite_version}; sendtrace needs 3.35 or newer"
        )
    url = url.set(drivername="sqlite+pysqlite")
    options = ("uri", *URI_OPTIONS) if "uri" in url.query else ("uri",)
    for option in url.query:
        if option not in options:
            expected = join_with_or(options)
            raise UsageError(f"database URL: unknown option {option!r}; expected {expected}")
    name = url.database or ":memory:"
    if ":memory:" in name or url.query.get("mode") == "memory":
        raise UsageError("a SQLite database needs a file, which worker processes can share")
    is_read_only = False
    if must_exist:
        file = _sqlite_file(name)
        if not file.exists():
            raise UsageError(f"the database {file} does not exist")
        is_read_only = not all(map(_is_writable, (file, file.absolute().parent)))
        if is_read_only:
            url = _read_only_url(file)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # `begin` below starts the transactions
        connection.create_function(
            SQLITE_TRANSACTION_START, 0, partial(record.info.get, TRANSACTION_START)
        )
        if is_read_only:
            return
        if not must_exist:  # a command leaves the journal mode of a copy alone
            _prepare_file(connection)
        for pragma in CONNECTION_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads before it writes may find the lock taken, and then fails at once
        # instead of waiting. So a writing transaction takes the lock at its start.
        is_immediate = connection.get_execution_options().get("sqlite_immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_immediate else "BEGIN")
        connection.info[TRANSACTION_START] = SystemClock().now()

    return engine


def _sqlite_file(name: str) -> Path:
    """Return the file that SQLite opens for a path or a URI."""
    is_uri = name.startswith("file:")
    return Path(unquote(urlsplit(name).path) if is_uri else name)


def _is_writable(path: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(path, os.W_OK, effective_ids=effective)


def _read_only_url(file: Path) -> sa.URL:
    """Return the URL of a file that can't be written, or whose folder can't hold a log.

    Without a log the file has no other writer either, so SQLite may treat it as immutable.
    """
    log = file.with_name(f"{file.name}-wal")
    options = {"mode": "ro"} if log.exists() else {"mode": "ro", "immutable": "1"}
    return sa.URL.create(
        "sqlite+pysqlite",
        database=f"file:{quote(str(file.absolute()))}",
        query={**options, "uri": "true"},
    )


def _prepare_file(connection: sqlite3.Connection) -> None:
    # Before the journal mode, which writes the first page. In a file with pages it would change
    # nothing, and wait for its writer.
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    _enable_write_ahead_log(connection)


def _enable_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Set the journal mode, with retries: SQLite doesn't wait here for other processes."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_RETRY_SECONDS)
