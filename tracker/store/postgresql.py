"""PostgreSQL: sessions, locks, statistics, and whole numbers in the driver's binary format."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.expression import FromClause

from tracker.errors import UsageError
from tracker.store.additions import Row, build_addition
from tracker.store.columns import ColumnValues, Numbers, as_array, column_type

CONNECT_TIMEOUT_SECONDS = 5

MIN_SERVER_VERSION = 15
"""The first version whose statements sendtrace is tested with."""

TRANSACTION_SETTINGS = {"enable_seqscan": "off", "jit": "off"}
"""Settings of each transaction. Options in the URL win.

They aren't settings of the session, since PgBouncer in transaction mode refuses those, or gives the
session to another client. They are sent with BEGIN, so they cost no round trip.
"""

BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

BEGIN = "begin"
"""Execution option with the statement that begins a transaction."""

ANALYTICS_SETTINGS = ("enable_nestloop = off", "enable_seqscan = on", "work_mem = '64MB'")
"""Settings for queries on whole tables.

Right after a run the tables have no statistics yet. The planner takes them for small and would
compare each row with each; the other kinds of joins don't depend on that.
"""

DURABILITY_SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "server_version",
)

PING_AFTER_IDLE_SECONDS = 1.0
"""Idle time after which a connection is tested before it is used again. A step opens a dozen
transactions in a row, and a test of each connection took 1 % of its time."""

IDLE_SINCE = "idle_since"

MIGRATION_LOCK = 0x73656E64
"""Key of the advisory lock for migrations: "send"."""


class PostgresqlBackend:
    """The statements of `Database` that differ on PostgreSQL."""

    def begin_read(self, connection: Connection) -> Connection:
        """Return the connection with a read-only transaction on one snapshot."""
        return connection.execution_options(**{BEGIN: BEGIN_SNAPSHOT})

    def begin_analytics(self, connection: Connection) -> None:
        """Choose plans for whole tables, until the transaction ends."""
        for setting in ANALYTICS_SETTINGS:
            connection.execute(sa.text(f"SET LOCAL {setting}"))

    def lock_table(self, connection: Connection, table: Table) -> None:
        """Lock a table against other writers."""
        connection.execute(sa.text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))

    def lock_migrations(self, connection: Connection) -> None:
        """Take the advisory lock for migrations."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))

    def analyze(self, engine: Engine, tables: Sequence[Table]) -> None:
        """Update the planner's statistics of tables.

        Without names, ANALYZE warns of each table of the system that this user doesn't own.
        """
        names = ", ".join(table.name for table in tables)
        with engine.begin() as connection:
            connection.execute(sa.text(f"ANALYZE {names}"))

    def read_durability_settings(self, connection: Connection) -> dict[str, str]:
        """Return the server's settings."""
        return {
            name: str(connection.scalar(sa.text(f"SHOW {name}"))) for name in DURABILITY_SETTINGS
        }

    def release_space(self, engine: Engine) -> Iterator[int]:  # noqa: ARG002
        """Release nothing: autovacuum makes the space of deleted rows usable for new ones."""
        return iter(())

    def rewrite(self, engine: Engine) -> None:
        """Do nothing: autovacuum removes earlier versions of rows."""

    def measure_tables(self, connection: Connection) -> dict[str, int]:
        """Return the bytes of each table with its indexes."""
        query = sa.text(
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        )
        return {name: int(size) for name, size in connection.execute(query)}

    def read_session_process_id(self, connection: Connection) -> int | None:
        """Return the id of the process that serves the session."""
        return connection.scalar(sa.select(sa.func.pg_backend_pid()))

    def table_from_columns(self, columns: Mapping[str, ColumnValues]) -> FromClause:
        """Return the columns as `unnest(…)`, and a single range as `generate_series(…)`."""
        [numbers, *others] = columns.values()
        if isinstance(numbers, range) and numbers.step == 1 and not others:
            first_and_last = (numbers.start, numbers.stop - 1)
            rows = sa.func.generate_series(
                *(sa.literal(number, sa.BigInteger) for number in first_and_last)
            )
        else:
            rows = sa.func.unnest(*map(_array, columns.values()))
        typed_columns = (sa.column(name, column_type(values)) for name, values in columns.items())
        return rows.table_valued(*typed_columns, name="listed").render_derived()

    def in_list(
        self, column: sa.ColumnElement[int], numbers: Sequence[int]
    ) -> sa.ColumnElement[bool]:
        """Return `column = ANY(…)`."""
        return column == sa.any_(_bigint_array(numbers))

    def add_to_rows(
        self, connection: Connection, table: Table, rows: Sequence[Row], columns: tuple[str, ...]
    ) -> None:
        """Pass each column as one array."""
        names = tuple(rows[0])
        types = tuple("bigint" if isinstance(rows[0][name], int) else "varchar" for name in names)
        arrays = ", ".join(f"%s::{type_}[]" for type_ in types)
        query = f"SELECT * FROM unnest({arrays})"  # noqa: S608  # two types only
        statement = build_addition(table, names, columns, query)
        values = zip(*(row.values() for row in rows), strict=True)
        # The driver would send members of an enumeration by their names.
        converted = (
            [*map(int if type_ == "bigint" else str, column)]
            for type_, column in zip(types, values, strict=True)
        )
        connection.exec_driver_sql(statement, tuple(converted))

    def insert(self, table: Table) -> postgresql.Insert:
        """Return PostgreSQL's INSERT."""
        return postgresql.insert(table)


