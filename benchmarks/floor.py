"""The floor: one plain process that writes the messages and transitions of a finished run.

It uses no broker, reads nothing and decides nothing; each batch is one transaction. Any system that
keeps this record has to do at least this.
"""

from collections.abc import Sequence

import psycopg
import sqlalchemy as sa

from tracker.store.database import Database
from tracker.store.schema.messages import messages, transitions

TABLES = (messages, transitions)

TableRows = dict[str, list[tuple[int, ...]]]
"""Rows by the name of their table."""


def read_rows(database: Database, batch_size: int) -> list[TableRows]:
    """Return the rows of all messages and transitions, batch by batch."""
    batches = []
    with database.read() as connection:
        last = connection.scalar(sa.select(sa.func.max(messages.c.number))) or 0
        for first in range(0, last + 1, batch_size):
            rows: TableRows = {}
            for table in TABLES:
                in_batch = table.c.number.between(first, first + batch_size - 1)
                order = [table.c.number, *(c for c in table.primary_key if c.name != "number")]
                query = sa.select(table).where(in_batch).order_by(*order)
                rows[table.name] = [tuple(row) for row in connection.execute(query)]
            batches.append(rows)
    return batches


def write_rows(database: Database, batches: Sequence[TableRows]) -> None:
    """Write rows into an empty database by COPY or executemany, one transaction a batch."""
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
                    values = ", ".join("?" * len(table.columns))
                    assert raw is not None
                    raw.executemany(
                        f"INSERT INTO {table.name} VALUES ({values})",  # noqa: S608
                        rows[table.name],
                    )
