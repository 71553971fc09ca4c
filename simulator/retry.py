"""Patience with what passes: a database or a broker that is away for a few seconds."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError, OperationalError

T = TypeVar("T")

PASSING = (OperationalError, InterfaceError, BrokerError, RedisError, ConnectionError)
"""Troubles that pass. A worker repeats its tasks after the same."""

LIMIT = 60.0
"""Seconds after which a trouble has not passed."""

PAUSE = 0.5
"""Seconds between two tries."""


def retry_transient(work: Callable[[], T]) -> T:
    """What ``work`` returns, which is repeated as long as only what passes is in its way.

    Says once, on stderr, that it waits. Raises what is still in the way after :data:`LIMIT`.
    """
    deadline = None
    while True:
        try:
            return work()
        except PASSING as error:
            if deadline is None:
                deadline = time.monotonic() + LIMIT
                what = "broker" if isinstance(error, BrokerError | RedisError) else "database"
                print(f"the {what} does not answer; waiting for it", file=sys.stderr, flush=True)
            elif time.monotonic() > deadline:
                raise
            time.sleep(PAUSE)
