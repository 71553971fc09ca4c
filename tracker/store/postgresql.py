"""PostgreSQL: session options, and arrays of whole numbers in its binary form."""

from collections.abc import Sequence

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray

POSTGRESQL_OPTIONS = "-c enable_seqscan=off -c jit=off"
"""PostgreSQL's settings for our sessions; those in the URL come after them, and win."""


def bigint_array(numbers: Sequence[int]) -> sa.ColumnElement[Sequence[int]]:
    # Small already here: SQLAlchemy's expressions are cycles, and wait for the garbage collector.
    return sa.literal(np.asarray(numbers, np.int64), BigintArray())


class BigintArray(sa.types.UserDefinedType[Sequence[int]]):
    """``bigint[]`` of PostgreSQL's, handed over as :class:`BigintArrayDumper` does."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "BIGINT[]"


class BigintArrayDumper(psycopg.adapt.Dumper):
    """An array in PostgreSQL's binary form, made at one go: see ``array_recv`` in its source.

    The driver's own way looks at each element; this is what a batch's lists cost most otherwise.
    """

    format = psycopg.pq.Format.BINARY
    oid = psycopg.adapters.types["int8"].array_oid

    _ELEMENT = np.dtype([("length", ">i4"), ("value", ">i8")])

    def dump(self, obj: NDArray[np.int64]) -> bytes:
        dimensions, has_nulls, lower_bound = 1, 0, 1
        element_oid = psycopg.adapters.types["int8"].oid
        header = np.array([dimensions, has_nulls, element_oid, len(obj), lower_bound], ">i4")
        elements = np.empty(len(obj), self._ELEMENT)
        elements["length"] = obj.itemsize
        elements["value"] = obj
        return header.tobytes() + elements.tobytes()
