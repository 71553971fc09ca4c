"""The heartbeat of a run: its driver says every few seconds that it is alive, and may go on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from simulator.background import run_in_background
from simulator.retry import DRIVER_TRANSIENT_ERRORS
from tracker.errors import SchemaMismatch, SendtraceError
from tracker.record.registration import RunSuperseded, record_heartbeat
from tracker.store.applied_migrations import SchemaWatch
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
        self._end: SendtraceError | None = None

    def beat_until(self, stop: threading.Event) -> None:
        """Record heartbeats until the event is set, or the driver may not go on."""
        watch = None
        while self._end is None:
            try:
                watch = watch or SchemaWatch(self._database)
                with self._database.write() as connection:
                    watch.check(connection)
                    is_own = record_heartbeat(connection, self._run_id, self._resumes)
                if not is_own:
                    self._end = RunSuperseded()
            except SchemaMismatch as error:
                self._end = error
            except DRIVER_TRANSIENT_ERRORS:
                pass  # the next heartbeat makes the run running again
            if stop.wait(HEARTBEAT_INTERVAL_SECONDS):
                return

    def require_ownership(self) -> None:
        """Raise what a heartbeat has found to end this driver.

        Raises:
            RunSuperseded: another driver has resumed the run.
            SchemaMismatch: an incompatible migration was applied.
        """
        if self._end is not None:
            raise self._end


@contextmanager
def keep_alive(database: Database, run_id: int, resumes: int) -> Iterator[Heartbeat]:
    """Record heartbeats of a run for the duration of the block."""
    heartbeat = Heartbeat(database, run_id, resumes)
    with run_in_background(heartbeat.beat_until, "heartbeat"):
        yield heartbeat
