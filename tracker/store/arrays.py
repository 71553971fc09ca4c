"""Columns of whole numbers, read as arrays: a million rows at a time, and not one object a row."""

from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection


def read_columns(connection: Connection, query: "sa.Select[Any]") -> list[NDArray[np.int64]]:
    """The columns of a query for whole numbers, none of them null, each as an array.

    The database makes one value of each column: a text of its numbers on SQLite, their bytes on
    PostgreSQL. To read that takes a third of the time that rows take as objects. The rows are in
    any order, the same in all columns.
    """
    rows = query.subquery()
    raw = connection.connection.driver_connection
    if isinstance(raw, psycopg.Connection):
        return _read_postgresql_columns(raw, connection, rows)
    texts = connection.execute(
        sa.select(*(sa.func.group_concat(each, ",") for each in rows.c))
    ).one()
    return [np.fromstring(text or "", np.int64, sep=",") for text in texts]


def _read_postgresql_columns(
    raw: "psycopg.Connection[Any]", connection: Connection, rows: sa.Subquery
) -> list[NDArray[np.int64]]:
    joined = sa.select(
        *(
            sa.func.string_agg(sa.func.int8send(sa.cast(each, sa.BigInteger)), sa.text("''::bytea"))
            for each in rows.c
        )
    )
    # SQLAlchemy has results come as text, in which a byte is two characters. Its transaction is
    # the driver's, so this one sees the same.
    sql = joined.compile(connection, compile_kwargs={"literal_binds": True}).string
    with raw.cursor(binary=True) as cursor:
        found = cursor.execute(sql.replace("%%", "%").encode()).fetchone()
    assert found is not None, "aggregates without groups make one row"  # noqa: S101
    return [np.frombuffer(each or b"", ">i8").astype(np.int64) for each in found]
