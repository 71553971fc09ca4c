"""The sweep of a run: the driver does what Celery's beat does where there is one."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from celery import Celery

from simulator.background import beside
from simulator.retry import PASSING
from simulator.stack.broker import Broker
from tracker.store.database import Database
from tracker.text import counted
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
        self._say = say
        self.sent_on = 0
        """Batches that were sent on so far, each time one was."""

    def running(self) -> AbstractContextManager[None]:
        """A block in which nothing is left standing."""
        return beside(self._sweep_periodically, "sweeper")

    def _sweep_periodically(self, stop: threading.Event) -> None:
        while not stop.wait(SWEEP_INTERVAL_SECONDS):
            try:
                sent_on = self._broker.sweep(self._database, self._app, self._campaign_ids)
            except PASSING:
                continue  # what is away comes back, and so does the sweep
            except Exception as error:  # such as kombu's own, while the broker goes away
                self._say(f"the sweep failed, and is done again: {error!r}")
                continue
            if sent_on:
                self.sent_on += len(sent_on)
                self._say(f"{counted(len(sent_on), 'batch')} stood still: sent on again")
