"""Values of a column that are passed to the database as a list."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ColumnValues = Sequence[int] | Sequence[str | None]
"""Whole numbers, or texts and nulls."""


def column_type(values: ColumnValues) -> "sa.types.TypeEngine[Any]":
    """Return the type of a column's values; the first one decides."""
    return sa.BigInteger() if isinstance(next(iter(values), 0), int) else sa.Text()


def as_array(numbers: Sequence[int]) -> "NDArray[np.int64]":
    """Return whole numbers as an array."""
    import numpy as np  # a report on SQLite needs no arrays

    if isinstance(numbers, range):
        return np.arange(numbers.start, numbers.stop, numbers.step, dtype=np.int64)
    return np.asarray(numbers, np.int64)
