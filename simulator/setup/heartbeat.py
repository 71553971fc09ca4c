"""The heartbeat of a run: its driver says every few seconds that it is alive."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from simulator.background import run_in_background
from simulator.retry import DRIVER_TRANSIENT_ERRORS
from tracker.record.registration import record_heartbeat
from tracker.store.database import Database

HEARTBEAT_INTERVAL_SECONDS = 3.0
"""Real time between two heartbeats: ten may fail before the run counts as abandoned."""


@contextmanager
def keep_alive(database: Database, run_id: int) -> Iterator[None]:
    """Record heartbeats of a run for the duration of the block."""

    def beat_until(stop: threading.Event) -> None:
        while True:
            try:
                with database.write() as connection:
                    record_heartbeat(connection, run_id)
            except DRIVER_TRANSIENT_ERRORS:
                pass  # the next heartbeat makes the run running again
            if stop.wait(HEARTBEAT_INTERVAL_SECONDS):
                return

    with run_in_background(beat_until, "heartbeat"):
        yield
