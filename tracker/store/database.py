"""The database: an engine from a URL, and the one place where SQLite and PostgreSQL differ."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.sql.expression import FromClause

from tracker.errors import DatabaseFailed, DatabaseUnreachable, UsageError
from tracker.store.sqlite import create_sqlite_engine

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql


DURABILITY_SETTINGS = {
    "sqlite": ("journal_mode", "synchronous"),
    "postgresql": (
        *("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method"),
        *("shared_buffers", "max_wal_size", "server_version"),
    ),
}
"""Settings that say what a commit is worth, and so what it costs."""

SQLITE_SYNCHRONOUS_LEVELS = ("off", "normal", "full", "extra")
"""What SQLite means by 0, 1, 2, 3."""


@dataclass(frozen=True)
class Database:
    """A database of sendtrace's. Cheap to share between threads, not between processes."""

    engine: Engine

    @property
    def is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    @property
    def redacted_url(self) -> str:
        """The URL, fit to be shown: its password masked, wherever it stands."""
        url = self.engine.url
        if "password" in url.query:
            url = url.update_query_dict({"password": "***"})
        return url.render_as_string(hide_password=True)

    def summarize_error(self, error: Exception) -> str:
        """The first line of what a driver said, fit to be shown."""
        said = str(error.orig if isinstance(error, DBAPIError) else error).strip()
        cause = said.splitlines()[0] if said else type(error).__name__
        for secret in (self.engine.url.password, self.engine.url.query.get("password")):
            if secret:
                cause = cause.replace(str(secret), "***")
        return cause

    def read_durability_settings(self) -> dict[str, str]:
        """What the database says of its own durability and version."""
        ask = "SHOW" if self.is_postgresql else "PRAGMA"
        with self.read() as connection:
            said = {
                name: str(connection.scalar(sa.text(f"{ask} {name}")))
                for name in DURABILITY_SETTINGS[self.engine.dialect.name]
            }
        if not self.is_postgresql:
            said["synchronous"] = SQLITE_SYNCHRONOUS_LEVELS[int(said["synchronous"])]
            said["sqlite_version"] = sqlite3.sqlite_version
        return said

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """A block in which a driver's error becomes one clear :exc:`DatabaseFailed`."""
        try:
            yield
        except SQLAlchemyError as error:
            raise DatabaseFailed(
                f"the database {self.redacted_url} failed: {self.summarize_error(error)}"
            ) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one snapshot of everything, and writes nothing."""
        with self.engine.connect() as connection:
            if self.is_postgresql:
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            yield connection

    @contextmanager
    def read_only_analytics(self) -> Iterator[Connection]:
        """A :meth:`read` for questions about whole tables, such as the audit's."""
        with self.read() as connection:
            if self.is_postgresql:
                # Right after a run PostgreSQL has no statistics of its tables yet, takes them for
                # small, and would compare each row with each. Other joins don't depend on that.
                for setting in (
                    "enable_nestloop = off",
                    "enable_seqscan = on",
                    "work_mem = '64MB'",
                ):
                    connection.execute(sa.text(f"SET LOCAL {setting}"))
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end, rolled back if the block raises."""
        with self._write_engine.connect() as connection, connection.begin():
            yield connection

    def lock_table(self, connection: Connection, table: Table) -> None:
        """Let nobody else write to a table until the transaction ends: wait for those who do.

        SQLite has one writer at a time anyway.
        """
        if self.is_postgresql:
            connection.execute(sa.text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))

    def analyze(self) -> None:
        """Have PostgreSQL look at how large its tables have become, for better plans from now on.

        It does so by itself, but not in the first minute. SQLite was told at migration.
        """
        if self.is_postgresql:
            with self.write() as connection:
                connection.execute(sa.text("ANALYZE"))

    @cached_property
    def _write_engine(self) -> Engine:
        """The same engine and pool, for connections that will write."""
        return self.engine.execution_options(sqlite_immediate=True, preserve_rowcount=True)

    def table_from_columns(self, **columns: Sequence[int]) -> FromClause:
        """Lists of whole numbers, all of one length, as a table with those columns."""
        if self.is_postgresql:
            from tracker.store.postgresql import bigint_array

            arrays = (bigint_array(values) for values in columns.values())
            named = (sa.column(column, sa.BigInteger) for column in columns)
            return sa.func.unnest(*arrays).table_valued(*named, name="listed").render_derived()
        if len(columns) == 1:
            [(column, values)] = columns.items()
            each = sa.func.json_each(json.dumps(list(values))).table_valued("value")
            return sa.select(each.c.value.label(column)).subquery("listed")
        listed = json.dumps(list(zip(*columns.values(), strict=True)))
        each = sa.func.json_each(listed).table_valued("value")
        return sa.select(
            *(
                sa.func.json_extract(each.c.value, f"$[{place}]", type_=sa.BigInteger).label(column)
                for place, column in enumerate(columns)
            )
        ).subquery("listed")

    def in_list(
        self, column: sa.ColumnElement[int], numbers: Sequence[int]
    ) -> sa.ColumnElement[bool]:
        """Whether ``column`` is one of ``numbers``, however many: a look into an index for each.

        A join with :meth:`rows` would say the same, but how it is done depends on what the
        database believes of tables that were empty a minute ago. This leaves it no choice.
        """
        if self.is_postgresql:
            from tracker.store.postgresql import bigint_array

            return column == sa.any_(bigint_array(numbers))
        each = sa.func.json_each(json.dumps(list(numbers))).table_valued("value")
        return column.in_(sa.select(each.c.value))

    def upsert(self, table: Table) -> "postgresql.Insert | sqlite.Insert":
        """An INSERT that knows ON CONFLICT."""
        if self.is_postgresql:
            from sqlalchemy.dialects import postgresql

            return postgresql.insert(table)
        return sqlite.insert(table)

    def close(self) -> None:
        self.engine.dispose()


def connect(url: str, *, must_exist: bool = False) -> Database:
    """The database at ``url``, not yet contacted; :exc:`UsageError` if it can't be one.

    Who is only ``must_exist`` does not make a SQLite file, and may read one that can't be written.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise UsageError(
            "the database URL can't be read; expected sqlite:///FILE or"
            " postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    if backend in ("postgresql", "postgres"):
        # The driver, numpy and SQLAlchemy's dialect take longer to load than all else.
        from tracker.store.postgresql import create_postgresql_engine

        return Database(create_postgresql_engine(parsed))
    if backend == "sqlite":
        return Database(create_sqlite_engine(parsed.set(drivername="sqlite+pysqlite"), must_exist))
    raise UsageError(f"no support for {backend} databases; expected sqlite or postgresql")


def check_reachable(database: Database) -> None:
    """Raise :exc:`DatabaseUnreachable`, with the URL (password masked) and the cause, or return."""
    try:
        with database.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except (DBAPIError, OSError) as error:
        raise DatabaseUnreachable(
            f"the database {database.redacted_url} can't be used: {database.summarize_error(error)}"
        ) from None
