"""Values of a column that are passed to the database as a list."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Numbers: TypeAlias = "Sequence[int] | NDArray[np.integer[Any]]"
"""Whole numbers: a range, an array, or any other sequence."""

ColumnValues: TypeAlias = "Numbers | Sequence[str | None]"
"""Whole numbers, or texts and nulls."""


def column_type(values: ColumnValues) -> "sa.types.TypeEngine[Any]":
    """Return the type of a column's values; the first one decides."""
    return sa.BigInteger() if isinstance(next(iter(values), 0), Integral) else sa.Text()


def as_list(values: ColumnValues) -> list[Any]:
    """Return a column's values as Python objects."""
    import numpy as np

    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def as_array(numbers: Numbers) -> "NDArray[np.int64]":
    """Return whole numbers as an array."""
    import numpy as np  # a report on SQLite needs no arrays

    if isinstance(numbers, range):
        return np.arange(numbers.start, numbers.stop, numbers.step, dtype=np.int64)
    return np.asarray(numbers, np.int64)


def as_sequence(numbers: "NDArray[np.int64]") -> Sequence[int]:
    """Return an array's numbers as a range if each is one more than the one before, else a list."""
    import numpy as np

    if len(numbers) and (np.diff(numbers) == 1).all():
        return range(int(numbers[0]), int(numbers[-1]) + 1)
    listed: list[int] = numbers.tolist()
    return listed


def find_constants(columns: Mapping[str, ColumnValues]) -> dict[str, int]:
    """Return the values of those columns, except the first, that are arrays of one value."""
    import numpy as np

    return {
        name: int(values[0])
        for name, values in [*columns.items()][1:]
        if isinstance(values, np.ndarray) and len(values) and (values == values[0]).all()
    }
