"""The heartbeat of a run: its driver says every few seconds that it is alive."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from simulator.background import run_in_background
from simulator.retry import DRIVER_TRANSIENT_ERRORS
from tracker.record.registration import RunSuperseded, record_heartbeat
from tracker.store.database import Database

HEARTBEAT_INTERVAL_SECONDS = 3.0
"""Real time between two heartbeats: ten may fail before the run counts as abandoned."""


class Heartbeat:
    """The heartbeat of one driver of a run.

    Args:
        resumes: how often the run had been resumed when this driver started.
    """

    def __init__(self, database: Database, run_id: int, resumes: int) -> None:
        self._database = database
        self._run_id, self._resumes = run_id, resumes
        self._is_superseded = False

    def beat_until(self, stop: threading.Event) -> None:
        """Record heartbeats until the event is set, or another driver has resumed the run."""
        while not self._is_superseded:
            try:
                with self._database.write() as connection:
                    is_own = record_heartbeat(connection, self._run_id, self._resumes)
                self._is_superseded = not is_own
            except DRIVER_TRANSIENT_ERRORS:
                pass  # the next heartbeat makes the run running again
            if stop.wait(HEARTBEAT_INTERVAL_SECONDS):
                return

    def require_ownership(self) -> None:
        """Raise RunSuperseded if a heartbeat has found that another driver resumed the run."""
        if self._is_superseded:
            raise RunSuperseded


@contextmanager
def keep_alive(database: Database, run_id: int, resumes: int) -> Iterator[Heartbeat]:
    """Record heartbeats of a run for the duration of the block."""
    heartbeat = Heartbeat(database, run_id, resumes)
    with run_in_background(heartbeat.beat_until, "heartbeat"):
        yield heartbeat
