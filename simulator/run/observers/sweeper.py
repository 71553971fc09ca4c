"""The sweep of a run: the driver re-queues stalled batches, as Celery's beat does for a stack."""

import threading
from collections.abc import Callable, Sequence

from celery import Celery

from simulator.retry import DRIVER_TRANSIENT_ERRORS
from simulator.stack.broker import Broker
from tracker.store.database import Database
from workers.queues import SWEEP_INTERVAL_SECONDS


class Sweeper:
    """A sweep that re-queues the stalled batches of some campaigns.

    Attributes:
        requeued_count: batches that were re-queued so far; one counts each time.
    """

    def __init__(
        self,
        database: Database,
        app: Celery,
        broker: Broker,
        campaign_ids: Sequence[int],
        log: Callable[[str], None],
    ) -> None:
        self._database, self._app, self._broker = database, app, broker
        self._campaign_ids = campaign_ids
        self._log = log
        self.requeued_count = 0

    def run_until(self, stop: threading.Event) -> None:
        """Sweep periodically until the event is set."""
        while not stop.wait(SWEEP_INTERVAL_SECONDS):
            try:
                self.sweep()
            except DRIVER_TRANSIENT_ERRORS:
                continue  # the next sweep finds the same batches
            except Exception as error:  # kombu raises errors of its own while the broker restarts
                self._log(f"sweep failed, retrying: error={error!r}")

    def sweep(self) -> None:
        """Re-queue the batches that are stalled now."""
        requeued = self._broker.sweep(self._database, self._app, self._campaign_ids)
        if requeued:
            self.requeued_count += len(requeued)
            self._log(f"re-queued stalled batches: batches={len(requeued)}")
