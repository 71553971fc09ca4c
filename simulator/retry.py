"""Patience with what passes: a database or a broker that is away for a few seconds."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError, OperationalError

T = TypeVar("T")

TRANSIENT_ERRORS = (OperationalError, InterfaceError, BrokerError, RedisError, ConnectionError)
"""Troubles that pass. A worker repeats its tasks after the same."""

RETRY_LIMIT_SECONDS = 60.0
"""Seconds after which a trouble has not passed."""

RETRY_PAUSE_SECONDS = 0.5
"""Seconds between two tries."""


def retry_transient(work: Callable[[], T]) -> T:
    """What ``work`` returns, which is repeated as long as only what passes is in its way.

    Says once, on stderr, that it waits. Raises what is still in the way after :data:`RETRY_LIMIT_SECONDS`.
    """
    deadline = None
    while True:
        try:
            return work()
        except TRANSIENT_ERRORS as error:
            if deadline is None:
                deadline = time.monotonic() + RETRY_LIMIT_SECONDS
                what = "broker" if isinstance(error, BrokerError | RedisError) else "database"
                print(f"the {what} does not answer; waiting for it", file=sys.stderr, flush=True)
            elif time.monotonic() > deadline:
                raise
            time.sleep(RETRY_PAUSE_SECONDS)
