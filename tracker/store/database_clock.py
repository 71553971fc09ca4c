"""The database's own clock, as SQL: the same for all computers that use the database."""

from typing import Any

from sqlalchemy import BigInteger, Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from tracker.clock import Instant

SQLITE_TRANSACTION_START = "sendtrace_transaction_start"
"""The function that `tracker.store.sqlite` adds to each of its connections."""

REACHABLE_SINCE = "reachable_since"
"""The execution option with the result of `reachable_since`."""


class transaction_start(FunctionElement[int]):  # noqa: N801  # named as SQL names functions
    """The start of the current transaction, in microseconds since 1970 UTC.

    Everything that a long transaction reads is as of its start, not as of now.
    """

    type = BigInteger()
    inherit_cache = True


class server_start(FunctionElement[int]):  # noqa: N801  # named as SQL names functions
    """The instant before which the database couldn't be reached: the start of its server.

    It is 0 for SQLite, which has no server.
    """

    type = BigInteger()
    inherit_cache = True


def reachable_since(connection: Connection) -> Instant:
    """Return the instant before which this process couldn't reach the database; 0 if it could.

    See `Database.set_reachable_since`. An outage before the start of the process is unknown.
    """
    instant: Instant = connection.get_execution_options().get(REACHABLE_SINCE, 0)
    return instant


@compiles(transaction_start, "postgresql")
def _transaction_start_postgresql(_element: Any, _compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM now()) * 1000000 AS BIGINT)"


@compiles(transaction_start, "sqlite")
def _transaction_start_sqlite(_element: Any, _compiler: Any, **_: Any) -> str:
    return f"{SQLITE_TRANSACTION_START}()"


@compiles(server_start, "postgresql")
def _server_start_postgresql(_element: Any, _compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS BIGINT)"


@compiles(server_start, "sqlite")
def _server_start_sqlite(_element: Any, _compiler: Any, **_: Any) -> str:
    return "0"
