"""Watches beside a drill, each in a thread: when harm is noticed, and when it is over."""

import threading
import time
from collections.abc import Callable

from drills.stack import POLL_SECONDS

STABLE_SECONDS = 4.0
"""Time for which a stack must be healthy to count as healthy from the first moment of it."""


class NoticeWatch:
    """A watch that notes when the stack first says that something is wrong.

    Attributes:
        noticed_after: seconds from the watch's start; None while it said nothing.
    """

    def __init__(self, is_noticed: Callable[[], bool]) -> None:
        self.noticed_after: float | None = None
        self._is_noticed = is_noticed
        self._started_at = time.monotonic()
        self._stop_requested = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notice", daemon=True)
        self._thread.start()

    @property
    def has_noticed(self) -> bool:
        """True once the stack said that something is wrong."""
        return self.noticed_after is not None

    def stop(self) -> None:
        """End the thread."""
        self._stop_requested.set()
        self._thread.join()

    def _run(self) -> None:
        while self.noticed_after is None and not self._stop_requested.wait(POLL_SECONDS):
            if self._is_noticed():
                self.noticed_after = round(time.monotonic() - self._started_at, 1)


class RecoveryWatch:
    """A watch that measures how long it takes until a condition holds stably.

    Args:
        started_at: monotonic time from which it counts, in seconds.
        limit: seconds after which it gives up.
    """

    def __init__(self, is_healthy: Callable[[], bool], started_at: float, limit: float) -> None:
        self._is_healthy, self._started_at, self._limit = is_healthy, started_at, limit
        self._healthy_after: float | None = None
        self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """True once the condition holds stably, or the limit has passed."""
        return not self._thread.is_alive()

    def wait(self) -> float | None:
        """Return the seconds until the condition held; None if it didn't within the limit."""
        self._thread.join()
        return self._healthy_after

    def _run(self) -> None:
        held_since: float | None = None
        while (now := time.monotonic()) - self._started_at < self._limit:
            if not self._is_healthy():
                held_since = None
            elif held_since is None:
                held_since = now
            if held_since is not None and time.monotonic() - held_since > STABLE_SECONDS:
                self._healthy_after = round(held_since - self._started_at, 1)
                return
            time.sleep(POLL_SECONDS)
