"""The floor: the rows that a pipeline leaves behind, written by one plain process.

No broker, no reading, no deciding: what any system must at least do that keeps this record. The
rows are taken from a finished run, so they are exactly those; each batch is one transaction.
"""

import time
from collections.abc import Iterator, Sequence

import psycopg
import sqlalchemy as sa

from tracker.store.database import Database
from tracker.store.schema.messages import messages, transitions

TABLES = (messages, transitions)

TableRows = dict[str, list[tuple[int, ...]]]


def read_rows(database: Database, batch_size: int) -> list[TableRows]:
    """The rows of all messages and transitions, batch by batch."""
    batches: list[TableRows] = []
    with database.read() as connection:
        last = connection.scalar(sa.select(sa.func.max(messages.c.number))) or 0
        for first in range(0, last + 1, batch_size):
            rows: TableRows = {}
            for table in TABLES:
                order = [table.c.number, *(c for c in table.primary_key if c.name != "number")]
                query = sa.select(table).where(
                    table.c.number.between(first, first + batch_size - 1)
                )
                rows[table.name] = [
                    tuple(row) for row in connection.execute(query.order_by(*order))
                ]
            batches.append(rows)
    return batches


def write(database: Database, batches: Sequence[TableRows]) -> float:
    """Write the rows into an empty database; seconds that it took."""
    began = time.perf_counter()
    for rows in batches:
        with database.write() as connection:
            raw = connection.connection.driver_connection
            for table in TABLES:
                if isinstance(raw, psycopg.Connection):
                    names = ", ".join(table.columns.keys())
                    with raw.cursor().copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                        for row in rows[table.name]:
                            copy.write_row(row)
                else:
                    places = ", ".join("?" * len(table.columns))
                    sql = f"INSERT INTO {table.name} VALUES ({places})"  # noqa: S608  # our names
                    assert raw is not None
                    raw.executemany(sql, _iterate_rows(rows[table.name]))
    return time.perf_counter() - began


def _iterate_rows(rows: list[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    yield from rows
