"""Retry of transient errors: a database or broker that is unavailable for some seconds."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError

from workers.transient import TRANSIENT_ERRORS

T = TypeVar("T")

DRIVER_TRANSIENT_ERRORS = (*TRANSIENT_ERRORS, InterfaceError, ConnectionError)
"""The transient errors of the workers, and those of a connection that was lost."""

RETRY_LIMIT_SECONDS = 60.0
"""Seconds after the first error in which the work may succeed."""

RETRY_PAUSE_SECONDS = 0.5


def retry_transient(work: Callable[[], T]) -> T:
    """Call a function until it raises no transient error; return its result.

    The first error is reported on stderr. The last one is raised after RETRY_LIMIT_SECONDS.
    """
    deadline = None
    while True:
        try:
            return work()
        except DRIVER_TRANSIENT_ERRORS as error:
            if deadline is None:
                deadline = time.monotonic() + RETRY_LIMIT_SECONDS
                service = "broker" if isinstance(error, BrokerError | RedisError) else "database"
                print(f"{service} unavailable, retrying", file=sys.stderr, flush=True)
            elif time.monotonic() > deadline:
                raise
            time.sleep(RETRY_PAUSE_SECONDS)
