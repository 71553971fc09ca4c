"""The database: transactions, statements that differ by backend, and readable errors.

`tracker.store.sqlite` and `tracker.store.postgresql` hold the particulars of the two backends. They
are imported when a database of their kind is opened.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.sql.expression import FromClause

from tracker.clock import Instant
from tracker.errors import DatabaseFailed, DatabaseUnreachable, UsageError
from tracker.store.additions import Row
from tracker.store.columns import ColumnValues, find_constants
from tracker.store.database_clock import REACHABLE_SINCE
from tracker.text import hide_secrets

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

    from tracker.store.postgresql import PostgresqlBackend
    from tracker.store.sqlite import SqliteBackend

    Insert = postgresql.Insert | sqlite.Insert


@dataclass(frozen=True)
class Database:
    """A database of sendtrace. Threads may share it; processes may not."""

    engine: Engine

    @property
    def is_postgresql(self) -> bool:
        """True for a PostgreSQL database, false for a SQLite file."""
        return self.engine.dialect.name == "postgresql"

    @cached_property
    def _backend(self) -> "PostgresqlBackend | SqliteBackend":
        if self.is_postgresql:
            from tracker.store.postgresql import PostgresqlBackend

            return PostgresqlBackend()
        from tracker.store.sqlite import SqliteBackend

        return SqliteBackend()

    @cached_property
    def _write_engine(self) -> Engine:
        """The same engine and pool, for transactions that write."""
        return self.engine.execution_options(sqlite_immediate=True, preserve_rowcount=True)

    @property
    def redacted_url(self) -> str:
        """The URL with its password masked, for messages."""
        url = self.engine.url
        if "password" in url.query:
            url = url.update_query_dict({"password": "***"})
        return url.render_as_string(hide_password=True)

    def summarize_error(self, error: Exception) -> str:
        """Return the first line of a driver's error, with the password masked."""
        text = str(error.orig if isinstance(error, DBAPIError) else error).strip()
        summary = text.splitlines()[0] if text else type(error).__name__
        passwords = (self.engine.url.password, self.engine.url.query.get("password"))
        return hide_secrets(summary, (str(password or "") for password in passwords))

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Turn a driver's error within the block into one readable `DatabaseFailed`."""
        try:
            yield
        except SQLAlchemyError as error:
            raise DatabaseFailed(
                f"the database {self.redacted_url} failed: {self.summarize_error(error)}"
            ) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that sees one snapshot of all tables and writes nothing."""
        with self.engine.connect() as connection:
            yield self._backend.begin_read(connection)

    @contextmanager
    def read_only_analytics(self) -> Iterator[Connection]:
        """Open a `read` transaction for queries on whole tables, such as the audit's."""
        with self.read() as connection:
            self._backend.begin_analytics(connection)
            yield connection

    @contextmanager
    def write_analytics(self) -> Iterator[Connection]:
        """Open a `write` transaction for statements on whole tables that were just filled."""
        with self.write() as connection:
            self._backend.begin_analytics(connection)
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes. It rolls back if the block raises, else it commits."""
        with self._write_engine.connect() as connection, connection.begin():
            yield connection

    def set_reachable_since(self, instant: Instant) -> None:
        """Note that this process couldn't reach the database before an instant of its clock.

        Drivers may have been cut off as well. So every state that is derived from now on ignores
        how long a driver was silent before.
        """
        for engine in (self.engine, self._write_engine):
            engine.update_execution_options(**{REACHABLE_SINCE: instant})

    def lock_table(self, connection: Connection, table: Table) -> None:
        """Wait for other writers of a table, and keep them out until the transaction ends."""
        self._backend.lock_table(connection, table)

    def lock_migrations(self, connection: Connection) -> None:
        """Wait for other migrations, and keep them out until the transaction ends."""
        self._backend.lock_migrations(connection)

    def analyze(self, tables: Sequence[Table]) -> None:
        """Update the planner's statistics of tables, which PostgreSQL does only after a minute."""
        self._backend.analyze(self.engine, tables)

    def read_durability_settings(self) -> dict[str, str]:
        """Return the settings that decide what a commit guarantees, and the server's version."""
        with self.read() as connection:
            return self._backend.read_durability_settings(connection)

    def release_space(self) -> Iterator[int]:
        """Give the space of deleted rows back to the system; yield the bytes of each step.

        PostgreSQL gives none back, but uses it again.
        """
        return self._backend.release_space(self.engine)

    def rewrite(self) -> None:
        """Rewrite a SQLite file, whose free space has copies of what was overwritten.

        That needs as much free disk again, and blocks writers. On PostgreSQL, VACUUM does it later.
        """
        self._backend.rewrite(self.engine)

    def measure_tables(self, connection: Connection) -> dict[str, int]:
        """Return the bytes of each table with its indexes."""
        return self._backend.measure_tables(connection)

    def read_session_process_id(self) -> int | None:
        """Return the id of the server's process for a session, on its machine; None for SQLite."""
        with self.read() as connection:
            return self._backend.read_session_process_id(connection)

    def table_from_columns(self, **columns: ColumnValues) -> FromClause:
        """Return lists of one length as a table: whole numbers, or texts and nulls.

        An array that repeats one value is passed as that value. It may not be the first column.
        """
        constants = find_constants(columns)
        rows = self._backend.table_from_columns(
            {name: values for name, values in columns.items() if name not in constants}
        )
        if not constants:
            return rows
        fields = (
            sa.literal(constants[name], sa.BigInteger).label(name)
            if name in constants
            else rows.c[name]
            for name in columns
        )
        return sa.select(*fields).subquery("listed")

    def in_list(
        self, column: sa.ColumnElement[int], numbers: Sequence[int]
    ) -> sa.ColumnElement[bool]:
        """Return the condition that `column` is one of `numbers`, however many there are.

        The database looks up each number in an index, and a range as one stretch of it. A join
        with `table_from_columns` means the same, but its plan depends on statistics that are wrong
        for tables that were just filled.
        """
        if isinstance(numbers, range) and numbers.step == 1:
            return column.between(numbers.start, numbers.stop - 1)
        return self._backend.in_list(column, numbers)

    def insert_missing(self, table: Table) -> "Insert":
        """Return an INSERT that skips rows whose key exists."""
        return self._backend.insert(table).on_conflict_do_nothing()

    def insert_missing_from(
        self, table: Table, columns: Sequence[str], query: "sa.Select[Any]"
    ) -> "Insert":
        """Return an INSERT of a query's rows that skips rows whose key exists."""
        # Without a WHERE clause SQLite parses ON CONFLICT as the condition of a join.
        return self.insert_missing(table).from_select(columns, query.where(sa.true()))

    def add_to_rows(
        self, connection: Connection, table: Table, rows: Sequence[Row], *columns: str
    ) -> None:
        """Insert rows; where a row's key exists, add to `columns` instead.

        Args:
            connection: a transaction that writes.
            table: a table of whole numbers and texts.
            rows: dictionaries with the same columns in the same order, each with another key. They
                are locked in their order.
            columns: the columns that are added to.
        """
        if rows:
            self._backend.add_to_rows(connection, table, rows, columns)

    def insert_or_update_from(
        self,
        table: Table,
        columns: Sequence[str],
        query: "sa.Select[Any]",
        update: Callable[[sa.ColumnCollection[str, Any]], dict[str, Any]],
    ) -> "Insert":
        """Return an INSERT of a query's rows that changes columns where a row's key exists.

        Args:
            table: the table.
            columns: the columns of the query, by their names in the table.
            query: the rows, which must have different keys.
            update: returns the new values by column, given the columns of the row to insert.
        """
        # See `insert_missing_from` about the WHERE clause.
        insert = self._backend.insert(table).from_select(columns, query.where(sa.true()))
        return insert.on_conflict_do_update(
            index_elements=list(table.primary_key), set_=update(insert.excluded)
        )

    def insert_or_replace(self, table: Table, column: str) -> "Insert":
        """Return an INSERT that, where a row's key exists, replaces the value of a column."""
        insert = self._backend.insert(table)
        return insert.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={column: insert.excluded[column]}
        )

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def connect(url: str, *, must_exist: bool = False) -> Database:
    """Return the database at a URL, without contacting it.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.
        must_exist: never create a SQLite file, and open one that can't be written read-only.

    Raises:
        UsageError: the URL isn't one of a supported database.
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
        from tracker.store.postgresql import create_postgresql_engine

        return Database(create_postgresql_engine(parsed))
    if backend == "sqlite":
        from tracker.store.sqlite import create_sqlite_engine

        return Database(create_sqlite_engine(parsed, must_exist))
    raise UsageError(f"no support for {backend} databases; expected sqlite or postgresql")


def check_reachable(database: Database) -> None:
    """Connect to a database once.

    Raises:
        DatabaseUnreachable: that failed. The message has the redacted URL and the cause.
    """
    try:
        with database.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except (DBAPIError, OSError) as error:
        raise DatabaseUnreachable(
            f"the database {database.redacted_url} can't be used: {database.summarize_error(error)}"
        ) from None
