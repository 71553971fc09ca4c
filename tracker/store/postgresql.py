"""PostgreSQL: session options, and arrays of whole numbers in its binary form."""

from collections.abc import Sequence

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import URL, Engine

POSTGRESQL_OPTIONS = "-c enable_seqscan=off -c jit=off"
"""PostgreSQL's settings for our sessions; those in the URL come after them, and win."""


CONNECT_TIMEOUT_SECONDS = 5
"""Seconds to wait for a database server before calling it unreachable."""


def create_postgresql_engine(url: URL) -> Engine:
    """Return an engine, not yet connected, whose sessions have our options."""
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "sendtrace",
            # A plan that was prepared while a table was nearly empty reads all of it, and would go
            # on doing so when it has grown. Planning anew costs little a batch, and whoever means
            # whole tables says so: see `Database.read_only_analytics`.
            "prepare_threshold": None,
            "options": f"{POSTGRESQL_OPTIONS} {_join_url_option(url.query.get('options', ''))}".strip(),
        },
    )

    @sa.event.listens_for(engine, "connect")
    def register_dumper(connection: psycopg.Connection, _record: object) -> None:
        connection.adapters.register_dumper(np.ndarray, BigintArrayDumper)

    return engine


def _join_url_option(option: str | Sequence[str]) -> str:
    """Return an option of a URL, which may be given several times."""
    return option if isinstance(option, str) else " ".join(option)


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
