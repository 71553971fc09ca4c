"""The sweep of a run: the driver does what Celery's beat does where there is one."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from celery import Celery

from simulator.background import run_in_background
from simulator.retry import TRANSIENT_ERRORS
from simulator.stack.broker import Broker
from tracker.store.database import Database
from tracker.text import pluralize
from workers.queues import SWEEP_INTERVAL_SECONDS


class Sweeper:
    """Sends on what stands still of some campaigns, in a thread of its own."""

    def __init__(
        self,
        database: Database,
        app: Celery,
        broker: Broker,
        campaign_ids: Sequence[int],
        say: Callable[[str], None],
    ) -> None:
        self._database, self._app, self._broker = database, app, broker
        self._campaign_ids = campaign_ids
        self._log = say
        self.requeued_count = 0
        """Batches that were sent on so far, each time one was."""

    def running(self) -> AbstractContextManager[None]:
        """A block in which nothing is left standing."""
        return run_in_background(self._sweep_periodically, "sweeper")

    def _sweep_periodically(self, stop: threading.Event) -> None:
        while not stop.wait(SWEEP_INTERVAL_SECONDS):
            try:
                requeued_count = self._broker.sweep(self._database, self._app, self._campaign_ids)
            except TRANSIENT_ERRORS:
                continue  # what is away comes back, and so does the sweep
            except Exception as error:  # such as kombu's own, while the broker goes away
                self._log(f"the sweep failed, and is done again: {error!r}")
                continue
            if requeued_count:
                self.requeued_count += len(requeued_count)
                self._log(f"{pluralize(len(requeued_count), 'batch')} stood still: sent on again")
