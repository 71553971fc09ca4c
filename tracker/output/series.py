"""Columns of numbers: made short enough for a picture, and as people read them."""

from collections.abc import Mapping
from math import ceil

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]
"""A value for each row; NaN is none."""

Series = Mapping[str, Column]
"""Columns of one length by what they are called."""

MIN_FOR_THREE_DECIMALS = 0.01
"""Below it three decimal places say too little."""


def max_value(series: Series) -> float:
    """The highest value of all; 0 if there is none."""
    return max((float(np.nanmax(of)) for of in series.values() if np.isfinite(of).any()), default=0)


def has_values(series: Series) -> bool:
    """Whether there is any value."""
    return any(np.isfinite(column).any() for column in series.values())


def has_only_integers(series: Series) -> bool:
    """Whether every value is a whole number."""
    return all(_is_integral(column) for column in series.values())


def rows_per_bucket(rows: int, max_rows: int) -> int:
    """How many of so many rows have to go into one, for ``max_rows`` to be left."""
    return max(1, ceil(rows / max_rows))


def downsample(x: Column, series: Series, max_rows: int) -> tuple[Column, dict[str, Column]]:
    """At most so many rows: the highest values of each stretch, so that no peak is lost."""
    starts = np.arange(0, len(x), rows_per_bucket(len(x), max_rows))
    return x[starts], {key: np.fmax.reduceat(of, starts) for key, of in series.items()}


def isolated_points(column: Column) -> Column:
    """The values of which no line can be drawn, as they have no neighbour."""
    known = np.isfinite(np.concatenate([[np.nan], column, [np.nan]]))
    return np.where(known[1:-1] & ~known[:-2] & ~known[2:], column, np.nan)


def format_column(column: Column) -> list[str]:
    """Numbers with as many decimal places as their column needs: none, three, or six for tiny
    ones. A dash is none."""
    known = column[np.isfinite(column)]
    places = 0 if _is_integral(column) else 3 if known.max() >= MIN_FOR_THREE_DECIMALS else 6
    return [f"{value:,.{places}f}" if np.isfinite(value) else "-" for value in column.tolist()]


def _is_integral(column: Column) -> bool:
    known = column[np.isfinite(column)]
    return bool((known == np.rint(known)).all())
