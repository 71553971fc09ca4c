"""Columns of numbers: downsample them for a chart, and format them for a table."""

from collections.abc import Mapping
from math import ceil

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]
"""A value for each row; NaN for a missing one."""

Series = Mapping[str, Column]
"""Columns of the same length by their labels."""

MIN_FOR_THREE_DECIMALS = 0.01
"""Maximum of a column from which three decimals are enough."""


def max_value(series: Series) -> float:
    """Return the highest value of all columns, or 0 without values."""
    columns = (column for column in series.values() if np.isfinite(column).any())
    return max((float(np.nanmax(column)) for column in columns), default=0)


def has_values(series: Series) -> bool:
    """Return whether any column has a value."""
    return any(np.isfinite(column).any() for column in series.values())


def has_only_integers(series: Series) -> bool:
    """Return whether every value is a whole number."""
    return all(_is_integral(column) for column in series.values())


def rows_per_bucket(rows: int, max_rows: int) -> int:
    """Return the bucket size that reduces a number of rows to `max_rows`."""
    return max(1, ceil(rows / max_rows))


def downsample(x: Column, series: Series, max_rows: int) -> tuple[Column, dict[str, Column]]:
    """Return at most `max_rows` rows, each with the highest values of a bucket, so peaks remain."""
    starts = np.arange(0, len(x), rows_per_bucket(len(x), max_rows))
    return x[starts], {label: np.fmax.reduceat(column, starts) for label, column in series.items()}


def isolated_points(column: Column) -> Column:
    """Return the values without a neighbour, through which no line can be drawn."""
    has_value = np.isfinite(np.concatenate([[np.nan], column, [np.nan]]))
    return np.where(has_value[1:-1] & ~has_value[:-2] & ~has_value[2:], column, np.nan)


def format_column(column: Column) -> list[str]:
    """Return numbers with the decimals that their column needs, and a dash for missing ones.

    Whole numbers have no decimals, others three, and tiny ones six.
    """
    values = column[np.isfinite(column)]
    places = 0 if _is_integral(column) else 3 if values.max() >= MIN_FOR_THREE_DECIMALS else 6
    return [f"{value:,.{places}f}" if np.isfinite(value) else "-" for value in column.tolist()]


def _is_integral(column: Column) -> bool:
    values = column[np.isfinite(column)]
    return bool((values == np.rint(values)).all())
