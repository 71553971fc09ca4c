"""Check a part in the background, with a time limit: a part that hangs blocks nobody."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Generic, TypeVar

T = TypeVar("T")

STOP_TIMEOUT_SECONDS = 5.0
"""Seconds to wait at the end for a check that still runs."""


@dataclass(frozen=True, kw_only=True)
class Finding(Generic[T]):
    """The result of the latest checks of a part.

    Attributes:
        value: the result of the last check that succeeded, None before the first.
        value_at: the time of that check.
        error: why the latest check failed, None if it succeeded or none has ended.
        failing_since: the time of the first failure in a row, None without one.
    """

    value: T | None = None
    value_at: datetime | None = None
    error: str | None = None
    failing_since: datetime | None = None


class Probe(Generic[T]):
    """A check that a thread of its own repeats.

    Args:
        check: returns what it has found, and raises any error if the part doesn't work.
        describe_error: returns an error as one line.
        interval: seconds from the end of a check to the next one.
        limit: seconds after which a check that hasn't ended counts as failed.
    """

    def __init__(
        self,
        name: str,
        check: Callable[[], T],
        describe_error: Callable[[Exception], str],
        *,
        interval: float,
        limit: float,
    ) -> None:
        self._check, self._describe_error = check, describe_error
        self._interval, self._limit = interval, limit
        self._finding: Finding[T] = Finding()
        self._check_started: tuple[float, datetime] | None = None
        self._lock = threading.Lock()
        self._first_ended = threading.Event()
        self._stop_requested = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"probe-{name}", daemon=True)

    def start(self) -> None:
        """Begin to check."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, unless its check hangs."""
        self._stop_requested.set()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_SECONDS)

    def wait_for_first(self) -> None:
        """Wait until the first check has ended, or is late."""
        self._first_ended.wait(self._limit)

    @property
    def finding(self) -> Finding[T]:
        """The latest finding; a check that is late is a failure."""
        with self._lock:
            finding, started = self._finding, self._check_started
        if started is None:
            return finding
        seconds = time.monotonic() - started[0]
        if seconds < self._limit:
            return finding
        since = finding.failing_since or started[1]
        return replace(finding, error=f"no answer for {seconds:.0f} s", failing_since=since)

    def _run(self) -> None:
        while not self._stop_requested.is_set():
            with self._lock:
                self._check_started = (time.monotonic(), datetime.now(UTC))
            finding = self._run_check()
            with self._lock:
                self._finding, self._check_started = finding, None
            self._first_ended.set()
            self._stop_requested.wait(self._interval)

    def _run_check(self) -> Finding[T]:
        try:
            value = self._check()
        except Exception as error:  # clients raise errors of several libraries
            before = self._finding
            return replace(
                before,
                error=self._describe_error(error),
                failing_since=before.failing_since or datetime.now(UTC),
            )
        return Finding(value=value, value_at=datetime.now(UTC))
