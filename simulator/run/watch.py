"""How far the messages of a run are, and whether they will get any further."""

import time
from collections.abc import Collection, Sequence

from celery import Celery

from simulator.retry import patiently
from simulator.run.progress import Standing
from simulator.setup.record import Loaded
from simulator.stack.broker import Broker
from tracker.errors import SendtraceError, UsageError
from tracker.queries.report import Report, make_reports
from tracker.record import due
from tracker.record.catalog import Campaign
from tracker.record.due import Expected
from tracker.store.database import Database

STANDSTILL = 20.0
"""Seconds without any progress, after which the broker is asked for tasks and for workers."""


class Standstill(SendtraceError):
    """Messages are unsettled, and nothing is on its way that would settle them."""


class Watch:
    """Looks how far the messages are, and notices when they stand still."""

    def __init__(
        self,
        database: Database,
        campaigns: Sequence[Campaign],
        broker: Broker,
        app: Celery,
    ) -> None:
        self._database = database
        self._campaigns = campaigns
        self._broker = broker
        self._app = app
        self._awaited: Collection[Expected] = frozenset(Expected)
        self.reports: list[Report] = []
        self._standing = Standing(0, 0, 0, 0)
        self._moved = self._busy = time.monotonic()
        self._silent = False
        self._by_campaign: dict[str, Standing] = {}
        self.snapshots = 0
        self.unbalanced: list[Report] = []
        """Reports that did not add up, of all that were looked at."""

    def await_receipts_only(self) -> None:
        """From now on, wait for what becomes of messages, and not for what recipients do."""
        self._awaited = frozenset({Expected.RECEIPTS})

    def is_settled(self, loaded: Loaded) -> bool:
        """Whether a campaign whose messages are all recorded was settled at the last look."""
        standing = self._by_campaign.get(loaded.campaign.name)
        return standing is not None and standing.is_over(loaded.size)

    def look(self, now: float) -> Standing:
        """How far the messages are; :exc:`Standstill` if they will not get any further."""
        standing = patiently(self._look)
        if standing != self._standing:
            self._standing, self._moved, self._busy, self._silent = standing, now, now, False
        elif not standing.in_work and not standing.expecting:
            self._moved = self._busy = now  # nothing is to move: more messages have yet to arrive
        elif patiently(self._broker.waiting_tasks):
            self._busy = now
            if now - self._moved > STANDSTILL:
                self._moved = now
                self._check_workers()
        elif now - self._busy > STANDSTILL:
            raise Standstill(self._stand_still("nothing has moved and no task is at the broker"))
        return standing

    def _look(self) -> Standing:
        with self._database.read() as connection:
            reports = make_reports(connection, self._campaigns)
            self.reports = reports
            expecting = due.expecting(
                connection, [each.id for each in self._campaigns], self._awaited
            )
        self.snapshots += 1
        self.unbalanced += [report for report in reports if not report.balanced]
        self._by_campaign = {
            report.campaign.name: Standing.of([report], expecting[report.campaign.id])
            for report in reports
        }
        return Standing.of(reports, expecting.total())

    def _check_workers(self) -> None:
        """Find out whether anybody is there to work on what waits; once is no proof."""
        try:
            self._broker.check_workers(self._app)
        except UsageError as error:
            if self._silent:
                raise Standstill(
                    self._stand_still(f"nothing has moved, though tasks wait; {error}")
                ) from None
            self._silent = True
        else:
            self._silent = False

    def _stand_still(self, why: str) -> str:
        left = self._standing.recorded - self._standing.settled
        return f"{left:,} messages stand still: for {STANDSTILL:.0f} s {why}"
