"""Watch a run: read how far its messages are, and detect that they will get no further."""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from celery import Celery

from simulator.retry import Outages
from simulator.run.observers.base import RunProgress
from simulator.setup.run import RunCampaign
from simulator.stack.broker import Broker
from tracker.campaign_states import CampaignState
from tracker.errors import SendtraceError, UsageError
from tracker.queries.report import Report, make_reports
from tracker.queries.stalled import find_idle_batches
from tracker.record.catalog import Campaign, load_campaigns
from tracker.record.due import DueKind, count_waiting_batches
from tracker.store.database import Database
from tracker.text import pluralize

STALLED_AFTER_SECONDS = 20.0
"""Seconds without progress after which the broker must have tasks, and the workers reply."""

MAX_CHECK_INTERVAL_SECONDS = 5.0
"""Seconds between two checks that count at most, however long the time between them was.

The checks are half a second apart, or less. A longer time means that the machine was suspended, or
that a database or broker was unavailable, and workers had no chance to make progress.
"""


class RunStalled(SendtraceError):
    """Messages are unsettled, and no task or no worker is left that would move them."""


class ProgressWatch:
    """A reader of the progress of a run's campaigns.

    Attributes:
        reports: the reports at the last check.
        snapshot_count: checks so far.
        unbalanced_reports: reports that did not add up, of all checks.
    """

    def __init__(
        self,
        database: Database,
        campaigns: Sequence[Campaign],
        broker: Broker,
        app: Celery,
        outages: Outages,
    ) -> None:
        self._database = database
        self._campaigns = campaigns
        self._broker = broker
        self._app = app
        self._outages = outages
        self._awaited_kinds: Collection[DueKind] = frozenset(DueKind)
        self._is_awaiting_all = True
        self._progress = RunProgress(0, 0, 0, 0)
        self._progress_by_campaign: dict[str, RunProgress] = {}
        self._states: dict[str, CampaignState] = {}
        self._read_at = time.monotonic()
        self._unmoved_seconds = self._idle_seconds = 0.0
        self._is_missing_workers = False
        self.reports: list[Report] = []
        self.snapshot_count = 0
        self.unbalanced_reports: list[Report] = []

    def await_messages_in_progress(self) -> None:
        """From now on, wait for messages on their way only.

        Engagement events, deferred messages and those of paused campaigns aren't awaited.
        """
        self._awaited_kinds = frozenset({DueKind.RECEIPTS})
        self._is_awaiting_all = False

    def is_settled(self, run_campaign: RunCampaign) -> bool:
        """Return whether all messages of a campaign had settled at the last check."""
        progress = self._progress_by_campaign.get(run_campaign.campaign.name)
        return progress is not None and progress.is_complete(run_campaign.size)

    def is_paused(self, run_campaign: RunCampaign) -> bool:
        """Return whether a campaign was paused at the last check."""
        return self._states.get(run_campaign.campaign.name) is CampaignState.PAUSED

    def is_cancelled(self, run_campaign: RunCampaign) -> bool:
        """Return whether a campaign was cancelled at the last check."""
        return self._states.get(run_campaign.campaign.name) is CampaignState.CANCELLED

    def check_progress(self, now: float) -> RunProgress:
        """Read the progress.

        Args:
            now: seconds of the monotonic clock.

        Raises:
            RunStalled: no message has moved for a while, and none will.
        """
        progress = self._outages.retry(self._read_progress)
        interval = min(now - self._read_at, MAX_CHECK_INTERVAL_SECONDS)
        self._read_at = now
        self._unmoved_seconds += interval
        self._idle_seconds += interval
        if progress != self._progress:
            self._progress = progress
            self._unmoved_seconds = self._idle_seconds = 0.0
            self._is_missing_workers = False
        elif not progress.pending_messages and not progress.awaiting_batches:
            self._unmoved_seconds = self._idle_seconds = 0.0  # the next messages have yet to arrive
        elif self._outages.retry(self._broker.count_waiting_tasks):
            self._idle_seconds = 0.0
            if self._unmoved_seconds > STALLED_AFTER_SECONDS:
                self._unmoved_seconds = 0.0
                self._check_workers()
        elif not self._outages.retry(self._has_due_batch):
            # The sweep wakes a batch that waits for long.
            self._unmoved_seconds = self._idle_seconds = 0.0
        elif self._idle_seconds > STALLED_AFTER_SECONDS:
            raise self._make_stalled_error("the broker holds no task")
        return progress

    def _read_progress(self) -> RunProgress:
        ids = [campaign.id for campaign in self._campaigns]
        with self._database.read() as connection:
            self.reports = make_reports(connection, self._campaigns)
            awaiting_batches = count_waiting_batches(connection, ids, self._awaited_kinds)
        self.snapshot_count += 1
        self.unbalanced_reports += [report for report in self.reports if not report.is_balanced]
        self._states = {report.campaign.name: report.state for report in self.reports}
        self._progress_by_campaign = {
            report.campaign.name: self._make_progress(
                [report], awaiting_batches[report.campaign.id]
            )
            for report in self.reports
        }
        return self._make_progress(self.reports, awaiting_batches.total())

    def _make_progress(self, reports: Sequence[Report], awaiting_batches: int) -> RunProgress:
        progress = RunProgress.from_reports(reports, awaiting_batches)
        if self._is_awaiting_all:
            return progress
        held = sum(report.held for report in reports)
        return replace(progress, pending_messages=progress.pending_messages - held)

    def _has_due_batch(self) -> bool:
        """Return whether a batch needs a step now, rather than at a later time."""
        with self._database.read() as connection:
            campaigns = load_campaigns(connection, [campaign.id for campaign in self._campaigns])
            return bool(find_idle_batches(connection, campaigns, timedelta()))

    def _check_workers(self) -> None:
        """Raise RunStalled if workers are missing for the second time in a row."""
        try:
            self._broker.check_workers(self._app)
        except UsageError as error:
            if self._is_missing_workers:
                raise self._make_stalled_error(f"tasks wait; {error}") from None
            self._is_missing_workers = True
        else:
            self._is_missing_workers = False

    def _make_stalled_error(self, cause: str) -> RunStalled:
        unsettled = pluralize(self._progress.recorded - self._progress.settled, "message")
        return RunStalled(f"{unsettled} stalled for {STALLED_AFTER_SECONDS:.0f} s: {cause}")
