"""SQL of an INSERT that adds to the rows that exist."""

from collections.abc import Mapping
from functools import cache

from sqlalchemy import Table

Row = Mapping[str, int | str]
"""The values of a row by column."""


@cache
def build_addition(
    table: Table, names: tuple[str, ...], added: tuple[str, ...], source: str
) -> str:
    """Return an INSERT that, where a row's key exists, adds to columns instead.

    It is built as text, and once: each step executes several of these, and SQLAlchemy took longer
    for one than the database did.

    Args:
        table: the table.
        names: the columns that are inserted.
        added: the columns that are added to.
        source: VALUES, or a query, for the inserted columns.
    """
    key = ", ".join(column.name for column in table.primary_key)
    sums = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in added)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) {source}"  # names of ours
        f" ON CONFLICT ({key}) DO UPDATE SET {sums}"
    )
