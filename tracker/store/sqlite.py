"""How a SQLite file is opened."""

import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from tracker.errors import UsageError

BUSY_TIMEOUT_SECONDS = 30
"""Seconds that a SQLite writer waits for its turn. Writers hold the lock for some 0.1 s."""

BUSY_RETRY_SECONDS = 0.01
"""Seconds between two tries of what SQLite does not wait for by itself."""

MIN_SQLITE_VERSION = (3, 35)
"""The first with RETURNING."""


def create_sqlite_engine(url: sa.URL, must_exist: bool) -> Engine:
    """What opens a SQLite file as :func:`tracker.store.database.connect` says."""
    if sqlite3.sqlite_version_info < MIN_SQLITE_VERSION:
        raise UsageError(
            f"Python's SQLite is {sqlite3.sqlite_version}; sendtrace needs 3.35 or newer"
        )
    name = url.database or ":memory:"
    if ":memory:" in name or url.query.get("mode") == "memory":
        raise UsageError("a SQLite database needs a file: workers are processes of their own")
    read_only = False
    if must_exist:
        file = _sqlite_file(name)
        if not file.exists():
            raise UsageError(f"the database {file} does not exist")
        read_only = not all(map(_is_writable, (file, file.absolute().parent)))
        if read_only:
            url = _read_only_url(file)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin below, not by the driver's guess
        if read_only:
            return
        _enable_write_ahead_log(connection)
        for pragma in (
            "synchronous = FULL",  # a commit is on the disk, as with PostgreSQL's defaults
            "foreign_keys = ON",
            "cache_size = -32000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes can find the lock taken, with no way
        # to wait for it. So whoever will write takes the lock at once.
        immediate = connection.get_execution_options().get("sqlite_immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _sqlite_file(name: str) -> Path:
    """The file that SQLite opens, given one, or a URI."""
    uri = name.startswith("file:")
    return Path(unquote(urlsplit(name).path) if uri else name)


def _is_writable(path: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(path, os.W_OK, effective_ids=effective)


def _read_only_url(file: Path) -> sa.URL:
    """The URL of a file that can't be written, or whose folder can't: the log has no place there.

    Without a log nobody else writes either, and SQLite may be told that the file does not change.
    """
    log = file.with_name(f"{file.name}-wal")
    options = {"mode": "ro"} if log.exists() else {"mode": "ro", "immutable": "1"}
    return sa.URL.create(
        "sqlite+pysqlite",
        database=f"file:{quote(str(file.absolute()))}",
        query={**options, "uri": "true"},
    )


def _enable_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Set the journal's mode. SQLite does not wait here by itself while others make the file."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            locked = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            if not locked or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_RETRY_SECONDS)
