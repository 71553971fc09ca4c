"""Read columns of whole numbers as arrays, a million rows at a time."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from tracker.store.columns import as_sequence


def read_columns(connection: Connection, query: "sa.Select[Any]") -> list[NDArray[np.int64]]:
    """Return the columns of a query for whole numbers, none of them null, each as an array.

    The database makes one value of each column: the digits on SQLite, the bytes on PostgreSQL. That
    takes a third of the time of rows. The rows are in no particular order, the same in all columns.
    """
    rows = query.subquery()
    if connection.dialect.name == "postgresql":
        from tracker.store import postgresql

        return postgresql.read_columns(connection, rows)
    joined_digits = sa.select(*(sa.func.group_concat(column, ",") for column in rows.c))
    texts = connection.execute(joined_digits).one()
    return [np.fromstring(text or "", np.int64, sep=",") for text in texts]


def read_numbers_by_key(
    connection: Connection, query: "sa.Select[Any]"
) -> dict[tuple[int, ...], Sequence[int]]:
    """Return the numbers in the first column of a query by the values of its other columns.

    The different numbers of a key are in ascending order, and a range if none is missing. The rows
    aren't fetched if the numbers of each key are a range. The keys are in the order of their least
    numbers.
    """
    rows = query.subquery()
    number, *key = rows.c
    groups = connection.execute(
        sa.select(sa.func.min(number).label("first"), sa.func.max(number), sa.func.count(), *key)
        .group_by(*key)
        .order_by("first")
    ).all()
    if all(last - first + 1 == count for first, last, count, *_ in groups):
        return {tuple(values): range(first, last + 1) for first, last, _, *values in groups}
    columns = read_columns(connection, query)
    order = np.argsort(columns[0])
    numbers, *keys = (column[order] for column in columns)
    return {
        tuple(values): as_sequence(numbers[np.all([*map(np.equal, keys, values)], axis=0)])
        for _, _, _, *values in groups
    }


def read_texts(connection: Connection, query: "sa.Select[Any]") -> list[str]:
    """Return the texts, none of them null, in the one column of an ordered query.

    The database returns them as one JSON value, which takes less time than rows.
    """
    [text] = query.subquery().c
    if connection.dialect.name == "postgresql":
        return connection.scalar(sa.select(sa.func.json_agg(text))) or []
    texts: list[str] = json.loads(
        connection.execute(sa.select(sa.func.json_group_array(text))).scalar_one()
    )
    return texts
