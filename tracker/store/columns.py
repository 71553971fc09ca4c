"""Values of a column that are passed to the database as a list."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

ColumnValues = Sequence[int] | Sequence[str | None]
"""Whole numbers, or texts and nulls."""


def column_type(values: ColumnValues) -> "sa.types.TypeEngine[Any]":
    """Return the type of a column's values; the first one decides."""
    return sa.BigInteger() if isinstance(next(iter(values), 0), int) else sa.Text()
