"""How far the messages of a run are, and whether they will get any further."""

import time
from collections.abc import Collection, Sequence

from celery import Celery

from simulator.retry import retry_transient
from simulator.run.progress import RunProgress
from simulator.setup.record import RunCampaign
from simulator.stack.broker import Broker
from tracker.errors import SendtraceError, UsageError
from tracker.queries.report import Report, make_reports
from tracker.record import due
from tracker.record.catalog import Campaign
from tracker.record.due import DueKind
from tracker.store.database import Database

STALLED_AFTER_SECONDS = 20.0
"""Seconds without any progress, after which the broker is asked for tasks and for workers."""


class RunStalled(SendtraceError):
    """Messages are unsettled, and nothing is on its way that would settle them."""


class ProgressWatch:
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
        self._awaited_kinds: Collection[DueKind] = frozenset(DueKind)
        self.reports: list[Report] = []
        self._progress = RunProgress(0, 0, 0, 0)
        self._moved_at = self._busy_at = time.monotonic()
        self._is_missing_workers = False
        self._progress_by_campaign: dict[str, RunProgress] = {}
        self.snapshot_count = 0
        self.unbalanced_reports: list[Report] = []
        """Reports that did not add up, of all that were looked at."""

    def await_receipts_only(self) -> None:
        """From now on, wait for what becomes of messages, and not for what recipients do."""
        self._awaited_kinds = frozenset({DueKind.RECEIPTS})

    def is_settled(self, loaded: RunCampaign) -> bool:
        """Whether a campaign whose messages are all recorded was settled at the last look."""
        standing = self._progress_by_campaign.get(loaded.campaign.name)
        return standing is not None and standing.is_complete(loaded.size)

    def look(self, now: float) -> RunProgress:
        """How far the messages are; :exc:`RunStalled` if they will not get any further."""
        standing = retry_transient(self._read_progress)
        if standing != self._progress:
            self._progress, self._moved_at, self._busy_at, self._is_missing_workers = (
                standing,
                now,
                now,
                False,
            )
        elif not standing.in_work and not standing.expecting:
            self._moved_at = self._busy_at = (
                now  # nothing is to move: more messages have yet to arrive
            )
        elif retry_transient(self._broker.count_waiting_tasks):
            self._busy_at = now
            if now - self._moved_at > STALLED_AFTER_SECONDS:
                self._moved_at = now
                self._check_workers()
        elif now - self._busy_at > STALLED_AFTER_SECONDS:
            raise RunStalled(self._describe_stall("nothing has moved and no task is at the broker"))
        return standing

    def _read_progress(self) -> RunProgress:
        with self._database.read() as connection:
            reports = make_reports(connection, self._campaigns)
            self.reports = reports
            expecting = due.count_waiting_batches(
                connection, [each.id for each in self._campaigns], self._awaited_kinds
            )
        self.snapshot_count += 1
        self.unbalanced_reports += [report for report in reports if not report.balanced]
        self._progress_by_campaign = {
            report.campaign.name: RunProgress.from_reports([report], expecting[report.campaign.id])
            for report in reports
        }
        return RunProgress.from_reports(reports, expecting.total())

    def _check_workers(self) -> None:
        """Find out whether anybody is there to work on what waits; once is no proof."""
        try:
            self._broker.check_workers(self._app)
        except UsageError as error:
            if self._is_missing_workers:
                raise RunStalled(
                    self._describe_stall(f"nothing has moved, though tasks wait; {error}")
                ) from None
            self._is_missing_workers = True
        else:
            self._is_missing_workers = False

    def _describe_stall(self, why: str) -> str:
        left = self._progress.recorded - self._progress.settled
        return f"{left:,} messages stand still: for {STALLED_AFTER_SECONDS:.0f} s {why}"
