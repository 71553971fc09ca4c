"""Floors: one plain process that writes the rows of a finished run, each batch in a transaction.

It uses no broker, reads nothing and decides nothing. Any system that keeps this record has to do at
least this. The first floor's tables and rows are those of 2026-12-01 and don't follow the schema,
so that ratios to it can be compared over time. The second floor has the rows of the current schema.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing

import psycopg
import sqlalchemy as sa
from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, MetaData, SmallInteger, Table

from benchmarks.batches import split_range
from benchmarks.context import CAMPAIGN_ID, DatabaseBenchmark
from benchmarks.databases import open_tables
from benchmarks.meter import Cost
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from tracker.store.database import Database, connect
from tracker.store.schema.messages import messages, transitions

SCHEMA_TABLES = (messages, transitions)
"""Tables of the current schema whose rows the second floor writes."""

TableRows = dict[str, list[tuple[int | None, ...]]]
"""Rows by the name of their table."""

metadata = MetaData()

STATE_CHECKS = (
    f"(status = 2 AND reason IN ({', '.join(map(str, range(1, 27)))}))"
    " OR (status <> 2 AND reason = 0)",
    "(status IN (0, 1, 2) AND attempt = 0) OR (status NOT IN (0, 1, 2) AND attempt >= 1)",
    "status IN (0, 1, 2, 3, 4, 5, 6, 7)",
)

LEGAL_CHECK = (
    "CASE WHEN previous IS NULL THEN status IN (0) ELSE CASE previous WHEN 0 THEN status IN (1, 2)"
    " WHEN 1 THEN status IN (2, 3) WHEN 3 THEN status IN (4, 5, 6, 7) WHEN 4 THEN status IN (3)"
    " WHEN 6 THEN status IN (7) ELSE 1 = 0 END END"
)

Table(
    "messages",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("status", SmallInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    *(CheckConstraint(check) for check in STATE_CHECKS),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 40},
)

Table(
    "transitions",
    metadata,
    Column("campaign_id", Integer, primary_key=True, autoincrement=False),
    Column("status", SmallInteger, primary_key=True, autoincrement=False),
    Column("attempt", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("previous", SmallInteger),
    Column("reason", SmallInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("step_id", Integer, nullable=False),
    *(CheckConstraint(check) for check in (*STATE_CHECKS, LEGAL_CHECK)),
    sqlite_with_rowid=False,
)

DELIVERED_PATH = ((0, 0, None), (1, 0, 0), (3, 1, 1), (6, 1, 3))
"""Status, attempt and previous status of each transition of a delivered message."""

FIRST_INSTANT = 1_796_090_850_646_572
"""The time of the first batch, in microseconds. Each step of a batch takes STEP_MICROSECONDS."""

STEP_MICROSECONDS = 91_470


def write_floor(bench: DatabaseBenchmark, costs: list[Cost]) -> None:
    """Write the messages and transitions of a run, as COPY's text, and add the cost to a list."""
    batches = list(_make_rows(bench.sizes.pipeline))
    with bench.create_database() as url, closing(connect(url)) as database:
        with database.write() as connection:
            metadata.create_all(connection)
        with bench.measure("floor", costs):
            _write_rows(database, list(metadata.tables.values()), batches)


def write_schema_floor(
    bench: DatabaseBenchmark, batches: Sequence[TableRows], costs: list[Cost]
) -> None:
    """Write the rows of the current schema, by binary COPY, and add the cost to a list."""
    with (
        bench.create_database() as url,
        open_tables(url) as database,
        bench.measure("schema floor", costs),
    ):
        _write_rows(database, SCHEMA_TABLES, batches, is_binary=True)


def read_rows(database: Database) -> list[TableRows]:
    """Return the rows of a run in the tables of the current schema, batch by batch."""
    batches = []
    with database.read() as connection:
        last = connection.scalar(sa.select(sa.func.max(messages.c.number))) or 0
        for numbers in split_range(range(last + 1), DEFAULT_BATCH_SIZE):
            rows: TableRows = {}
            for table in SCHEMA_TABLES:
                in_batch = database.in_list(table.c.number, numbers)
                order = [table.c.number, *(c for c in table.primary_key if c.name != "number")]
                query = sa.select(table).where(in_batch).order_by(*order)
                rows[table.name] = [tuple(row) for row in connection.execute(query)]
            batches.append(rows)
    return batches


def _make_rows(size: int) -> Iterator[TableRows]:
    """Yield the rows of the first floor, batch by batch."""
    for batch, numbers in enumerate(split_range(range(size), DEFAULT_BATCH_SIZE)):
        steps = len(DELIVERED_PATH) * batch
        yield {
            "messages": [(CAMPAIGN_ID, number, 6, 0, 1) for number in numbers],
            "transitions": [
                (CAMPAIGN_ID, status, attempt, number, previous, 0, at, step)
                for number in numbers
                for step, (status, attempt, previous) in enumerate(DELIVERED_PATH, steps)
                for at in (FIRST_INSTANT + step * STEP_MICROSECONDS,)
            ],
        }


def _write_rows(
    database: Database,
    tables: Sequence[Table],
    batches: Sequence[TableRows],
    *,
    is_binary: bool = False,
) -> None:
    """Write rows by COPY or executemany, one transaction a batch."""
    for rows in batches:
        with database.write() as connection:
            raw = connection.connection.driver_connection
            for table in tables:
                if isinstance(raw, psycopg.Connection):
                    names = ", ".join(table.columns.keys())
                    statement = f"COPY {table.name} ({names}) FROM STDIN"
                    with raw.cursor().copy(
                        f"{statement} (FORMAT BINARY)" if is_binary else statement
                    ) as copy:
                        if is_binary:
                            copy.set_types([str(column.type).lower() for column in table.columns])
                        for row in rows[table.name]:
                            copy.write_row(row)
                else:
                    values = ", ".join("?" * len(table.columns))
                    assert raw is not None
                    raw.executemany(
                        f"INSERT INTO {table.name} VALUES ({values})",  # noqa: S608
                        rows[table.name],
                    )
