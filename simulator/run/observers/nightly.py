"""Nightly rollups of a run: each 1 am of the run's clock, as Celery's beat does in real time."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import partial

from celery import Celery

from simulator.retry import Outages
from simulator.run.observers.base import RunObserver, RunSnapshot
from simulator.setup.run import Run
from tracker.clock import Instant, from_datetime, to_datetime
from tracker.queries.report import Report
from tracker.status import Channel, Engagement
from workers.queues import ROLLUP_TASK, UPKEEP_QUEUE

ROLLUP_TIME = time(1)


def next_one_am(now: Instant, zone: tzinfo) -> Instant:
    """Return the first 1 am after `now` in a time zone."""
    today = to_datetime(now).astimezone(zone).date()
    candidates = (
        from_datetime(
            datetime.combine(today + timedelta(days=days), ROLLUP_TIME, zone).astimezone(UTC)
        )
        for days in range(3)
    )
    return next(candidate for candidate in candidates if candidate > now)


class NightlyRollups(RunObserver):
    """An observer that enqueues a rollup of the run's email campaigns at each 1 am of its clock.

    It logs the counts of each rollup. One rollup makes up for those missed in a pause of the run.
    """

    def __init__(
        self,
        app: Celery,
        outages: Outages,
        run: Run,
        zone: tzinfo,
        log: Callable[[str], None],
    ) -> None:
        self._app = app
        self._outages = outages
        self._zone = zone
        self._log = log
        self._campaign_ids = [
            run_campaign.campaign.id
            for run_campaign in run.campaigns
            if run_campaign.campaign.channel is Channel.EMAIL
        ]
        self._clock = run.clock
        resumption = run.resumption
        rolled_up_until = self._clock.now() if resumption is None else resumption.stopped_at
        self._next_rollup_at = next_one_am(rolled_up_until, zone)
        self._awaited_rollup_at: Instant | None = None

    def ticked(self, snapshot: RunSnapshot) -> None:
        """Enqueue a rollup that is due, and log the counts of one that is done."""
        if not self._campaign_ids:
            return
        now = self._clock.now()
        if now >= self._next_rollup_at:
            arguments = {"campaigns": self._campaign_ids}
            self._outages.retry(
                partial(self._app.send_task, ROLLUP_TASK, kwargs=arguments, queue=UPKEEP_QUEUE)
            )
            self._awaited_rollup_at = self._next_rollup_at
            self._next_rollup_at = next_one_am(now, self._zone)
        if self._awaited_rollup_at is not None:
            emails = [
                report for report in snapshot.reports if report.campaign.id in self._campaign_ids
            ]
            if _is_rolled_up(emails, self._awaited_rollup_at):
                self._log_counts(emails, self._awaited_rollup_at)
                self._awaited_rollup_at = None

    def _log_counts(self, reports: Sequence[Report], rolled_up_at: Instant) -> None:
        counts = "; ".join(
            f"{report.campaign.name} {report.engagement[Engagement.OPENED]:,} opened,"
            f" {report.engagement[Engagement.CLICKED]:,} clicked"
            for report in reports
        )
        night = to_datetime(rolled_up_at).astimezone(self._zone)
        self._log(f"rolled up at {night:%-d %b %H:%M}: {counts}")


def _is_rolled_up(reports: Sequence[Report], at: Instant) -> bool:
    return all((report.engagement_as_of or 0) >= at for report in reports)
