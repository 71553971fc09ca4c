"""Retry of transient errors: outages of the database or the broker, and how long they may last."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol, TypeVar

from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError

from simulator.progress_lines import format_seconds
from tracker.errors import SendtraceError
from workers.transient import TRANSIENT_ERRORS

T = TypeVar("T")

DRIVER_TRANSIENT_ERRORS = (*TRANSIENT_ERRORS, InterfaceError, ConnectionError)
"""The transient errors of the workers, and those of a connection that was lost."""

DEFAULT_OUTAGE_LIMIT = timedelta(minutes=30)

JUDGE_OUTAGE_LIMIT = timedelta(minutes=1)
"""The limit of a command that loses nothing when it ends."""

RETRY_PAUSE_SECONDS = 0.5


class OutageLimitReached(SendtraceError):
    """An outage lasted longer than its limit."""


@dataclass(frozen=True, kw_only=True)
class Outage:
    """An outage that has not ended.

    Attributes:
        service: the service that failed last: "broker" or "database".
        since: seconds of the monotonic clock at the first error.
        limit: how long it may last.
    """

    service: str
    since: float
    limit: timedelta

    @property
    def seconds(self) -> float:
        """Seconds since the first error."""
        return time.monotonic() - self.since

    def __str__(self) -> str:
        limit = format_seconds(self.limit.total_seconds())
        duration = format_seconds(self.seconds)
        return f"{self.service} unavailable for {duration}; the limit is {limit}"


class OutageDisplay(Protocol):
    """A display of outages."""

    def log(self, text: str) -> None:
        """Print a line about the begin or the end of an outage."""

    def show_outage(self, outage: Outage) -> None:
        """Show that an outage continues; called twice a second."""


class _StderrDisplay:
    def log(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def show_outage(self, outage: Outage) -> None:
        pass


class Outages:
    """The outages of the database and the broker that a process waits for.

    Args:
        limit: how long an outage may last.
        reconnect: called after each error of the broker, which may have a new address.

    Attributes:
        ended_count: outages that have ended.
        waited_seconds: seconds of all outages that have ended.
    """

    def __init__(
        self,
        limit: timedelta = DEFAULT_OUTAGE_LIMIT,
        reconnect: Callable[[], object] = lambda: None,
    ) -> None:
        self._limit = limit
        self._reconnect = reconnect
        self._display: OutageDisplay = _StderrDisplay()
        self.ended_count = 0
        self.waited_seconds = 0.0

    @contextmanager
    def shown_on(self, display: OutageDisplay) -> Iterator[None]:
        """Show outages on a display for the duration of the block, instead of stderr."""
        previous, self._display = self._display, display
        try:
            yield
        finally:
            self._display = previous

    def retry(self, work: Callable[[], T]) -> T:
        """Call a function until it raises no transient error; return its result.

        Raises:
            OutageLimitReached: it still fails after the limit; the last error is the cause.
        """
        outage = None
        while True:
            try:
                result = work()
            except DRIVER_TRANSIENT_ERRORS as error:
                outage = self._begin_or_continue(outage, _name_service(error))
                self._wait(outage, error)
            else:
                if outage is not None:
                    self._end(outage)
                return result

    def _begin_or_continue(self, outage: Outage | None, service: str) -> Outage:
        if outage is None:
            self._display.log(f"{service} unavailable, retrying")
            return Outage(service=service, since=time.monotonic(), limit=self._limit)
        return replace(outage, service=service)

    def _wait(self, outage: Outage, error: Exception) -> None:
        if outage.seconds > self._limit.total_seconds():
            limit = format_seconds(self._limit.total_seconds())
            raise OutageLimitReached(
                f"the {outage.service} was unavailable for more than {limit}"
            ) from error
        self._display.show_outage(outage)
        if outage.service == "broker":
            self._reconnect()
        time.sleep(RETRY_PAUSE_SECONDS)

    def _end(self, outage: Outage) -> None:
        seconds = outage.seconds
        self.ended_count += 1
        self.waited_seconds += seconds
        self._display.log(f"{outage.service} available again after {format_seconds(seconds)}")


def _name_service(error: Exception) -> str:
    return "broker" if isinstance(error, BrokerError | RedisError) else "database"