def create_postgresql_engine(url: sa.URL) -> Engine:
    """Return an engine for a server, not yet contacted."""
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",  # `begin` below starts the transactions
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "sendtrace",
            # A statement that is prepared while a table is nearly empty gets a plan that scans the
            # table, and keeps it when the table has grown. Planning again costs little per batch.
            "prepare_threshold": None,
        },
    )

    @sa.event.listens_for(engine, "checkin")
    def note_time(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info[IDLE_SINCE] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def replace_if_broken(
        connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object
    ) -> None:
        idle_since = record.info.get(IDLE_SINCE, math.inf)
        if time.monotonic() - idle_since < PING_AFTER_IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error:
            raise sa.exc.InvalidatePoolError from None

    @sa.event.listens_for(engine, "connect")
    def configure(connection: psycopg.Connection, _record: object) -> None:
        _check_server_version(connection)
        connection.adapters.register_dumper(np.ndarray, _BigintArrayDumper)

    settings = _format_settings(url)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql(f"{options.get(BEGIN, 'BEGIN')}; {settings}")

    return engine


def _check_server_version(connection: psycopg.Connection) -> None:
    # The server reports its version when a connection is opened.
    major, minor = divmod(connection.info.server_version, 10_000)
    if major < MIN_SERVER_VERSION:
        connection.close()
        raise UsageError(
            f"the database server is PostgreSQL {major}.{minor}; sendtrace needs"
            f" {MIN_SERVER_VERSION} or newer"
        )


def _format_settings(url: sa.URL) -> str:
    """Return the statements that change the settings of a transaction."""
    url_options = url.query.get("options", "")
    if not isinstance(url_options, str):
        url_options = " ".join(url_options)
    return "; ".join(
        f"SET LOCAL {name} = {value}"
        for name, value in TRANSACTION_SETTINGS.items()
        if name not in url_options
    )


def read_columns(connection: Connection, rows: sa.Subquery) -> list[NDArray[np.int64]]:
    """Return the columns of a query as arrays; see `tracker.store.arrays.read_columns`."""
    # The database concatenates the bytes of each column's numbers.
    query = sa.select(
        *(
            sa.func.string_agg(
                sa.func.int8send(sa.cast(column, sa.BigInteger)), sa.text("''::bytea")
            )
            for column in rows.c
        )
    )
    # SQLAlchemy requests results as text, in which a byte takes two characters. The driver's own
    # cursor gets them as bytes, within the same transaction.
    sql = query.compile(connection, compile_kwargs={"literal_binds": True}).string
    driver_connection: Any = connection.connection.driver_connection
    with driver_connection.cursor(binary=True) as cursor:
        columns = cursor.execute(sql.replace("%%", "%").encode()).fetchone()
    return [np.frombuffer(column or b"", ">i8").astype(np.int64) for column in columns]


def _array(values: ColumnValues) -> sa.ColumnElement[Any]:
    if isinstance(column_type(values), sa.Text):
        return sa.literal(list(values), postgresql.ARRAY(sa.Text))
    return _bigint_array(cast("Numbers", values))


def _bigint_array(numbers: Numbers) -> sa.ColumnElement[Sequence[int]]:
    # Converted here, since SQLAlchemy's expressions are reference cycles: they keep what they hold
    # until the garbage collector runs, and an array is small.
    return sa.literal(as_array(numbers), _BigintArray())


class _BigintArray(sa.types.UserDefinedType[Sequence[int]]):
    """The type `bigint[]`, whose values `_BigintArrayDumper` encodes."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "BIGINT[]"

    def literal_processor(self, dialect: sa.Dialect) -> Callable[[Any], str]:  # noqa: ARG002
        """Return what writes an array into the text of a statement, for `read_columns`."""
        return lambda numbers: f"'{{{','.join(map(str, numbers.tolist()))}}}'::bigint[]"


class _BigintArrayDumper(psycopg.adapt.Dumper):
    """Encoder of NumPy arrays in PostgreSQL's binary format; see `array_recv` in its source.

    The driver's own encoder visits each element, which is most of what a batch's lists cost.
    """

    format = psycopg.pq.Format.BINARY
    oid = psycopg.adapters.types["int8"].array_oid

    _ELEMENT = np.dtype([("length", ">i4"), ("value", ">i8")])

    def dump(self, obj: NDArray[np.int64]) -> bytes:
        dimensions, has_nulls, lower_bound = 1, 0, 1
        element_oid = psycopg.adapters.types["int8"].oid
        header = np.array([dimensions, has_nulls, element_oid, len(obj), lower_bound], ">i4")
        elements = np.empty(len(obj), self._ELEMENT)
        elements["length"] = obj.itemsize
        elements["value"] = obj
        return header.tobytes() + elements.tobytes()
